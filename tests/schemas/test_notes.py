"""Notes: what they hold, how they are stored and read, and that every one of them can be seen in a test."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.catalogue import CATALOGUE, note
from schemas.notes import OLDER, SEVERITIES, Note, as_plain, by_severity, note_lines, read_notes
from schemas.products import Summary
from schemas.reference_pages import notes_page
from schemas.summary_parts import NoteSummary

ROOT = Path(__file__).parents[2]
UNPROVOKED: set[str] = set()
"""Codes that no test provokes, each with its reason."""

NOTES = st.builds(
    Note,
    st.sampled_from(sorted(CATALOGUE)),
    st.sampled_from(SEVERITIES),
    st.text(),
    st.none() | st.integers(0, 9999),
    st.none() | st.floats(0, 100),
    st.none() | st.sampled_from(["tau1", "t_d"]),
)


def constants(folder):
    """Return every string in the Python files below a folder; parts of f-strings and docstrings count too."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path, node.value


def test_a_note_takes_its_severity_and_its_text_from_the_catalogue():
    said = note("quality.noise", run=24, ratio=1.7512)
    assert said == Note("quality.noise", "caution", "run 24: noise is 1.75 times the photon noise", run=24)
    with pytest.raises(KeyError, match=r"quality\.loud"):
        note("quality.loud", run=24)
    with pytest.raises(KeyError, match="ratio"):
        note("quality.noise", run=24)


@given(st.lists(NOTES))
def test_notes_survive_storing_and_the_most_severe_come_first(notes):
    plain = as_plain(notes)
    assert read_notes(plain) == notes
    assert not any(value is None for one in plain for value in one.values())
    for one in plain:
        assert NoteSummary.model_validate(one).model_dump() == one
    ordered = by_severity(notes)
    for severity in SEVERITIES:
        assert [n for n in ordered if n.severity == severity] == [n for n in notes if n.severity == severity]
    ranks = [SEVERITIES.index(n.severity) for n in ordered]
    assert ranks == sorted(ranks, reverse=True)


def test_warnings_of_an_older_product_are_text_and_are_read_as_cautions():
    text = "run 6: noise is 1.70 times the photon noise"
    assert read_notes([text]) == [Note(OLDER, "caution", text)]
    assert note(OLDER, text=text) == Note("product.older_warning", "caution", text)
    fields = {"schema_version": 1, "dataset": "x", "version": "v0001", "created": "then", "product_hash": "0"}
    estimate = {"value": None, "stderr": None, "unit": "1"}
    lists = {n: [] for n in ("kinetics", "alpha", "peaks", "runs")}
    stored = {**fields, **lists, "slope": estimate, "intercept": estimate, "warnings": [text]}
    (read,) = Summary.model_validate(stored).warnings
    assert (read.code, read.text) == (OLDER, text)
    with pytest.raises(ValidationError, match="severity"):
        Summary.model_validate({**stored, "warnings": [{"code": "a.b", "severity": "grave", "text": "x"}]})


def test_every_code_is_well_formed_and_on_the_page():
    page = notes_page()
    for code, entry in CATALOGUE.items():
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", code)
        assert entry.meaning.endswith(".")
        assert f"| `{code}` | {entry.severity} |" in page


def test_the_codes_of_the_catalogue_are_those_that_are_used():
    topics = {code.partition(".")[0] for code in CATALOGUE}
    looks_like_a_code = re.compile(rf"(?:{'|'.join(sorted(topics))})\.[a-z_]+")
    names = {f"{topic}.{end}" for topic in topics for end in ("zarr", "png", "json", "py", "txt")}
    keys = {"peaks.window", "mixture.min_delay", "kinetics.bootstrap", "watch.settle", "watch.fluence"}
    used = {text for _, text in constants("pipeline") if looks_like_a_code.fullmatch(text)} - names - keys
    assert used == set(CATALOGUE) - {OLDER}


def test_every_code_is_provoked_by_a_test():
    here = Path(__file__)
    named = {text for path, text in constants("tests") if path != here or text in ("quality.noise", OLDER)}
    assert set(CATALOGUE) - named == UNPROVOKED


def test_many_notes_of_one_kind_are_one_line_that_says_what_the_others_are_about():
    of_runs = [Note("a.b", "info", f"run {n}: moved", run=n) for n in (3, 4, 7)]
    of_fluences = [Note("c.d", "caution", f"at {f:g}: misfit", fluence=f) for f in (8.0, 16.0, 32.0)]
    apart = [Note("e.f", "fault", text) for text in ("one", "other")]
    assert note_lines([*apart, *of_fluences, *of_runs]) == [
        "FAULT one",
        "FAULT other",
        "CAUTION at 8: misfit (so 2 more: 16, 32 mJ/cm²)",
        "note run 3: moved (so 2 more: run 4, run 7)",
    ]
    older = [Note(OLDER, "caution", text) for text in "xyz"]
    assert note_lines(older) == ["CAUTION x", "CAUTION y", "CAUTION z"]

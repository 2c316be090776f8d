"""The texts of the dashboard as HTML; whatever comes from a product is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import urlencode

import xarray as xr
import yaml

from pipeline.results.lookup import Interval, measured_near
from pipeline.results.summary import CHANCE, NOISY
from pipeline.results.wording import TAU_SYMBOLS, delay_words, ends, percent, plus_minus
from schemas.notes import SEVERITIES, WORDS, Note, read_notes

__all__ = [
    "configuration",
    "empty",
    "failure",
    "fractions",
    "inputs",
    "note",
    "provenance",
    "readout",
    "runs",
    "taus",
    "versions",
    "warning_list",
    "warnings",
]


def _table(head: Iterable[str], rows: Iterable[str]) -> str:
    titles = "".join(f"<th>{title}</th>" for title in head)
    return f"<table><tr>{titles}</tr>{''.join(rows)}</table>"


def _row(*cells: str) -> str:
    """Return cells, which are HTML already, as a row of a table."""
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def note(text: str) -> str:
    """Return a sentence in place of a figure that has no data."""
    return f"<div class='note'>{escape(text)}</div>"


def failure(what: str, error: object) -> str:
    """Return the panel in place of something that cannot be shown."""
    return f"<div class='failure' role='alert'><b>{escape(what)}</b><br>{escape(str(error))}</div>"


def empty(out: str) -> str:
    """Return the page of an output folder that holds no product yet."""
    return (
        f"<div class='empty'><h2>No products yet</h2><p>Nothing has been published in <code>{escape(out)}</code>.</p>"
        f"<p><code>trxas process CONFIG --out {escape(out)}</code></p>"
        "<p>This page shows the first version as soon as it is there.</p></div>"
    )


def warnings(found: Sequence[Note]) -> str:
    """Return the warnings of a version, the most severe first: the first two in sight and all of them on a click."""
    if not found:
        return "<div class='fine'>✓ no warnings</div>"
    counts = {word: sum(n.severity == word for n in found) for word in reversed(SEVERITIES)}
    head = ", ".join(f"{n} {WORDS[word].lower()}{'s' if n > 1 else ''}" for word, n in counts.items() if n)
    first = " · ".join(escape(n.text) for n in found[:2])
    harmless = counts["info"] == len(found)
    opening = "<details class='infos'>" if harmless else "<details class='warnings' role='alert'>"
    sign = "ⓘ" if harmless else "⚠"
    return f"{opening}<summary><b>{sign} {head}</b> {first}</summary>{warning_list(found)}</details>"


def warning_list(found: Sequence[Note]) -> str:
    """Return warnings as a list, each with its severity and, where the pointer rests on it, its code."""
    items = (
        f"<li class='{n.severity}' title='{escape(n.code)}'><b>{WORDS[n.severity]}</b> {escape(n.text)}</li>"
        for n in found
    )
    return f"<ul>{''.join(items)}</ul>"


def readout(spectra: xr.Dataset, fluences: Iterable[float], delay: float | None, energy: float | None) -> str:
    """Return what is picked, and the difference there with its error per fluence."""
    if delay is None or energy is None:
        return "<div class='readout'>no energy scan in this product</div>"
    parts = []
    for fluence in fluences:
        here = measured_near(spectra, fluence, delay)
        if here is None:
            continue
        one = spectra.sel(fluence=fluence, delay=here).sel(energy=energy, method="nearest")
        if int(one["n_pulses"]):
            number = plus_minus(1e3 * float(one["delta_xas"]), 1e3 * float(one["delta_xas_stderr"]))
            parts.append(f"{fluence:g} mJ/cm²: <b>{number} mOD</b>")
    shown = " &nbsp; ".join(parts) or "not measured at these fluences and this delay"
    return f"<div class='readout'>picked <b>{energy:.2f} eV</b>, <b>{delay_words(delay)}</b> &nbsp;→&nbsp; ΔXAS {shown}</div>"


def taus(found: Sequence[Interval], redchi: Mapping[float, float | None]) -> str:
    """Return the table of the times; a time that the data do not determine gets its interval and no value."""
    if not found:
        return note("no kinetic fit in this product")
    rows = []
    for one in found:
        known = one.determined and one.value is not None
        value = f"<b>{plus_minus(one.value, one.stderr)} ps</b>" if known else _bad(one.instead_of_value)
        rows.append(_row(TAU_SYMBOLS[one.name], f"{one.fluence:g}", value, ends(one.ci68), ends(one.ci95)))
    fits = ", ".join(f"{f:g} mJ/cm²: χ²/dof {x:.2f}" for f, x in redchi.items() if x is not None)
    words = "".join(
        f"<li>{one.fluence:g} mJ/cm²: {escape(one.verdict)}</li>" for one in found if not one.determined and one.verdict
    )
    table = _table(("", "mJ/cm²", "value", "68 % (ps)", "95 % (ps)"), rows)
    return f"{table}<p>{fits}</p>" + (f"<ul class='bad'>{words}</ul>" if words else "")


def fractions(summary: Mapping[str, Any]) -> str:
    """Return the excited fractions with standard and model error."""
    rows = []
    for row in summary["alpha"]:
        value, model = row["alpha"]["value"], row.get("model_stderr")
        if value is not None:
            other = "–" if model is None else f"{100 * model:.2g} %"
            rows.append(_row(f"{row['fluence']:g}", f"<b>{percent(row['alpha'])}</b>", other))
    if not rows:
        return note("no mixture fit in this product")
    return _table(("mJ/cm²", "excited fraction α", "model error (other DOS)"), rows)


def runs(summary: Mapping[str, Any], quality: xr.Dataset) -> str:
    """Return the runs with their bookkeeping, quality and what the audit found."""
    head = ("run", "kind", "frames read", "pulses used", "left out", "noise / photon noise", "null χ²", "drift (mOD)")
    rows = []
    for run in summary["runs"]:
        number, read, expected = run["run"], run["frames_read"], run["frames_expected"]
        row = quality.sel(run=number) if number in quality["run"].values else None
        frames = f"{_thousands(read)} of {_thousands(expected)}"
        rows.append(
            _row(
                str(number),
                escape(run["kind"].replace("_", " ")),
                frames if read >= 0.99 * expected else _bad(frames),
                _thousands(run["pulses_used"]),
                "–" if row is None else _dropped(row),
                _flagged(run["noise_ratio"], bad=(run["noise_ratio"] or 0) > NOISY),
                _flagged(run["null_chi2"], bad=row is not None and float(row["null_p"]) < CHANCE),
                "–" if row is None else plus_minus(1e3 * float(row["drift"]), 1e3 * float(row["drift_stderr"])),
            )
        )
        rows += [
            f"<tr class='audit'><td></td><td colspan={len(head) - 1}>⚠ {escape(a)}</td></tr>" for a in run["audit"]
        ]
    return _table(head, rows)


def _bad(text: str) -> str:
    return f"<b class='bad'>{text}</b>"


def _thousands(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _dropped(row: xr.Dataset) -> str:
    counts = {str(n).removeprefix("dropped_"): int(row[n]) for n in row.data_vars if str(n).startswith("dropped_")}
    return ", ".join(f"{n} {escape(reason.replace('_', ' '))}" for reason, n in counts.items() if n) or "none"


def _flagged(value: float | None, *, bad: bool) -> str:
    text = "–" if value is None else f"{value:.2f}"
    return _bad(text) if bad and value is not None else text


def provenance(attrs: Mapping[str, Any], folder: str) -> str:
    """Return where the numbers come from: versions, hashes, environment."""
    known = ("dataset", "created", "schema_version", "code_version", "product_hash", "calibration", "beam_order")
    rows = [("folder", folder), *((n, attrs[n]) for n in known if n in attrs)]
    rows += [(str(n), v) for n, v in dict(attrs.get("environment", {})).items()]
    body = "".join(f"<tr><th>{escape(str(n))}</th><td><code>{escape(str(v))}</code></td></tr>" for n, v in rows)
    return f"<table class='plain'>{body}</table>"


def configuration(attrs: Mapping[str, Any]) -> str:
    """Return the config of a version, as YAML."""
    try:
        text = yaml.safe_dump(json.loads(attrs.get("config", "{}")), sort_keys=False, allow_unicode=True, width=110)
    except (TypeError, ValueError):
        text = str(attrs.get("config"))
    return f"<pre>{escape(text)}</pre>"


def inputs(attrs: Mapping[str, Any]) -> str:
    """Return the raw files with size and hash."""
    rows = [
        _row(
            escape(str(run)),
            escape(str(f.get("name"))),
            f"{int(f.get('size', 0)) / 1e6:,.1f}",
            f"<code>{escape(str(f.get('sha256', ''))[:16])}…</code>",
        )
        for run, files in dict(attrs.get("inputs", {})).items()
        for f in files
    ]
    return _table(("run", "file", "MB", "sha256"), rows)


def versions(found: Mapping[str, Sequence[tuple[str, Any]]], shown: tuple[str, str], theme: str) -> str:
    """Return all versions (name, and summary or the error that it gave) by dataset, each a link that keeps the theme."""
    parts = []
    for dataset, entries in found.items():
        rows = []
        for version, summary in entries:
            link = "?" + urlencode({"dataset": dataset, "version": version, "theme": theme})
            here = " ← shown" if (dataset, version) == shown else ""
            name = f"<a href='{escape(link)}'>{escape(version)}</a>{here}"
            if isinstance(summary, Exception):
                rows.append(f"<tr><td>{name}</td><td colspan=6 class='bad'>{escape(str(summary))}</td></tr>")
            else:
                rows.append(_row(name, *_numbers(summary)))
        head = ("version", "created", "runs", "pulses used", "τ1, τ2, τ3 (ps)", "α", "warnings")
        parts.append(f"<h3>{escape(dataset)}</h3>{_table(head, rows)}")
    return "".join(parts)


def _numbers(summary: Mapping[str, Any]) -> list[str]:
    fits = []
    for fit in summary["kinetics"]:
        if fit["redchi"] is not None:
            p = [fit["parameters"].get(n) for n in TAU_SYMBOLS]
            words = ", ".join("not determined" if not q or not q["identifiable"] else f"{q['value']:.3g}" for q in p)
            fits.append(f"{fit['fluence']:g} mJ/cm²: {words}")
    fractions = [
        f"{a['fluence']:g} mJ/cm²: {100 * a['alpha']['value']:.1f} %"
        for a in summary["alpha"]
        if a["alpha"]["value"] is not None
    ]
    n = sum(one.severity != "info" for one in read_notes(summary["warnings"]))
    return [
        escape(summary["created"][:19].replace("T", " ")),
        str(len(summary["runs"])),
        _thousands(sum(run["pulses_used"] for run in summary["runs"])),
        "<br>".join(fits) or "–",
        "<br>".join(fractions) or "–",
        _bad(str(n)) if n else "0",
    ]

"""Which choices a sweep has, and what its table says of them."""

import csv

import numpy as np
import pytest

from pipeline.choices import parallel_pays
from pipeline.errors import ConfigError
from pipeline.plots.sweep_figure import _places, draw_sweep
from pipeline.results.sweep import assignments_of, choices_of, sweep_table, sweep_text, write_table
from schemas.datasets.swept_numbers import SWEEP
from schemas.reading import override
from tests.synthetic import config, fitted


def test_several_keys_make_every_combination_the_last_running_fastest():
    choices = choices_of(["mixture.min_delay=0.8,2", "kinetics.power=1,2"])
    assert [tuple(one.values()) for one in choices] == [(0.8, 1), (0.8, 2), (2, 1), (2, 2)]
    assert assignments_of(choices[1]) == ["mixture.min_delay=0.8", "kinetics.power=2"]


def test_commas_inside_brackets_braces_and_quotes_belong_to_a_value():
    (key,) = choices_of(["mixture.window=[526.5, 531.0],auto,[527,531]"])[0]
    windows = [one[key] for one in choices_of(["mixture.window=[526.5, 531.0],auto,[527,531]"])]
    assert windows == [[526.5, 531.0], "auto", [527, 531]]
    responses = choices_of(["kinetics.irf_sigma=fit,{value: 0.04, stderr: 0.003}"])
    made = [override(config("seed"), assignments_of(one)).kinetics.irf_sigma for one in responses]
    assert made[0] == "fit"
    assert (made[1].value, made[1].stderr) == (0.04, 0.003)
    assert choices_of(['mixture.dos_ground="a, b.txt"'])[0] == {"mixture.dos_ground": "a, b.txt"}


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        ([], "name what is to be swept"),
        (["kinetics.power"], "expected key=a,b,c"),
        (["kinetics.power=1", "kinetics.power=2"], "named twice"),
        (["dataset=a,b"], "no choice of the analysis"),
        (["kinetics.power=[1"], "no list of YAML values"),
        (["kinetics.power="], "give at least one value behind the equals sign"),
    ],
)
def test_what_is_no_list_of_values_is_refused(assignments, said):
    with pytest.raises(ConfigError, match=said):
        choices_of(assignments)


@pytest.fixture(scope="module")
def table():
    tree = fitted("seed")[0]
    groups = {name: tree[name].to_dataset() for name in ("kinetics", "mixture")}
    unknown = groups | {"kinetics": groups["kinetics"].assign(identifiable=groups["kinetics"]["identifiable"] & False)}
    choices = choices_of(["kinetics.power=1,2,7"])
    return SWEEP.check(sweep_table(choices, [unknown, groups, "power: 1 or 2"], ["", "run 3: no energy", ""]))


def test_the_table_has_the_numbers_of_the_fits_and_why_there_are_none(table):
    tree = fitted("seed")[0]
    times = tree["kinetics"].to_dataset().sel(parameter=["tau1", "tau2", "tau3"])
    np.testing.assert_array_equal(table["tau"].isel(choice=1), times["value"])
    np.testing.assert_array_equal(table["tau_identifiable"].isel(choice=1), times["identifiable"])
    np.testing.assert_array_equal(table["alpha_stderr"].isel(choice=0), tree["mixture/alpha_stderr"])
    assert not table["tau_identifiable"].isel(choice=0).any()
    assert np.isnan(table["alpha"].isel(choice=2)).all()
    assert table["reason"].values.tolist() == ["", "", "power: 1 or 2"]
    text = sweep_text(table).splitlines()
    assert text[0].split()[:3] == ["kinetics.power", "mJ/cm²", "τ₁"]
    # three fluences each; a time that is not known in brackets
    assert [line.split()[:2] for line in text[1:7]] == [[p, f] for p in "12" for f in ("8", "16", "32")]
    assert text[1].count("(") == 3
    assert text[4].count("(") == 3 - int(times["identifiable"].sel(fluence=8.0).sum()) < 3
    assert text[7:] == ["no result: kinetics.power=7: power: 1 or 2", "note: kinetics.power=2: run 3: no energy"]


def test_csv_has_a_row_for_each_choice_and_fluence_the_keys_first(table, tmp_path):
    write_table(table, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert list(rows[0])[:2] == ["kinetics.power", "fluence"]
    assert float(rows[3]["tau1"]) == float(table["tau"][1, 0, 0])
    assert {row["reason"] for row in rows[6:]} == {"power: 1 or 2"}
    # of a sweep that gave nothing
    none = sweep_table(choices_of(["kinetics.power=7,8"]), ["wrong", "too"], ["", ""])
    write_table(none, tmp_path / "none.csv")
    assert len((tmp_path / "none.csv").read_text(encoding="utf-8").splitlines()) == 3
    assert sweep_text(none).splitlines()[1:] == [
        "no result: kinetics.power=7: wrong",
        "no result: kinetics.power=8: too",
    ]


def test_numbers_are_an_axis_and_words_stand_side_by_side(table, tmp_path):
    assert _places(table)[0].tolist() == [1.0, 2.0, 7.0]
    words = table.assign_coords(choice=["auto", "1", "2"])
    places, names = _places(words)
    assert (places.tolist(), names) == ([0.0, 1.0, 2.0], ["auto", "1", "2"])
    for one in (table, words, table.isel(choice=[2])):
        draw_sweep(one, tmp_path / "sweep.png")
        assert (tmp_path / "sweep.png").stat().st_size > 10_000
        (tmp_path / "sweep.png").unlink()


@pytest.mark.parametrize(
    ("n", "seconds", "pays"), [(1, 60.0, False), (2, 2.0, False), (4, 5.0, True), (100, 0.01, False)]
)
def test_processes_are_begun_where_they_are_sooner_done(n, seconds, pays):
    assert parallel_pays(n, seconds, workers=2) is pays

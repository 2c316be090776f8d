"""What a summary warns of: each thing that is wrong, under its code and about the right run, and nothing else."""

import numpy as np
import pytest
import xarray as xr

from pipeline.results.summary import summarise, summary_text
from pipeline.results.wording import REFERENCE_WORDS, delay_words, percent
from schemas.catalogue import note
from schemas.datasets.measured import REFERENCES
from schemas.products import GROUPS, Summary
from tests.synthetic import config, fitted


@pytest.fixture(scope="module")
def usual():
    tree, _ = fitted("seed")
    return tree


def warnings(tree, notes=()):
    return summarise(tree, config("seed"), audits={}, notes=notes)["warnings"]


def changed(usual, group, at=(), **values):
    """Return what is said in addition when variables of a group have other values at a place."""
    tree = usual.copy(deep=True)
    dataset = tree[group].to_dataset().copy(deep=True)
    for name, value in values.items():
        dataset[name].loc[dict(at)] = value
    tree[group] = type(tree)(dataset)
    before = warnings(usual)
    return [w for w in warnings(tree) if w not in before]


QUALITY = {
    "quality.no_pulse_used": ({"pulses_used": 0}, "caution", "run 4: no pulse is used"),
    "quality.null_test": (
        {"null_p": 1e-5, "null_chi2": 3.2},
        "fault",
        "run 4: odd and even trains differ (χ²/dof 3.20)",
    ),
    "quality.null_test_unpumped": ({"null_p_unpumped": 1e-5, "null_chi2_unpumped": 4.5}, "caution", "(χ²/dof 4.50)"),
    "quality.null_test_early": ({"null_p_early": 1e-5, "null_chi2_early": 5.1}, "fault", "(χ²/dof 5.10): its normalis"),
    "quality.runs_disagree": ({"agreement_p": 1e-5, "agreement_chi2": 6.7}, "caution", "(χ²/dof 6.70)"),
    "quality.noise": ({"noise_ratio": 1.51}, "caution", "run 4: noise is 1.51 times the photon noise"),
    "quality.backlash": ({"backlash": -0.1, "backlash_stderr": 0.01}, "caution", "reads -100 ± 10 meV against"),
    "quality.offset": ({"offset": -6e-4, "offset_stderr": 1e-4}, "caution", "and delay by -0.60 ± 0.10 mOD"),
    "quality.normalisation": ({"normalisation": 6e-4, "normalisation_stderr": 1e-4}, "caution", "by 0.60 ± 0.10 mOD"),
    "quality.drift": ({"drift": 6e-4, "drift_stderr": 1e-4}, "caution", "along the burst by 0.60 ± 0.10 mOD"),
    "quality.intensity": (
        {"intensity_change": 6e-4, "intensity_change_stderr": 1e-4},
        "caution",
        "by +0.60 ± 0.10 mOD",
    ),
    "quality.border": ({"border_change": -2e-3, "border_change_stderr": 1e-4}, "caution", "by -2.00 ± 0.10 ‰ of the"),
    "quality.build_up": ({"build_up": -0.3, "build_up_stderr": 0.04}, "caution", "along the burst by -30 ± 4 %"),
}


@pytest.mark.parametrize("code", QUALITY)
def test_a_fault_of_a_run_is_reported_under_its_code(usual, code):
    values, severity, text = QUALITY[code]
    (said,) = changed(usual, "quality", {"run": 4}, **values)
    assert (said["code"], said["severity"], said["run"]) == (code, severity, 4)
    assert said["text"].startswith("run 4: ")
    assert text in said["text"]


@pytest.mark.parametrize(
    "values",
    [
        {"null_p": 2e-4},
        {"noise_ratio": 1.49},
        {"drift": 4e-4, "drift_stderr": 1e-4},
        {"backlash": np.nan, "backlash_stderr": np.nan},
        {"offset": np.nan, "offset_stderr": np.nan},
    ],
)
def test_what_chance_allows_or_nobody_measured_is_not_reported(usual, values):
    assert changed(usual, "quality", {"run": 4}, **values) == []


def test_a_chi_square_that_is_too_large_or_too_small_is_reported(usual):
    dof = float(usual["kinetics/dof"].sel(fluence=8.0))
    (said,) = changed(usual, "kinetics", {"fluence": 8.0}, chi2=2 * dof, redchi=2.0)
    assert (said["code"], said["severity"], said["fluence"]) == ("kinetics.misfit", "fault", 8.0)
    assert said["text"] == "kinetics at 8 mJ/cm²: the model does not describe the data (χ²/dof 2.00)"
    low = 1 - 5.1 * np.sqrt(2 / dof)
    (said,) = changed(usual, "kinetics", {"fluence": 8.0}, chi2=low * dof, redchi=low)
    assert (said["code"], said["severity"], said["fluence"]) == ("kinetics.errors_too_large", "caution", 8.0)
    fine = 1 - 4.9 * np.sqrt(2 / dof)
    assert changed(usual, "kinetics", {"fluence": 8.0}, chi2=fine * dof, redchi=fine) == []


@pytest.mark.parametrize(
    ("delay", "spread", "code"),
    [
        (0.2, 0.08, "peaks.scatter_by_arrival"),
        (0.2, 0.01, "peaks.scatter_near_time_zero"),
        (4.8, 0.08, "peaks.scatter"),
    ],
)
def test_a_spectrum_that_lines_do_not_describe_is_reported_with_the_likely_reason(usual, delay, spread, code):
    tree = usual.copy(deep=True)
    quality = tree["quality"].to_dataset().copy(deep=True)
    quality["run_fluence"].loc[{"run": 4}], quality["run_delay"].loc[{"run": 4}] = 16.0, delay
    quality["delay_spread"].loc[{"run": 4}] = spread
    tree["quality"] = type(tree)(quality)
    at = {"fluence": 16.0, "delay": delay}
    (said,) = changed(tree, "peaks", at, redchi=9.0, stderr_scale=3.0, dof=14.0)
    assert (said["code"], said["fluence"], said["run"]) == (code, 16.0, 4)
    assert said["text"].startswith(f"peaks at 16 mJ/cm², {delay:g} ps (run 4): delta_xas scatters")
    assert "(χ²/dof 9.0); the errors of the peaks are enlarged (3.0 times)" in said["text"]
    assert ("80 fs rms apart" in said["text"]) == (code == "peaks.scatter_by_arrival")
    assert changed(tree, "peaks", at, redchi=1.1, stderr_scale=1.05, dof=14.0) == []


def test_a_constant_under_the_peaks_is_reported_beyond_the_error_of_the_flat_field(usual):
    tree = usual.copy(deep=True)
    at = {"fluence": 16.0, "delay": 4.8}
    everywhere = {"offset": 0.0, "offset_stderr": 1e-4}
    peaks = tree["peaks"].to_dataset()
    tree["peaks"] = type(tree)(peaks.assign({n: peaks[n] * 0 + v for n, v in everywhere.items()}))
    (said,) = changed(tree, "peaks", at, offset=6e-4)
    assert (said["code"], said["severity"], said["fluence"]) == ("peaks.constant", "caution", 16.0)
    # no run of this product was taken there, so none is named
    assert "run" not in said
    assert "several runs: delta_xas at 16 mJ/cm², 4.8 ps stands on a constant of 0.60 ± 0.10 mOD" in said["text"]
    tree["spectra/flat_field_constant_stderr"][()] = 1e-3
    assert changed(tree, "peaks", at, offset=6e-4) == []


def test_the_most_severe_warnings_come_first_and_each_line_says_how_severe_it_is(usual):
    notes = [
        note("beams.order_from_data", roles="reference, pumped, unpumped"),
        note("run.left_out", run=5, reason="it is not complete yet"),
        note("reference.offset_unknown"),
    ]
    found = warnings(usual, notes)
    assert [w["severity"] for w in found] == sorted(
        (w["severity"] for w in found), key=["fault", "caution", "info"].index
    )
    assert [w["code"] for w in found if w["severity"] != "caution"] == ["reference.offset_unknown", notes[0].code]
    assert found[1] == {
        "code": "run.left_out",
        "severity": "caution",
        "text": "run 5 is left out: it is not complete yet",
        "run": 5,
    }
    lines = summary_text({"dataset": "seed", "warnings": found}).splitlines()
    assert (
        "FAULT no flat-field run and no delays before time zero: delta_xas and all fits have an unknown offset" in lines
    )
    assert "CAUTION run 5 is left out: it is not complete yet" in lines
    assert lines[-1] == "note the beams from low to high x are reference, pumped, unpumped, as the data say"


def unknown(usual, size):
    """Return the product as if 8 mJ/cm² had pump-off scans, and the reference did not know some of its differences."""
    tree = usual.copy(deep=True)
    spectra = tree["spectra"].to_dataset()
    name = "delta_xas_stderr_systematic"
    spectra[name] = xr.where(spectra["fluence"] == 8.0, size, 0.0 * spectra[name]).transpose(*spectra[name].dims)
    spectra["reference"] = xr.where(spectra["fluence"] == 8.0, "pump_off_scan", "in_run").broadcast_like(
        spectra["reference"]
    )
    tree["spectra"] = type(tree)(GROUPS["spectra"].describe(spectra))
    quality = tree["quality"].to_dataset()
    quality["pulses_without_pump"].loc[{"run": [4, 5]}] = 11705
    tree["quality"] = type(tree)(quality)
    return tree


def test_the_reference_of_every_fluence_and_scan_is_told_with_its_errors(usual):
    summary = summarise(unknown(usual, 2e-3), config("seed"), audits={}, notes=[])
    eight, sixteen, most, scan, _ = summary["references"]
    assert eight == {
        "fluence": 8.0,
        "energy": None,
        "delays": {"pump_off_scan": 12},
        "without_pump": 0.0,
        "stderr": 4e-4,
        "stderr_systematic": 2e-3,
    }
    # 16 mJ/cm² has two delays only, and half of run 4 is without pump
    assert (sixteen["delays"], sixteen["without_pump"], sixteen["stderr_systematic"]) == ({"in_run": 2}, 0.5, 0.0)
    assert (most["delays"], most["without_pump"]) == ({"in_run": 12}, 0.5)
    assert (scan["energy"], scan["delays"]) == (528.2, {"flat_field": 57})
    lines = summary_text(summary).splitlines()
    at = lines.index("difference against")
    assert lines[at + 1 : at + 4] == [
        "  pump-off scans, ± 2 mOD that it cannot know: 8 mJ/cm²",
        "  pulses without pump in the run (50%): 16 mJ/cm²; 32 mJ/cm²",
        "  flat field: scan at 528.20 eV, 8 mJ/cm²; scan at 528.20 eV, 32 mJ/cm²",
    ]
    validated = Summary.model_validate(summary | {"version": "v0001", "created": "now", "product_hash": "0"})
    assert validated.model_dump()["references"] == summary["references"]


def test_systematic_errors_stand_behind_statistical_ones_where_they_are_not_zero(usual):
    summary = summarise(unknown(usual, 2e-3), config("seed"), audits={}, notes=[])
    heights = {(p["peak"], p["fluence"], p["delay"]): p["amplitude"] for p in summary["peaks"]}
    assert heights["A", 8.0, 4.8]["stderr_systematic"] == 2e-3
    assert "stderr_systematic" not in heights["A", 32.0, 4.8]
    lines = summary_text(summary).splitlines()
    assert "peaks of the difference (± noise ± reference)" in lines
    told = {f: next(one for one in lines if f"A {f:>6} mJ/cm²    4.80 ps" in one) for f in ("8", "32")}
    assert told["8"].endswith(" ± 2 mOD")
    assert told["32"].count("±") == 2
    alpha = summary["alpha"][0]
    alpha["model_stderr"] = 0.004
    assert f"α = {percent(alpha['alpha'])[:-2]} ± 0.4 %" in summary_text(summary)
    assert "excited fraction (± noise ± models and reference)" in summary_text(summary).splitlines()


def test_a_product_without_references_says_nothing_of_them(usual):
    tree = usual.copy(deep=True)
    lost = ["reference", "delta_xas_stderr_systematic"]
    for name in ("spectra", "delay_scan"):
        tree[name] = type(tree)(tree[name].to_dataset().drop_vars(lost))
    row = summarise(tree, config("seed"), audits={}, notes=[])["references"][0]
    assert (row["delays"], row["stderr_systematic"]) == ({}, None)
    assert "difference against" not in summary_text({"dataset": "x"})


def test_the_warnings_of_an_older_product_are_shown():
    assert summary_text({"dataset": "x", "warnings": ["run 6: noisy"]}).splitlines()[-1] == "CAUTION run 6: noisy"


def test_every_reference_has_words():
    assert list(REFERENCE_WORDS) == list(REFERENCES)


def test_delays_are_told_as_the_stage_was_set():
    assert [delay_words(t) for t in (0.000495, -0.0998, 0.101, 59.8, 4.801)] == [
        "0 ps",
        "−0.1 ps",
        "0.1 ps",
        "59.8 ps",
        "4.8 ps",
    ]

"""The demo's tables: what is compared with what, and in which errors."""

import numpy as np
import pytest
import xarray as xr

from pipeline.simulate.against_truth import compare, compare_differences, comparison_text, differences_text

TRUTH = {
    "scenario": {"delay": {"t0": 120.0, "sign": -1}},
    "kinetics": {"taus": [0.15, 0.24, 1.5], "t_d": 0.1, "irf_sigma": 0.04},
    "mixture": {"fluences": [8.0, 32.0], "alpha": [0.05, 0.27]},
    "runs": [
        {
            "kind": "energy_scan",
            "fluence": 8.0,
            "delays": [4.8],
            "energies": [527.0, 528.0, 529.0],
            "delta_xas": [[0.0, 0.01, 0.02]],
            "film_ratio": [1.03, 1.01],
            "extrema": {"A": [528.2]},
        },
        {
            "kind": "delay_scan",
            "fluence": 8.0,
            "delays": [0.0, 1.0],
            "energies": [528.0],
            "delta_xas": [[0.0], [0.01]],
            "film_ratio": [1.0],
        },
    ],
}
SUMMARY = {
    "kinetics": [
        {
            "fluence": 8.0,
            "parameters": {"tau1": {"value": 0.2, "stderr": 0.025, "identifiable": False, "ci68": [0.1, None]}},
        }
    ],
    "alpha": [
        {"fluence": 8.0, "alpha": {"value": 0.06, "stderr": 0.003, "unit": "1"}, "model_stderr": 0.004},
        {"fluence": 32.0, "alpha": {"value": 0.27, "stderr": 0.003, "unit": "1"}, "model_stderr": None},
    ],
    "slope": {"value": 0.01, "stderr": 3e-4, "unit": "cm^2/mJ"},
    "slope_model_stderr": 4e-4,
    "time_zero": {"stage": {"value": 119.98, "stderr": 0.002, "unit": "mm"}},
    "peaks": [{"peak": "A", "fluence": 8.0, "delay": 4.8, "position": {"value": 528.3, "stderr": 0.05, "unit": "eV"}}],
}


def test_numbers_are_compared_in_total_errors():
    rows = {row["name"]: row for row in compare(SUMMARY, TRUTH)}
    off = {name: (row["value"] - row["truth"]) / row["stderr"] for name, row in rows.items()}
    assert off["alpha at 8 mJ/cm²"] == pytest.approx(0.01 / 0.005)
    assert off["alpha at 32 mJ/cm²"] == 0.0
    assert rows["slope of alpha"]["truth"] == pytest.approx(0.22 / 24)
    assert rows["slope of alpha"]["stderr"] == pytest.approx(5e-4)
    assert off["peak A at 8 mJ/cm², 4.80 ps"] == pytest.approx(2.0)
    # a stage that runs backwards: light needs 0.1 ps for 15 µm there and back
    assert rows["time zero at the stage"]["truth"] == pytest.approx(120.0 - 0.01499, abs=1e-5)
    text = comparison_text(list(rows.values()))
    assert "0.200 ± 0.025 ps" in text
    assert "+2.0 σ   not determined by these data, see ci68: 0.1 … open ps" in text


def test_differences_are_compared_with_those_of_the_pumped_film():
    energy, delay = np.array([527.0, 528.0, 529.0]), np.array([4.801])
    found = np.array([0.0, 0.0102, 0.0204]) + np.array([1.0, 0.0, -2.0]) * 5e-4
    row = ("fluence", "delay")
    spectra = xr.Dataset(
        {
            "delta_xas": ((*row, "energy"), found[None, None]),
            "delta_xas_stderr": ((*row, "energy"), np.full((1, 1, 3), 3e-4)),
            "delta_xas_stderr_systematic": ((*row, "energy"), np.full((1, 1, 3), 4e-4)),
            "reference": (row, [["pump_off_scan"]]),
            "film_ratio": (row, [[1.01]]),
            "film_ratio_stderr": (row, [[0.005]]),
        },
        coords={"fluence": [8.0], "delay": delay, "energy": energy},
    )
    scan = xr.Dataset(
        {
            "delta_xas": (("scan", "delay"), [[0.0, np.nan]]),
            "delta_xas_stderr": (("scan", "delay"), [[1e-3, 1e-3]]),
            "delta_xas_stderr_systematic": (("scan", "delay"), [[np.nan, np.nan]]),
            "reference": (("scan", "delay"), [["in_run", "none"]]),
        },
        coords={"delay": [0.0, 1.0], "fluence": ("scan", [8.0]), "energy": ("scan", [528.0])},
    )
    of_spectrum, of_scan = compare_differences(spectra, scan, TRUTH)
    np.testing.assert_allclose(of_spectrum["z"], [1.0, 0.0, -2.0], atol=1e-9)
    assert of_spectrum["film_ratio"] == {"value": 1.01, "stderr": 0.005, "truth": pytest.approx(1.02)}
    np.testing.assert_allclose(of_scan["z"], [0.0], atol=1e-9)
    assert of_scan["reference"] == "in_run none"
    first, second, third = differences_text([of_spectrum, of_scan]).splitlines()
    assert "1.67     -2.0 σ   1.0100 ± 0.0050 (1.0200)" in second
    assert "pumped film" in first
    assert "(" not in third

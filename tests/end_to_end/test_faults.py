"""Damaged and irregular data through the whole line: what is reported, and what the rest still gives."""

import json
import re
import shutil

import h5py
import numpy as np
import pytest
import xarray as xr

from pipeline.errors import ConfigError, DataError
from pipeline.job import load_job
from pipeline.results.summary import summary_text
from pipeline.stages.inventory import check_sources
from pipeline.storage import versions as publish
from pipeline.workflow import process
from tests.command import trxas


@pytest.fixture(scope="module")
def irregular(faults, tmp_path_factory):
    out = tmp_path_factory.mktemp("irregular")
    version = process(load_job(faults.out / "config.yaml", out)).version
    return version, xr.open_datatree(version / "product.zarr", engine="zarr")


def test_other_sources_module_order_and_stage_direction(irregular, faults):
    _, tree = irregular
    expected = [b["role"] for b in sorted(faults.truth["beams"], key=lambda b: b["region"][0])]
    assert tree.attrs["beam_order"] == expected
    run = faults.run(23)
    row = tree["spectra"].to_dataset().isel(fluence=0, delay=0)
    assert float(row["delay"]) == pytest.approx(run["delays"][0], abs=0.05)
    true = np.interp(row["energy"], run["energies"], run["delta_xas"][0])
    inside = (row["energy"] > min(run["energies"])) & (row["energy"] < max(run["energies"]))
    z = ((row["delta_xas"] - true) / row["delta_xas_stderr"]).where(inside)
    assert np.nanmean(z.values**2) < 3


def test_what_is_missing_is_counted_by_reason(irregular, faults):
    quality = irregular[1]["quality"].to_dataset()
    for number in (22, 23, 24):
        truth = faults.run(number)
        row = quality.sel(run=number)
        assert int(row["trains_missing"]) == len(truth["missing_trains"])
        assert int(row["trains_partial"]) == len(truth["partial_trains"])
        assert int(row["frames_read"]) == truth["n_frames"]
        lost = sum(int(row[n]) for n in row.data_vars if n.startswith("dropped_"))
        grid = (truth["n_trains"] - len(truth["missing_trains"])) * len(truth["pulse_ids"])
        assert int(row["pulses_used"]) + lost == grid
        dark = np.isin(truth["pulse_ids"], truth["xray_pulse_ids"], invert=True).sum()
        assert dark > 0
        assert int(row["dropped_dark"]) > 0


def test_a_broken_run_costs_no_other_run_its_result(tiny, processed, tmp_path):
    source = tmp_path / "broken"
    shutil.copytree(tiny.out, source)
    damaged = next((source / "raw" / "r0005").glob("*DSSC*"))
    damaged.write_bytes(damaged.read_bytes()[:3000])
    version = process(load_job(source / "config.yaml", tmp_path / "out")).version
    summary = json.loads((version / "summary.json").read_text())
    assert "run 5 is left out" in summary_text(summary)
    assert [w["run"] for w in summary["warnings"] if w["code"] == "run.left_out"] == [5]
    whole = publish.resolve(processed[0])
    left, right = (xr.open_datatree(v / "product.zarr")["spectra"].to_dataset() for v in (version, whole))
    # the sweep of run 4 and the steps of run 3 at 32 mJ/cm² do not depend on the lost run at 16
    assert left["fluence"].values.tolist() == [32.0]
    np.testing.assert_array_equal(left["n_pulses"].sel(fluence=32.0), right["n_pulses"].sel(fluence=32.0))


def test_runs_without_energy_or_stage_are_counted_and_cost_no_other(tiny, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(tiny.out, copied)
    lost = {
        5: ("SA3_XTD10_MONO/MDL/PHOTON_ENERGY/actualEnergy", "no_energy"),
        6: ("SCS_ILH_LAS/MOTOR/LT3/actualPosition", "no_delay"),
    }
    for run, (source, _) in lost.items():
        with h5py.File(next((copied / "raw" / f"r{run:04d}").glob("*DA01*")), "r+") as file:
            file.move(f"CONTROL/{source}", f"CONTROL/{source}Lost")
    version = process(load_job(copied / "config.yaml", tmp_path / "out")).version
    tree = xr.open_datatree(version / "product.zarr", engine="zarr")
    warnings = json.loads((version / "summary.json").read_text())["warnings"]
    for run, (_, reason) in lost.items():
        quality = tree["quality"].to_dataset().sel(run=run)
        assert int(quality["pulses_used"]) == 0
        assert int(quality[f"dropped_{reason}"]) > 300
        assert run in [w["run"] for w in warnings if w["code"] == "quality.no_pulse_used"]
    assert int(tree["spectra/n_pulses"].sel(fluence=32.0).sum()) > 1000


def test_bins_that_no_pulse_falls_into_are_told(tiny, processed, tmp_path):
    shutil.copytree(processed[0], tmp_path / "out")
    with pytest.raises(DataError, match="no pulse of the energy scans falls into a bin"):
        process(load_job(tiny.out / "config.yaml", tmp_path / "out", ["energy.bins=[700,701]", "delay.bin=[900,901]"]))


def test_a_broken_calibration_run_ends_it_with_one_line(tiny, tmp_path):
    source = tmp_path / "broken"
    shutil.copytree(tiny.out, source)
    for file in (source / "raw" / "r0001").glob("*.h5"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="run 1: "):
        process(load_job(source / "config.yaml", tmp_path / "out"))
    assert not (tmp_path / "out" / "products").exists()


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (["--set", "kinetics.power=3"], 2, "kinetics.power"),
        (["--set", "runs.dark=77"], 1, "run 77: no folder r0077"),
    ],
)
def test_errors_are_one_line_and_name_the_way_out(tiny, processed, tmp_path, prefect_home, change, code, text):
    shutil.copytree(processed[0], tmp_path / "out")
    done = trxas("process", tiny.out / "config.yaml", "--out", tmp_path / "out", *change, home=prefect_home)
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("trxas:")]
    assert len(lines) == 1
    assert text in lines[0]
    assert "Warning" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ("sources.frames.module=4", DataError, "modules there: 15"),
        ("sources.energy=SA3_XTD10_MONO/MDL/PHOTON_ENERG", ConfigError, "alike: SA3_XTD10_MONO/MDL/PHOTON_ENERGY;"),
        ("detector.nonlinearity=missing.txt", ConfigError, "detector.nonlinearity: no file"),
    ],
)
def test_what_does_not_go_with_the_runs_is_told_before_a_stage_starts(tiny, tmp_path, change, error, text):
    with pytest.raises(error, match=text) as told:
        process(load_job(tiny.out / "config.yaml", tmp_path, [change]))
    assert "\n" not in str(told.value)
    assert not (tmp_path / "stages").exists()


def test_sources_that_no_scan_holds_are_refused_and_others_are_not(tiny):
    def job(*changes):
        return load_job(tiny.out / "config.yaml", None, changes)

    check_sources(job())
    for change, text in (
        (
            "sources.delay_stage.key=actualPositon",
            "run 3: SCS_ILH_LAS/MOTOR/LT3 has no key actualPositon; it has actualPosition",
        ),
        ("sources.arrival=SOMEWHERE", "sources.arrival: run 3: no source SOMEWHERE in the run; none of its 7"),
        ("sources.energy=SA3_MONO/MDL/PHOTON_ENERGY", "alike: SA3_XTD10_MONO/MDL/PHOTON_ENERGY;"),
    ):
        with pytest.raises(ConfigError, match=re.escape(text)):
            check_sources(job(change))
    # what the config gives by hand need not be recorded
    alone = "runs={dark: 1, flat_field: 2, delay_scans: [{run: 6, fluence: 32.0, energy: 528.2}]}"
    check_sources(job(alone, "instrument=scs-dssc-boz"))
    with pytest.raises(ConfigError, match=r"sources\.energy: run 6"):
        check_sources(job(alone.replace(", energy: 528.2", ""), "sources.energy=NOWHERE"))

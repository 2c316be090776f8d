"""From raw runs to the product through the real command, the real flow and real files, against the simulated truth."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr
from distributed import LocalCluster
from scipy.interpolate import CubicSpline

from pipeline.errors import ConfigError
from pipeline.job import load_job
from pipeline.simulate.against_truth import compare
from pipeline.storage import versions as publish
from pipeline.workflow import process
from tests.command import trxas


def product_of(out):
    version = publish.resolve(out)
    return version, xr.open_datatree(version / "product.zarr", engine="zarr")


def test_every_number_is_within_four_errors_of_the_truth(processed, tiny):
    version, _ = product_of(processed[0])
    rows = compare(json.loads((version / "summary.json").read_text()), tiny.truth)
    names = {row["name"].split(" at ")[0] for row in rows}
    assert {"tau1", "tau2", "tau3", "alpha", "peak A", "peak B"} <= names
    off = {row["name"]: (row["value"] - row["truth"]) / row["stderr"] for row in rows}
    assert max(map(abs, off.values())) < 4, off
    assert np.mean(np.square(list(off.values()))) < 2.5, off


def test_difference_agrees_with_the_truth_within_its_errors(processed, tiny):
    _, tree = product_of(processed[0])
    spectra, scan = tree["spectra"].to_dataset(), tree["delay_scan"].to_dataset()
    pulls = []
    for run in tiny.truth["runs"]:
        if run["kind"] == "energy_scan":
            row = spectra.sel(fluence=run["fluence"]).sel(delay=run["delays"][0], method="nearest")
            true = CubicSpline(run["energies"], run["delta_xas"][0])(row["energy"])
            pulls.append(((row["delta_xas"] - true) / row["delta_xas_stderr"]).values)
        if run["kind"] == "delay_scan":
            row = scan.isel(scan=0)
            true = np.array(run["delta_xas"])[:, 0]
            np.testing.assert_allclose(row["delay"], run["delays"], atol=0.003)
            pulls.append(((row["delta_xas"] - true) / row["delta_xas_stderr"]).values)
    z = np.concatenate(pulls)
    z = z[np.isfinite(z)]
    assert len(z) > 80
    assert 0.7 < np.mean(z**2) < 1.4


def test_the_product_is_what_the_contract_says(processed):
    version, tree = product_of(processed[0])
    assert trxas("validate", version).returncode == 0
    assert set(tree.children) == {
        "spectra",
        "delay_scan",
        "peaks",
        "kinetics",
        "mixture",
        "quality",
        "components",
        "time_zero",
        "reference",
        "budget",
    }
    assert tree["spectra/delta_xas"].dims == ("fluence", "delay", "energy")
    assert tree["delay_scan/delta_xas"].dims == ("scan", "delay")
    assert tree["peaks/position"].dims == ("peak", "fluence", "delay")
    assert list(tree["kinetics/parameter"].values) == ["t_d", "irf_sigma", "tau1", "tau2", "tau3"]
    assert float(tree["kinetics/value"].sel(fluence=32.0, parameter="tau3")) > 0
    assert {"config", "inputs", "product_hash", "code_version", "created"} <= set(tree.attrs)
    assert (version / "figures" / "delta_xas.png").stat().st_size > 10_000
    assert json.loads((processed[0] / "products" / "tiny" / "latest.json").read_text())["path"] == version.name


UNITS = {
    "eV": "spectra/energy delay_scan/energy peaks/position peaks/fwhm mixture/ground_shift mixture/excited_position "
    "mixture/excited_fwhm mixture/extra_fwhm components/energy",
    "ps": "spectra/delay delay_scan/delay peaks/delay kinetics/value kinetics/ci68 kinetics/t50 kinetics/systematic "
    "components/tau components/tau_ci95 quality/run_delay",
    "mJ/cm^2": "spectra/fluence delay_scan/fluence mixture/fluence kinetics/fluence quality/run_fluence",
    "cm^2/mJ": "mixture/slope",
    "1/ps": "components/decay_rate",
    "1": "spectra/delta_xas spectra/od_pumped spectra/n_pulses delay_scan/delta_xas peaks/amplitude kinetics/fit "
    "kinetics/redchi mixture/alpha mixture/intercept quality/noise_ratio quality/pulses_used",
}
"""What a physicist knows without looking; an optical density is a number."""


def test_units_are_those_of_the_quantities_and_errors_have_those_of_their_values(processed):
    _, tree = product_of(processed[0])
    for unit, names in UNITS.items():
        for name in names.split():
            assert tree[name].attrs["units"] == unit, name
    pairs = 0
    for node in tree.subtree:
        group = node.to_dataset(inherit=False)
        for name, variable in group.variables.items():
            assert variable.attrs["units"], name
            for end in ("_stderr", "_stderr_shot", "_stderr_independent", "_model_stderr", "_ci68", "_ci95"):
                value = group.variables.get(name.removesuffix(end))
                if name.endswith(end) and value is not None:
                    pairs += 1
                    assert variable.attrs["units"] == value.attrs["units"], f"{node.path}/{name}"
    assert pairs > 40


def test_frames_cube_holds_the_recorded_frames(processed, tiny):
    cube = xr.open_zarr(processed[0] / "runs" / "r0003" / "frames.zarr")
    raw = tiny.open(3)[tiny.frames_source(), "image.data"].ndarray()[:, 0]
    y, x = cube["y"].values, cube["x"].values
    expected = raw[:, y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    assert cube["frames"].dtype == np.uint16
    assert cube["frames"].chunks is not None
    assert {"train_id", "pulse_id", "cell_id", "energy", "arrival"} <= set(cube.coords)
    np.testing.assert_array_equal(cube["frames"].values.reshape(expected.shape), expected)


def test_pulses_hold_the_photons_that_were_simulated(processed, tiny):
    pulses = xr.open_zarr(processed[0] / "runs" / "r0002" / "pulses.zarr")
    labels = xr.open_datatree(processed[0] / "stages" / "tiny" / "labels.zarr", engine="zarr")["r0002"].to_dataset()
    pulses = pulses.assign_coords(beam=labels["role"].values)
    truth = {b["role"]: b["photons_per_pulse"] for b in tiny.truth["beams"]}
    od = tiny.run(2)["od"]
    for beam in ("pumped", "unpumped", "reference"):
        mean = float(pulses["photons"].sel(beam=beam).mean())
        expected = truth[beam] * (1.0 if beam == "reference" else np.exp(-od))
        light = 0.4 / np.sqrt(float(pulses["photons"].sel(beam=beam).count()))
        assert mean == pytest.approx(expected, rel=0.015 + 4 * light)


def test_a_second_run_does_nothing_and_a_changed_fit_runs_the_fits_only(processed, tiny, tmp_path, prefect_home):
    out = tmp_path / "out"
    shutil.copytree(processed[0], out)
    config = tiny.out / "config.yaml"
    before = {p: p.stat().st_mtime_ns for p in out.rglob("zarr.json")}
    assert process(load_job(config, out)).version == publish.resolve(out)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("zarr.json")} == before
    changed = trxas("reprocess", config, "--from", "fits", "--set", "kinetics.power=1", "--out", out, home=prefect_home)
    assert changed.returncode == 0, changed.stderr
    after = {p: p.stat().st_mtime_ns for p in out.rglob("zarr.json")}
    touched = {p.relative_to(out).parts[0] for p in after if after[p] != before.get(p)}
    rewritten = {p.relative_to(out).parts[2] for p in after if after[p] != before.get(p) and "stages" in p.parts}
    assert touched <= {"stages", "products"}
    assert rewritten == {"fits.zarr"}
    first, second = (xr.open_datatree(out / "products" / "tiny" / v / "product.zarr") for v in ("v0001", "v0002"))
    xr.testing.assert_identical(first["spectra"].to_dataset(), second["spectra"].to_dataset())
    assert not first["kinetics/value"].equals(second["kinetics/value"])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(["compute.workers=1", "compute.memory=40MiB", "frames.keep=none"], marks=pytest.mark.long),
        pytest.param(["compute.cluster=processes", "compute.workers=3"], marks=pytest.mark.long),
    ],
    ids=["one small worker without cube", "processes"],
)
def test_other_workers_give_the_same_product(processed, tiny, tmp_path, change):
    version = process(load_job(tiny.out / "config.yaml", tmp_path, change)).version
    assert product_of(processed[0])[1].attrs["product_hash"] == open_hash(version)


@pytest.mark.long
def test_a_scheduler_over_tcp_gives_the_same_product(processed, tiny, tmp_path):
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        change = [f"compute.cluster={cluster.scheduler_address}"]
        version = process(load_job(tiny.out / "config.yaml", tmp_path, change)).version
    assert product_of(processed[0])[1].attrs["product_hash"] == open_hash(version)


def open_hash(version):
    return xr.open_datatree(version / "product.zarr", engine="zarr").attrs["product_hash"]


@pytest.mark.long
def test_pulses_from_the_cube_are_those_from_raw(processed, tiny, tmp_path):
    from pipeline.workflow import restart_from

    out = tmp_path / "out"
    shutil.copytree(processed[0], out)
    job = load_job(tiny.out / "config.yaml", out)
    for number in job.reduced_runs:
        assert (out / "runs" / f"r{number:04d}" / "frames.zarr").exists()
    restart_from(job, "pulses")
    hidden = tiny.out / "raw" / "r0003" / "RAW-R0003-DSSC15-S00000.h5"
    stamp = hidden.stat().st_atime_ns
    version = process(job).version
    assert stamp is not None
    tree = xr.open_datatree(version / "product.zarr", engine="zarr")
    assert tree.attrs["product_hash"] == product_of(processed[0])[1].attrs["product_hash"]


def test_reprocessing_where_nothing_was_processed_is_said(processed, tiny, tmp_path, caplog):
    from pipeline.workflow import restart_from

    restart_from(load_job(tiny.out / "config.yaml", tmp_path / "fresh"), "fits")
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path / 'fresh'}: nothing was processed there, so everything runs from raw data (--out: another folder)"
    ]
    caplog.clear()
    out = tmp_path / "out"
    shutil.copytree(processed[0], out)
    restart_from(load_job(tiny.out / "config.yaml", out), "fits")
    assert not caplog.records


def test_a_calibration_made_before_is_applied_by_reference(processed, tiny, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(processed[0], out)
    made = next((out / "calibration").iterdir()).name
    same = process(load_job(tiny.out / "config.yaml", out, [f"detector.calibration={made}"])).version
    _, tree = product_of(processed[0])
    assert xr.open_datatree(same / "product.zarr").attrs["product_hash"] == tree.attrs["product_hash"]
    with pytest.raises(ConfigError, match=r"detector\.calibration: 'nothing' is not in .*there: "):
        process(load_job(tiny.out / "config.yaml", out, ["detector.calibration=nothing"]))

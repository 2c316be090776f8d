"""What people import: beside files of theirs with our names, lazily, and with the numbers of the product."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

import trxas
from pipeline.errors import BusyError, ClusterError, ConfigError, DataError, ProductError
from pipeline.euxfel import lazy_frames
from pipeline.euxfel.reader import open_run
from pipeline.science.detector.beam_photons import reduce_frames
from pipeline.science.detector.crop import Crop, crop_to_beams
from pipeline.stages.frames import RECORDED, Target, create_cube
from pipeline.stages.reduce import reduce_raw
from pipeline.storage import lazy_cube, store
from schemas.instrument import load_instrument

ROOT = Path(__file__).parents[1]
DET = "SCS_DET_DSSC1M-1/DET/15CH0:xtdf/image"
RUN = 4


def python(folder, script, *arguments):
    """Run a script of a user's who has trxas installed: it comes last on the search path, after the script's folder."""
    (folder / "script.py").write_text(f"import sys\nsys.path.append({str(ROOT)!r})\n{script}", encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, folder / "script.py", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def beside(tmp_path):
    """Return a folder that holds a pipeline.py and a schemas.py of a user's."""
    for name in ("pipeline", "schemas"):
        (tmp_path / f"{name}.py").write_text("mine = 42\n", encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def out(processed):
    return processed[0]


@pytest.fixture(scope="module")
def calibration(out):
    (path,) = out.glob("calibration/*/calibration.zarr")
    return store.open_dataset(path).load()


@pytest.fixture(scope="module")
def damaged(tiny, tmp_path_factory):
    """Return the folder of a raw run with frames that hold nothing, frames that are missing and a train that is."""
    folder = tmp_path_factory.mktemp("damaged") / f"r{RUN:04d}"
    shutil.copytree(tiny.out / "raw" / f"r{RUN:04d}", folder)
    with h5py.File(next(folder.glob("*DSSC*")), "r+") as file:
        row = int(file[f"INDEX/{DET}/first"][9])
        file[f"INSTRUMENT/{DET}/data"][row : row + 5] = 0
        file[f"INDEX/{DET}/count"][12] = 11
        file[f"INDEX/{DET}/count"][20] = 0
    return folder


def opened(folder):
    return open_run(folder, load_instrument("scs-dssc-boz"))


# -- the import


def test_the_import_loads_nothing_that_takes_long(tmp_path):
    done = python(tmp_path, "import trxas\nprint(*sys.modules)")
    assert done.returncode == 0, done.stderr
    heavy = {"numpy", "scipy", "xarray", "dask", "distributed", "zarr", "numba", "h5py", "matplotlib", "prefect"}
    assert not heavy & set(done.stdout.split())


def test_files_of_the_user_with_our_names_do_not_matter(beside, out):
    done = python(
        beside,
        "import trxas\nimport pipeline\nprint(pipeline.__file__, trxas.open(sys.argv[1]).summary['version'])",
        out,
    )
    assert done.stdout.split() == [str(ROOT / "pipeline" / "__init__.py"), "v0001"], done.stderr


def test_the_search_path_stays_as_it_is_where_nothing_is_in_the_way(tmp_path):
    done = python(tmp_path, "before = list(sys.path)\nimport trxas\nprint(sys.path == before)")
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("name", ["pipeline", "schemas"])
def test_a_module_of_the_user_that_was_imported_before_is_named(beside, name):
    done = python(beside, f"import {name}\nimport trxas")
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: trxas: {beside / name}.py was imported as {name!r}, which is a package of trxas; "
        "rename that file and start Python again"
    )


def test_every_public_name_is_documented_with_what_it_returns_and_raises():
    for name in trxas.__all__:
        text = getattr(trxas, name).__doc__
        if name != "Product":
            assert "Parameters\n" in text
            assert "Raises\n" in text


# -- lazy frames

BESIDE = [name for name in RECORDED if name != "laser"]
"""An array of frames has no slots."""


def test_raw_frames_are_read_when_they_are_computed(damaged, calibration, tmp_path):
    folder = tmp_path / damaged.name
    shutil.copytree(damaged, folder)
    frames = trxas.raw_frames(folder)
    photons = reduce_frames(frames, calibration)["photons"]
    next(folder.glob("*DSSC*")).unlink()
    for lazy in (frames, photons):
        with pytest.raises(DataError, match=r"run 4: trains \d+ to \d+ cannot be read"):
            lazy.compute()


def test_stored_frames_are_read_when_they_are_computed(out, tmp_path):
    shutil.copytree(out / "runs" / "r0004", tmp_path / "runs" / "r0004")
    frames = trxas.frames(tmp_path, RUN)
    assert trxas.frames(out, RUN).any()
    # zarr reads chunks that are not there as zeros
    shutil.rmtree(tmp_path / "runs" / "r0004" / "frames.zarr" / "frames" / "c")
    assert not frames.any()


def test_raw_and_stored_frames_are_the_same_with_the_same_coordinates(tiny, out, calibration):
    crop = crop_to_beams(calibration)
    stored = trxas.frames(out, RUN)
    raw = trxas.raw_frames(tiny.out / "raw" / "r0004", rows=crop.rows, columns=crop.columns)
    recorded = {"train_id", "pulse_id", "cell_id", "present", "energy", "delay_stage"} | set(BESIDE)
    assert set(raw.coords) == {*recorded, "y", "x"}
    assert all(isinstance(c.variable._data, np.ndarray) or c.name in c.dims for c in raw.coords.values())
    xr.testing.assert_identical(raw.compute(), stored.drop_vars("blank").compute())
    assert raw.attrs["units"] == "ADU"


def test_chunks_are_whole_trains_and_whole_chunks_of_the_store(tiny, tmp_path, monkeypatch):
    run = opened(tiny.out / "raw" / "r0004")
    keep = Crop(slice(0, 20), slice(0, 50))
    create_cube(run, keep, Target(tmp_path / "runs/r0004/frames.zarr", keep.rows, keep.columns, 3))
    train = 2 * 16 * 20 * 50
    monkeypatch.setattr(lazy_cube, "CHUNK_BYTES", 8 * train)
    assert trxas.frames(tmp_path, 4).chunks == ((6, 6, 6, 6, 6, 6, 6, 4), (16,), (20,), (50,))
    monkeypatch.setattr(lazy_cube, "CHUNK_BYTES", train)
    assert trxas.frames(tmp_path, 4).chunks[0] == (3,) * 15 + (1,)
    monkeypatch.setattr(lazy_frames, "CHUNK_BYTES", 2 * 16 * 128 * 512 * 20)
    assert trxas.raw_frames(tiny.out / "raw" / "r0004").chunks == ((20, 20, 6), (16,), (128,), (512,))


OF_WHOLE_RUNS = ["border", "pedestal", "laser"]
"""What the pipeline's own pass finds beside the photons, for what is judged over all frames of a run."""


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_the_lazy_way_gives_the_bits_of_the_quick_one(damaged, calibration, scheduler, monkeypatch):
    monkeypatch.setattr(lazy_frames, "CHUNK_BYTES", 2 * 16 * 128 * 512 * 7)
    quick = reduce_raw(opened(damaged), calibration, keep=None, cube=None, workers=2, memory="1GiB")
    assert int(quick["blank"].sum()) == 5
    lazy = reduce_frames(trxas.raw_frames(damaged), calibration)
    found = lazy.compute(scheduler=scheduler).reset_coords(BESIDE).drop_attrs()
    xr.testing.assert_identical(found, quick.drop_vars(OF_WHOLE_RUNS).drop_attrs())


def test_the_lazy_way_gives_the_same_bits_from_the_stored_cube(damaged, calibration, tmp_path):
    crop = crop_to_beams(calibration)
    cube = tmp_path / "runs" / "r0004" / "frames.zarr"
    quick = reduce_raw(opened(damaged), calibration, keep=crop, cube=cube, workers=2, memory="1GiB")
    lazy = reduce_frames(trxas.frames(tmp_path, RUN), calibration)
    found = lazy.compute().reset_coords(BESIDE).drop_attrs()
    xr.testing.assert_identical(found, quick.drop_vars(OF_WHOLE_RUNS).drop_attrs())


def test_what_is_not_there_is_named(tiny, out):
    run = tiny.out / "raw" / "r0004"
    with pytest.raises(ProductError, match=r"r0099.*process the run first"):
        trxas.frames(out, 99)
    with pytest.raises(ConfigError, match="neither a profile"):
        trxas.raw_frames(run, "no-such")
    with pytest.raises(ConfigError, match=r"sources\.enrgy"):
        trxas.raw_frames(run, sources={"enrgy": "A"})
    with pytest.raises(DataError, match="no source NO/SUCH"):
        trxas.raw_frames(run, sources={"frames": "NO/SUCH"})
    with pytest.raises(DataError, match="hold no pixel of 128 x 512"):
        trxas.raw_frames(run, rows=slice(200, 300))


# -- processing


CLIENT = """
from distributed import Client, LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        import trxas
        from pipeline.science.detector.beam_photons import reduce_frames
        from pipeline.storage import store
        from pathlib import Path

        config, out, calibration = sys.argv[1:]
        print(trxas.process(config, out, client=client).summary["version"], client.status)
        photons = reduce_frames(trxas.frames(out, 5), store.open_dataset(Path(calibration)).load())["photons"]
        print(photons.compute().equals(photons.compute(scheduler="synchronous")))
"""


def test_the_client_of_a_user_beside_a_pipeline_py_gives_the_same_pulses_and_stays_open(beside, tiny, out):
    shutil.copytree(out, beside / "out")
    shutil.rmtree(beside / "out" / "runs" / "r0005")
    (calibration,) = out.glob("calibration/*/calibration.zarr")
    done = python(beside, CLIENT, tiny.out / "config.yaml", beside / "out", calibration)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["v0001", "running", "True"]
    made, before = (store.open_dataset(folder / "runs/r0005/pulses.zarr") for folder in (beside / "out", out))
    xr.testing.assert_identical(made.load(), before.load())


def test_a_client_whose_workers_lack_trxas_is_refused(tiny, tmp_path):
    class Client:
        def register_worker_callbacks(self, setup):
            assert setup() is trxas
            raise ModuleNotFoundError("No module named 'trxas'", name="trxas")

    with pytest.raises(ClusterError, match="a worker lacks trxas; start workers where trxas is installed"):
        trxas.process(tiny.out / "config.yaml", tmp_path, client=Client())


def test_process_tells_how_far_it_is_and_does_nothing_twice(tiny, out, tmp_path):
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    told = []
    again = trxas.process(tiny.out / "config.yaml", copy, progress=lambda *what: told.append(what))
    assert again.where == str(copy / "products" / "tiny" / "v0001")
    assert told == []
    other = trxas.process(tiny.out / "config.yaml", copy, changes=["kinetics.power=1"])
    assert other.summary["version"] == "v0002"
    assert json.loads(other.tree.attrs["config"])["kinetics"]["power"] == 1


def test_a_folder_in_which_another_process_works_is_left_alone(tiny, tmp_path):
    busy = f"from pipeline.storage.claim import claimed\nfrom pathlib import Path\nwith claimed(Path({str(tmp_path)!r}), 'a test'):\n    print('there', flush=True)\n    sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", f"import sys\n{busy}"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout.readline() == "there\n"
        with pytest.raises(BusyError, match="a test"):
            trxas.process(tiny.out / "config.yaml", tmp_path)
    finally:
        other.communicate()


# -- from pulses to fits


@pytest.fixture(scope="module")
def runs(out):
    return {number: trxas.pulses(out, number) for number in (2, 3, 4, 5, 6)}


@pytest.fixture(scope="module")
def scans(runs):
    return trxas.bin(runs[6], along="delay", flat_field=runs[2])


@pytest.fixture(scope="module")
def spectra(runs):
    return trxas.bin([runs[3], runs[4], runs[5]], energy=(526.6, 531.0, 0.2), flat_field=runs[2])


def group(out, name):
    return trxas.open(out).tree[name].to_dataset().load()


def test_pulses_have_their_labels(runs, out):
    assert runs[6]["beam"].values.tolist() == list(trxas.open(out).tree.attrs["beam_order"])
    assert runs[6]["delay"].dims == ("train", "pulse")
    assert float(runs[6]["fluence"]) == 32.0
    assert runs[2]["drop_reason"].attrs["long_name"]


def test_binned_pulses_are_the_products_spectra_and_scans(spectra, scans, out):
    # how much the film is worn is known of all runs of a session only
    of_session = ["delta_xas_stderr_systematic", "systematic_mode", "film_ratio", "film_ratio_stderr"]
    for found, name in ((spectra, "spectra"), (scans, "delay_scan")):
        xr.testing.assert_identical(
            found.drop_vars(of_session, errors="ignore").drop_attrs(),
            group(out, name).drop_vars(of_session, errors="ignore").drop_attrs(),
        )
    assert spectra["energy"].attrs["units"] == "eV"


def test_another_grid_holds_the_same_pulses(runs, spectra):
    coarse = trxas.bin([runs[3], runs[4], runs[5]], energy=np.linspace(526.4, 531.2, 13), flat_field=runs[2])
    assert coarse.sizes["energy"] == 12
    assert int(coarse["n_pulses"].sum()) == int(spectra["n_pulses"].sum())
    two = trxas.bin(runs[6], along="delay", delay=np.array([-1.0, 0.0, 1.0]), flat_field=runs[2])
    assert two.sizes["delay"] == 2


def test_without_a_flat_field_the_constant_is_that_of_early_delays_or_unknown(runs):
    with pytest.warns(UserWarning, match="taken from delays before"):
        scan = trxas.bin(runs[6], along="delay")
    assert float(scan["flat_field_constant_stderr"]) > 0
    with pytest.warns(UserWarning, match="unknown offset"):
        assert float(trxas.bin(runs[5])["flat_field_constant"]) == 0.0


def test_kinetics_are_the_products(scans, out):
    fit = trxas.fit_kinetics(group(out, "delay_scan"), group(out, "spectra"), fluence=32.0, irf_sigma=0.04)
    published = group(out, "kinetics").sel(fluence=32.0)
    for name in ("value", "stderr", "ci68"):
        np.testing.assert_array_equal(fit[name], published[name])
    alone = trxas.fit_kinetics(scans, t_d=0.0, irf_sigma=(0.04, 0.005), power=1)
    assert bool(alone["fixed"].sel(parameter="t_d"))
    assert alone.sizes["trace"] == 1


def test_kinetics_without_a_trace_name_the_fluences(spectra, scans):
    with pytest.raises(DataError, match=r"fluence None; fluences of the data \[mJ/cm²\]: 16, 32"):
        trxas.fit_kinetics(scans, spectra)
    with pytest.raises(DataError, match=r"fluence 8; .*: 32"):
        trxas.fit_kinetics(scans, fluence=8)
    with pytest.raises(DataError, match=r"fluences of the data \[mJ/cm²\]: none"):
        trxas.fit_kinetics()


def test_the_mixture_is_the_products(spectra, out, tiny):
    ground, excited = tiny.out / "dos_ground.txt", str(tiny.out / "dos_excited.txt")
    published = group(out, "spectra")
    found = trxas.fit_mixture(published, ground, excited, window=(526.5, 531.0), min_delay=4.0, gaussian_fwhm=0.3)
    np.testing.assert_array_equal(found["alpha"], group(out, "mixture")["alpha"])
    builtin = trxas.fit_mixture(spectra, min_delay=4.0)
    assert np.isfinite(builtin["alpha_model_stderr"]).all()
    with pytest.raises(ConfigError, match="both ground and excited"):
        trxas.fit_mixture(spectra, ground)


def test_pulses_that_are_not_there_are_named(out, tmp_path):
    with pytest.raises(ProductError, match="run 9 is not in dataset tiny; there: r0002, r0003"):
        trxas.pulses(out, 9)
    with pytest.raises(ProductError, match=r"dataset 'other' there; process it first \(there: tiny\)"):
        trxas.pulses(out, 3, "other")
    for name in ("a", "b"):
        (tmp_path / "stages" / name / "labels.zarr").mkdir(parents=True)
    with pytest.raises(ProductError, match=r"several datasets \(a, b\); name one"):
        trxas.pulses(tmp_path, 3)


def test_a_scenario_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"neither a file nor one of .*demo.*tiny"):
        trxas.simulate("no-such", tmp_path)

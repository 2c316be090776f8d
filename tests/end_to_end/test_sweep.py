"""`trxas sweep` on the smallest session: the numbers of a processing with each choice, and a dataset that stays as it is."""

import csv
import hashlib

import numpy as np
import pytest
import xarray as xr

from pipeline import choices
from pipeline.errors import ConfigError, ProductError
from pipeline.job import load_job
from pipeline.results.sweep import choices_of
from pipeline.storage import store, versions
from tests.command import trxas


def files_of(out):
    """Return the content of every file of an output folder, sweeps and claims aside."""
    found = (p for p in out.rglob("*") if p.is_file() and not {"sweeps", ".claims"} & set(p.relative_to(out).parts))
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


@pytest.fixture
def dataset(processed, tiny):
    """Return the config and the output folder of a processed dataset."""
    return tiny.out / "config.yaml", processed[0]


def rows_of(folder):
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_choice_gives_what_processing_with_it_would_and_changes_nothing(dataset):
    config, out = dataset
    before = files_of(out)
    done = trxas("sweep", config, "--out", out, "--set", "kinetics.power=2,7,1", "mixture.min_delay=4.0")
    assert done.returncode == 0, done.stderr
    assert files_of(out) == before
    folder = out / "sweeps" / "tiny" / "0001"
    assert sorted(p.name for p in folder.iterdir()) == ["sweep.pdf", "sweep.png", "table.csv"]
    rows = [row for row in rows_of(folder) if row["fluence"] == "32.0"]
    assert [row["kinetics.power"] for row in rows] == ["2", "7", "1"]
    # the config's own choice gives the numbers of the product, to the bit
    product = xr.open_datatree(versions.resolve(str(out)) / "product.zarr", engine="zarr")
    own = product["kinetics"].to_dataset().sel(fluence=32.0, parameter="tau1")
    assert float(rows[0]["tau1"]) == float(own["value"])
    assert float(rows[0]["alpha"]) == float(product["mixture"].to_dataset()["alpha"].sel(fluence=32.0))
    # one that the config does not take is a row with the reason, and the next one goes on
    assert rows[1]["tau1"] == ""
    assert rows[1]["reason"].startswith("kinetics.power: ")
    assert f"no result: kinetics.power=7 mixture.min_delay=4.0: {rows[1]['reason']}" in done.stdout
    assert rows[2]["tau1"] not in ("", rows[0]["tau1"])
    assert "τ₁ (ps)" in done.stdout
    assert str(folder / "sweep.png") in done.stdout


@pytest.mark.long
def test_stages_before_the_choice_are_taken_from_the_stores(dataset, monkeypatch):
    config, out = dataset
    made, told, write = [], [], store.write_tree
    monkeypatch.setattr(store, "write_tree", lambda path, tree: made.append(path.name) or write(path, tree))
    swept = choices.run_choices(
        config,
        load_job(config, out),
        choices_of(["energy.bins=auto,{width: 3}"]),
        progress=lambda text, done, total: told.append((text, done, total)),
    )
    # labels know the energies, so they and the spectra are made anew; pulses are not, and there are no such bins
    assert made == ["labels.zarr", "spectra.zarr", "fits.zarr"]
    assert told == [("sweep", 0, 2), ("sweep", 1, 2), ("sweep", 2, 2)]
    assert list(swept.failed) == [1]
    assert np.isfinite(swept.table["alpha"].isel(choice=0)).all()
    made.clear()
    choices.run_choices(config, load_job(config, out), choices_of(["mixture.min_delay=4.0,90"]))
    assert made == ["fits.zarr"]


@pytest.mark.long
def test_other_detector_settings_reduce_the_stored_frames_again_beside_the_dataset(dataset):
    config, out = dataset
    before = files_of(out)
    swept = choices.run_choices(config, load_job(config, out), choices_of(["detector.nonlinearity=none"]))
    assert files_of(out) == before
    assert not swept.failed
    product = xr.open_datatree(versions.resolve(str(out)) / "product.zarr", engine="zarr")
    there = product["mixture"].to_dataset()["alpha"].values
    alpha = swept.table["alpha"].isel(choice=0).values
    assert not np.array_equal(alpha, there)
    np.testing.assert_allclose(alpha, there, rtol=0.05)


@pytest.mark.long
def test_processes_give_the_same_as_one_after_the_other(dataset, monkeypatch):
    config, out = dataset
    job, each = load_job(config, out), choices_of(["mixture.min_delay=4.0,90"])
    tables = []
    for pays in (False, True):
        monkeypatch.setattr(choices, "parallel_pays", lambda *_, pays=pays: pays)
        tables.append(choices.run_choices(config, job, each).table)
    xr.testing.assert_identical(*tables)
    # why there is no number is told
    assert "no spectrum at delays of 90 ps or later" in str(tables[0]["remark"].values[1])


def test_a_key_that_does_not_exist_and_a_dataset_that_is_not_there_are_told_at_once(dataset, tmp_path):
    config, out = dataset
    with pytest.raises(ConfigError, match=r"mixture\.min_dely: unknown key.*min_delay"):
        choices.run_choices(config, load_job(config, out), choices_of(["mixture.min_dely=1,2"]))
    with pytest.raises(ProductError, match="nothing was processed there; `trxas process"):
        choices.run_choices(config, load_job(config, tmp_path), choices_of(["kinetics.power=1,2"]))
    assert list(tmp_path.iterdir()) == []


def test_where_no_choice_gives_a_result_the_command_fails_with_the_first_reason(dataset):
    config, out = dataset
    done = trxas("sweep", config, "--out", out, "--set", "detector.calibration=abc,def")
    assert done.returncode == 1
    assert "no choice gave a result; the first: detector.calibration: 'abc' is not in" in done.stderr

"""Several DOS in a config: named columns, another energy zero, the model error in product and summary, and a DOS that is too short."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr
import yaml

from pipeline.errors import ConfigError, CoverageError
from pipeline.job import load_job
from pipeline.stages.fit import FIT
from pipeline.stages.publish import PUBLISH, published
from pipeline.storage import versions as publish
from pipeline.workflow import context_of
from schemas.reading import parse_config

ZERO = 520.0


@pytest.fixture(scope="module")
def experiment(processed, tiny, tmp_path_factory):
    """A processed experiment of our own with one file of four DOS columns, energies counted from `ZERO`."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(processed[0], folder / "out")
    energy, ground = np.loadtxt(tiny.out / "dos_ground.txt", skiprows=1).T
    excited = np.loadtxt(tiny.out / "dos_excited.txt", skiprows=1)[:, 1]
    table = np.stack([energy - ZERO, ground, excited, ground, 0.95 * excited], axis=1)
    np.savetxt(folder / "dos.txt", table, header="energy_eV a_ground a_excited b_ground b_excited", fmt="%.9f")
    np.savetxt(folder / "short.txt", table[: len(table) // 3, :2], header="energy_eV dos", fmt="%.9f")
    settings = yaml.safe_load((tiny.out / "config.yaml").read_text()) | {"raw": str(tiny.out / "raw")}
    settings["mixture"] |= {
        "dos_ground": {"file": "dos.txt", "column": "a_ground"},
        "dos_excited": {"file": "dos.txt", "column": "a_excited"},
        "energy_zero": ZERO,
        "alternatives": [
            {
                "name": "b",
                "dos_ground": {"file": "dos.txt", "column": "b_ground"},
                "dos_excited": {"file": "dos.txt", "column": "b_excited"},
            }
        ],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder, publish.resolve(processed[0])


def test_columns_and_alternatives_reach_product_and_summary(experiment, all_figures):
    folder, before = experiment
    job = load_job(folder / "config.yaml")
    assert FIT.run(context_of(job))
    assert not FIT.run(context_of(job))
    assert PUBLISH.run(context_of(job))
    version = published(job)
    assert publish.check(version) == []
    old, new = (xr.open_datatree(v / "product.zarr")["mixture"].to_dataset() for v in (before, version))
    # the same DOS from one file and another zero
    np.testing.assert_allclose(new["alpha"], old["alpha"], rtol=1e-4)
    # one DOS: what the flat field cannot know is all there is
    assert (old["alpha_model_stderr"] > 0).all()
    assert new["model"].values.tolist() == ["main", "b"]
    np.testing.assert_allclose(new["alpha_by_model"].sel(model="main"), new["alpha"])
    difference = np.abs(new["alpha_by_model"].diff("model").values[0])
    np.testing.assert_allclose(new["alpha_model_stderr"], np.hypot(difference, old["alpha_model_stderr"]), rtol=1e-3)
    assert (difference > 0.005 * new["alpha"]).all()
    summary = json.loads((version / "summary.json").read_text())
    np.testing.assert_allclose([row["model_stderr"] for row in summary["alpha"]], new["alpha_model_stderr"])
    assert summary["slope_model_stderr"] == pytest.approx(float(new["slope_model_stderr"]))
    assert (version / "figures" / "mixture.png").stat().st_size > 20_000


def test_a_dos_that_is_too_short_is_an_error_and_costs_no_product(experiment):
    folder, _ = experiment
    before = publish.resolve(folder / "out")
    job = load_job(
        folder / "config.yaml",
        None,
        ["mixture.alternatives=[{name: c, dos_ground: short.txt, dos_excited: short.txt}]"],
    )
    with pytest.raises(CoverageError, match=r"mixture: model c: the ground DOS covers .*mixture.energy_zero"):
        FIT.run(context_of(job))
    assert publish.resolve(folder / "out") == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["mixture.dos_ground={file: dos.txt, column: c_ground}"], "no DOS column 'c_ground'; there are a_ground"),
        (["mixture.dos_ground=dos.txt"], "several DOS columns .*name the one to use"),
        (
            ["mixture.dos_ground={file: nowhere.txt}"],
            "mixture.dos_ground: no file /.*nowhere.txt; names are relative to the config file",
        ),
        (["mixture.alternatives=[{name: c, dos_ground: x.txt, dos_excited: short.txt}]"], r"alternatives \(c\)"),
    ],
)
def test_what_is_wrong_with_the_files_is_said(experiment, changes, message):
    with pytest.raises(ConfigError, match=message):
        FIT.run(context_of(load_job(experiment[0] / "config.yaml", None, changes)))


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({"alternatives": [{"name": "b", "dos_ground": "g", "dos_excited": "e"}]}, "beside them"),
        (
            {
                "dos_ground": "g",
                "dos_excited": "e",
                "alternatives": [{"name": "main", "dos_ground": "g", "dos_excited": "e"}],
            },
            "names of their own",
        ),
        ({"dos_ground": {"file": "g", "columns": "x"}, "dos_excited": "e"}, "columns: unknown key"),
    ],
)
def test_what_is_wrong_with_the_section_is_said(mixture, message):
    with pytest.raises(ValueError, match=message):
        parse_config(
            {"dataset": "x", "runs": {"dark": 1, "energy_scans": [{"run": 2, "fluence": 1}]}, "mixture": mixture}
        )

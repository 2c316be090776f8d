"""Every verb of the command on a real product: output, exit codes, files."""

import json
import shutil

import pytest
import xarray as xr
import zarr

from flows.cli import main
from pipeline.storage import versions as publish
from pipeline.storage.hashes import code_version
from schemas.products import GROUPS, Summary
from schemas.reading import load_config
from tests.stamp import restamp

# what a test damages it consolidates again, which zarr remarks on
pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")


@pytest.fixture
def run(capsys):
    """Run a verb in this process; returns exit code, stdout, stderr."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return call


@pytest.fixture
def product(processed):
    return publish.resolve(processed[0])


def test_show_prints_the_numbers_and_json_matches_its_schema(run, product):
    code, out, _ = run("show", product)
    assert code == 0
    assert "tau1" in out
    assert "α" in out
    code, out, _ = run("show", product, "--json")
    assert code == 0
    summary = Summary.model_validate_json(out)
    assert summary.dataset == "tiny"
    profile = xr.open_datatree(product / "product.zarr").attrs["instrument"]
    assert (summary.instrument.name, summary.instrument.hash) == ("scs-dssc-boz", profile["hash"])
    assert profile["roles"]["energy"]["source"] == "SA3_XTD10_MONO/MDL/PHOTON_ENERGY"


def test_validate_names_each_fault(run, product, tmp_path):
    broken = tmp_path / "v0001"
    shutil.copytree(product, broken)
    group = zarr.open_group(broken / "product.zarr", mode="r+")
    del group["spectra/delta_xas_stderr"]
    group["peaks/position"].attrs["units"] = "meV"
    zarr.consolidate_metadata(broken / "product.zarr")
    (broken / "summary.json").write_text('{"dataset": 3}')
    code, _, err = run("validate", broken)
    assert code == 1
    assert "spectra: variable delta_xas_stderr is missing" in err
    assert "peaks/position: units 'meV' found, 'eV' expected" in err
    assert "summary.json: dataset" in err
    assert run("validate", product)[0] == 0


def test_the_version_is_that_of_the_products(run):
    assert run("--version") == (0, f"{code_version()}\n", "")


def test_inspect_tells_what_moved(run, tiny):
    code, out, _ = run("inspect", tiny.out / "raw" / "r0003")
    assert code == 0
    assert "PHOTON_ENERGY actualEnergy: 526" in out
    assert not any("LT3" in line for line in out.splitlines() if "moved" in line)
    assert "control    SCS_ILH_LAS/MOTOR/LT3: actualPosition" in out
    assert "instrument SCS_BLU_XGM/XGM/DOOCS:output: data.intensitySa3TD [1000]" in out
    report = json.loads(run("inspect", tiny.out / "raw" / "r0006", "--json")[1])
    assert report["detector"]["frames"] == tiny.run(6)["n_frames"]
    assert list(report["moved"]) == ["SCS_ILH_LAS/MOTOR/LT3 actualPosition"]
    assert run("inspect", tiny.out / "nothing")[0] == 1
    code, _, err = run("inspect", tiny.out / "raw")
    assert code == 1
    assert "holds runs (1, 2, 3, 4, 5, 6)" in err
    assert "raw/r0001" in err


def test_init_writes_a_config_that_can_be_processed(run, tiny, faults, tmp_path):
    code, out, _ = run("init", tiny.out / "raw", "-o", tmp_path / "c.yaml")
    assert code == 0
    kinds = dict(line.split()[1:3] for line in out.splitlines() if line.startswith("run"))
    assert kinds == {str(r["run"]): r["kind"] for r in tiny.truth["runs"]}
    config = load_config(tmp_path / "c.yaml")
    assert (config.runs.dark, config.runs.flat_field) == (1, 2)
    assert [s.run for s in config.runs.delay_scans] == [6]
    assert config.delay.t0 == "fit"
    # the folder is looked at before the file
    assert "kept" in run("init", tiny.out / "raw", "-o", tmp_path / "c.yaml")[2]
    assert "is not a folder" in run("init", tmp_path / "nowhere", "-o", tmp_path / "c.yaml")[2]
    assert "itself is a run" in run("init", tiny.out / "raw" / "r0001", "-o", tmp_path / "d.yaml")[2]


def test_init_finds_sources_of_other_names_and_takes_changes(run, faults, tmp_path):
    """The config that the simulator wrote knows the names; `init` is told nothing."""
    known = load_config(faults.out / "config.yaml")
    assert run("init", faults.out / "raw", "-o", tmp_path / "c.yaml")[0] == 0
    found = load_config(tmp_path / "c.yaml")
    assert found.sources["energy"].source == known.sources["energy"].source
    stage = found.sources["delay_stage"]
    assert (stage.source, stage.key) == (known.sources["delay_stage"].source, known.sources["delay_stage"].key)
    assert [s.run for s in found.runs.delay_scans] == [24]
    assert known.sources["arrival"].source in (tmp_path / "c.yaml").read_text()
    arrival = f"sources.arrival={{source: '{known.sources['arrival'].source}'}}"
    changes = ("dataset=mine", arrival, "delay.t0=80.5", "kinetics.power=1")
    assert run("init", faults.out / "raw", "-o", tmp_path / "d.yaml", "--set", *changes)[0] == 0
    changed = load_config(tmp_path / "d.yaml")
    assert changed.sources == {**found.sources, "arrival": changed.sources["arrival"]}
    assert changed.sources["arrival"].source == known.sources["arrival"].source
    assert (changed.dataset, changed.delay.t0, changed.kinetics.power) == ("mine", 80.5, 1)
    assert changed.runs == found.runs
    code, _, err = run("init", faults.out / "raw", "-o", tmp_path / "e.yaml", "--set", "sources.energy.sorce=x")
    assert (code, err) == (2, "trxas: sources.energy.sorce: unknown key; did you mean source?\n")
    assert not (tmp_path / "e.yaml").exists()


@pytest.mark.parametrize(("name", "file"), [("csv", "spectra.csv"), ("xdi", "f16_t4.8ps.xdi"), ("nexus", "tiny.nxs")])
def test_export_prints_the_files_it_wrote(run, product, tmp_path, name, file):
    code, out, _ = run("export", product, "--format", name, "--out", tmp_path)
    assert code == 0
    assert str(tmp_path / file) in out.split()
    assert {str(p) for p in tmp_path.iterdir()} == set(out.split())


def test_show_compares_two_versions(run, product, tmp_path):
    """Against itself here; what is told of every kind of change is tested on small trees."""
    copied = tmp_path / "v0002"
    shutil.copytree(product, copied)
    code, _, err = run("show", product, copied)
    assert code == 1
    assert "v0002: is damaged (summary.json: is that of v0001)" in err
    restamp(copied)
    code, out, _ = run("show", product, copied)
    assert code == 0
    assert "same arrays, bit for bit" in out
    group = zarr.open_group(copied / "product.zarr", mode="r+")
    group["kinetics/value"][...] = group["kinetics/value"][...] + 0.01
    group.attrs["config"] = group.attrs["config"].replace('"power":2', '"power":1')
    restamp(copied)
    shutil.copytree(product, tmp_path / "v0001")
    code, out, _ = run("show", copied, "--against", "v0001", "--json")
    assert code == 0
    compared = json.loads(out)
    assert compared["config"] == [{"key": "kinetics.power", "old": 2, "new": 1}]
    assert {r["name"].split()[0] for r in compared["numbers"] if r["difference"]} >= {"tau1", "tau2", "tau3"}
    assert run("show", product, copied, "--against", copied)[0] == 2
    assert run("show", product, tmp_path / "nothing")[0] == 1
    code, _, err = run("show", copied, "--against", "v0009")
    assert code == 1
    assert "v0009: no such version; there: v0001, v0002" in err


def test_an_older_product_opens_and_says_its_version(run, product, tmp_path):
    old = tmp_path / "v0001"
    shutil.copytree(product, old)
    group = zarr.open_group(old / "product.zarr", mode="r+")
    group.attrs["schema_version"] = 0
    for name, spec in GROUPS.items():
        for variable, about in spec.expanded() if name in group else ():
            if variable in group[name] and (not about.required or name == "quality"):
                del group[f"{name}/{variable}"]
    zarr.consolidate_metadata(old / "product.zarr")
    summary = json.loads((old / "summary.json").read_text())
    summary["schema_version"] = 0
    del summary["peaks"]
    (old / "summary.json").write_text(json.dumps(summary))
    restamp(old, older=True)
    code, out, _ = run("show", old)
    assert code == 0
    assert "schema version 0; this program writes 2" in out
    code, out, err = run("validate", old)
    assert (code, err) == (0, "")
    assert "valid (schema version 0" in out
    # what it has must be right all the same, and one of a later program is not guessed at
    group["spectra/delta_xas"].attrs["units"] = "mOD"
    zarr.consolidate_metadata(old / "product.zarr")
    assert "spectra/delta_xas: units 'mOD' found, '1' expected" in run("validate", old)[2]
    group.attrs["schema_version"] = 99
    zarr.consolidate_metadata(old / "product.zarr")
    assert "update trxas" in run("validate", old)[2]
    assert run("export", old, "--format", "csv", "--out", tmp_path / "export")[0] == 1
    (old / "summary.json").write_text(json.dumps(summary | {"schema_version": 99}))
    restamp(old, older=True)
    assert run("export", old, "--format", "csv", "--out", tmp_path / "export")[0] == 0


def test_common_options_may_stand_before_the_verb(run, product):
    code, before, _ = run("--no-progress", "--log-level", "ERROR", "show", product)
    assert (code, before) == (0, run("show", product, "--log-level", "ERROR", "--no-progress")[1])


def test_plan_and_doctor(run, product):
    code, out, _ = run("plan", product)
    assert code == 0
    assert "tau1 = " in out
    code, out, _ = run("doctor")
    assert code == 0
    assert "numpy" in out


def test_working_stores_cannot_go_to_a_url(run, tiny):
    code, _, err = run("process", tiny.out / "config.yaml", "--work", "memory://stores")
    assert code == 2
    assert err.startswith("trxas: --work memory://stores: must be a folder on a file system")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["bogus"], 2, "Unknown command"),
        (["process"], 2, "config"),
        (["process", "nowhere.yaml"], 2, "cannot be read"),
        (["show", "nowhere"], 1, "no product there"),
        (["export", "nowhere", "--format", "xls"], 2, "format"),
        (["simulate", "nothing", "--out", "x"], 2, "demo"),
    ],
)
def test_wrong_use_is_one_line_and_the_right_code(run, arguments, code, text):
    found, _, err = run(*arguments)
    assert found == code
    assert len(err.strip().splitlines()) == 1
    assert text in err

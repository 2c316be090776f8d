"""A stage's code is all that it imports: a change of any byte of it makes the result stale, and nothing else does."""

import ast
import json
import shutil
import subprocess
import sys

import pytest

from pipeline import workflow
from pipeline.stages import code
from pipeline.stages.code import PACKAGES, ROOT, code_hash, imported_modules
from pipeline.workflow import STAGES

MODULES = {stage.name: type(stage).__module__ if stage.makes == {} else stage.make.__module__ for stage in STAGES}

SCRIPT = """
import json, os, shutil, sys
import matplotlib.pyplot, numba, scipy.optimize, scipy.special, xarray, zarr
config, out, modules, calls = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
for name, module in modules.items():
    sys.stdout.flush()
    if os.fork():
        assert os.wait()[1] == 0, name
        continue
    import importlib
    made = importlib.import_module(module)
    stage = next(s for s in vars(made).values() if hasattr(s, "needs") and getattr(s, "name", "") == name)
    if calls:
        from pathlib import Path
        from pipeline.compute.workers import Workers
        from pipeline.job import load_job
        from pipeline.stages.base import Context
        job = load_job(Path(config), out)
        context = Context(job, Workers(job.config.compute))
        from pipeline.stages.inventory import INVENTORY
        for run in job.all_runs:
            INVENTORY.run(context, run)
        for run in stage.runs(job)[:1]:
            stage.forget(job, run, "frames")
            # a calibration that is there is taken, whoever made it
            shutil.rmtree(job.calibrations if name == "calibration" else out + "/nothing", ignore_errors=True)
            assert stage.run(context, run)
    print(json.dumps([name, sorted(m for m in sys.modules if m.partition(".")[0] in ("pipeline", "schemas"))]))
    sys.stdout.flush()
    os._exit(0)
"""


def loaded(config, out, *, run):
    """Return our modules that each stage has loaded in a process of its own, where nothing else was imported."""
    command = [sys.executable, "-c", SCRIPT, str(config), str(out), json.dumps(MODULES), json.dumps(run)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: set(modules) for name, modules in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def imported():
    return loaded("", "", run=False)


def test_the_code_of_a_stage_is_what_python_imports_for_it(imported):
    for name, module in MODULES.items():
        found = set(imported_modules(module))
        assert imported[name] <= found
        assert "pipeline.workflow" not in found


def test_no_stage_reaches_code_that_is_not_its_own(processed, tiny, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(processed[0], out)
    for name, modules in loaded(tiny.out / "config.yaml", out, run=True).items():
        assert modules <= set(imported_modules(MODULES[name])), name


def test_a_byte_changed_anywhere_makes_exactly_the_right_stages_stale(imported, tmp_path):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    before = {name: code_hash(module, tmp_path) for name, module in MODULES.items()}
    assert before == {name: code_hash(module) for name, module in MODULES.items()}
    for name in sorted(set.union(*imported.values())):
        path = tmp_path.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        source = path.read_bytes()
        path.write_bytes(source + b"\n")
        stale = {stage for stage, module in MODULES.items() if code_hash(module, tmp_path) != before[stage]}
        path.write_bytes(source)
        assert {stage for stage in MODULES if name in imported[stage]} <= stale, name
        assert stale == {stage for stage, module in MODULES.items() if name in imported_modules(module)}, name


def test_code_that_a_hand_kept_list_missed_counts(imported):
    for module in ("pipeline.euxfel.chunkread", "pipeline.stages.blocks"):
        assert module in imported_modules(MODULES["pulses"])
    # a cube is as good as the code that read and filled it
    frames = imported_modules("pipeline.stages.frames")
    for module in ("frame_source", "chunkread", "reader", "frame_index"):
        assert f"pipeline.euxfel.{module}" in frames
    assert "pipeline.storage.cube" in frames
    assert "pipeline.science.detector.beam_photons" not in frames
    for module in ("accumulate", "binning", "edges"):
        assert f"pipeline.science.sums.{module}" in imported_modules(MODULES["labels"])
    # figures change no number
    assert not any("plots" in m for m in imported_modules(MODULES["fits"]))


def test_nothing_is_imported_by_a_name_made_at_run_time():
    """Such code would not be found."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "import_module(" not in text, path
            assert "__import__(" not in text, path


def test_stages_need_only_what_runs_before_them():
    for i, stage in enumerate(workflow.STAGES):
        assert all(need in workflow.STAGES[:i] for need in stage.needs)


def test_a_parser_that_trips_over_another_thread_is_asked_again(tmp_path, monkeypatch):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("import schemas.names\n")
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "names.py").write_text("")
    parse, calls = ast.parse, []

    def trips(source):
        calls.append(source)
        if len(calls) == 1:
            raise SystemError("AST constructor recursion depth mismatch (before=36, after=71)")
        return parse(source)

    monkeypatch.setattr(ast, "parse", trips)
    assert code.imported_modules("pipeline", tmp_path) == ["pipeline", "schemas.names"]
    assert len(calls) == 3

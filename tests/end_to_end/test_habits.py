"""The notebook and the DAMNIT context that the documentation offers, run on a real product."""

import re
import shutil
import sys
import types
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from trxas import open as open_product

DOCS = Path(__file__).parents[2] / "docs"


def executed(notebook, folder, monkeypatch):
    """Run a notebook in a folder; returns what its cells show."""
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent))
    monkeypatch.setenv("IPYTHONDIR", str(folder))
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]


def test_the_notebook_runs_from_product_to_figures(processed, tmp_path, monkeypatch):
    stored = nbformat.read(DOCS / "notebooks" / "product_to_figure.ipynb", as_version=4)
    nbformat.validate(stored)
    code = [c for c in stored.cells if c.cell_type == "code"]
    assert not any(c.outputs or c.execution_count for c in code), "strip the outputs before committing"
    monkeypatch.setenv("TRXAS_PRODUCT", str(processed[0]))
    outputs = executed(stored, tmp_path, monkeypatch)
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 3
    assert all(len(o["data"]["image/png"]) > 5000 for o in pictures)
    assert not [o for o in outputs if o.output_type == "stream" and o.name == "stderr"]
    text = "".join(o["data"]["text/plain"] for o in outputs if o.output_type == "execute_result")
    tau3 = open_product(processed[0]).tree["kinetics"].to_dataset().sel(fluence=32.0, parameter="tau3")
    assert f"{float(tau3['value']):.4f}"[:-1] in text
    assert open_product(processed[0]).where in text


def test_the_notebook_runs_from_pulses_to_another_fit(processed, tmp_path, monkeypatch):
    path = DOCS / "notebooks" / "pulses_to_figure.ipynb"
    stored = nbformat.read(path, as_version=4)
    nbformat.validate(stored)
    code = [c for c in stored.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code), "execute it before committing: readers look at its figures"
    assert path.stat().st_size < 500_000
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|tmp|work|gpfs|Users)/", text), "leave out paths of a machine"
    before = [o for c in code for o in c.outputs]
    # what was processed before is current: the same runs are simulated again
    shutil.copytree(processed[0], tmp_path / "experiment" / "out")
    outputs = executed(stored, tmp_path, monkeypatch)
    assert [o.output_type for o in outputs] == [o.output_type for o in before]
    assert [len(o["data"]["image/png"]) > 5000 for o in outputs if "image/png" in o.get("data", {})] == [True] * 3
    (printed,) = (o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")
    assert [line.split()[:2] for line in printed.splitlines()] == [
        [label, f"tau{n}"] for label in ("fixed", "measured") for n in (1, 2, 3)
    ]
    tau3 = open_product(processed[0]).tree["kinetics"].to_dataset().sel(fluence=32.0, parameter="tau3")
    assert f"fixed     tau3  {float(tau3['value']):.2f} ps" in printed


class Cell:
    """What DAMNIT's Cell keeps of what it is given."""

    def __init__(self, data, summary=None, summary_value=None, background=None):
        self.data, self.summary, self.shown, self.background = data, summary, summary_value, background


class Skip(Exception):
    pass


@pytest.fixture(scope="module")
def damnit(processed):
    """The variables of the context file, collected as DAMNIT does; DAMNIT itself runs at the facility only."""
    found = {}

    def variable(title, units=None, summary=None):
        def keep(function):
            assert function.__doc__
            annotations = {k: v for k, v in function.__annotations__.items() if k != "run"}
            assert annotations == {"number": "meta#run_number"}
            found[title] = lambda number: function(None, number)
            return function

        return keep

    stand_in = types.ModuleType("damnit_ctx")
    stand_in.Cell, stand_in.Skip, stand_in.Variable = Cell, Skip, variable
    text = (DOCS / "how-to" / "damnit" / "context.py").read_text(encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "damnit_ctx", stand_in)
        space = {"__name__": "context"}
        exec(compile(text, "context.py", "exec"), space)
    space["RESULTS"] = processed[0]
    return found


def test_damnit_shows_what_the_product_says_of_a_run(damnit, processed):
    summary = open_product(processed[0]).summary
    assert damnit["trxas/Dataset"](6) == f"tiny {summary['version']} (delay scan)"
    assert damnit["trxas/Fluence"](5) == 16.0
    row = next(r for r in summary["runs"] if r["run"] == 3)
    assert damnit["trxas/Noise"](3).data == row["noise_ratio"]
    assert damnit["trxas/Pulses used"](3).data == pytest.approx(100 * row["pulses_used"] / row["frames_expected"])
    alpha = {a["fluence"]: a["alpha"] for a in summary["alpha"]}
    for run, fluence in ((5, 16.0), (3, 32.0)):
        cell = damnit["trxas/α"](run)
        assert cell.data == pytest.approx([100 * alpha[fluence]["value"], 100 * alpha[fluence]["stderr"]])
    fit = next(k for k in summary["kinetics"] if k["fluence"] == 32.0)["parameters"]
    for title, name in (("trxas/τ1", "tau1"), ("trxas/τ2", "tau2"), ("trxas/τ3", "tau3")):
        cell = damnit[title](6)
        assert cell.data == [fit[name]["value"], fit[name]["stderr"]]
        assert ("not determined" in cell.shown) != fit[name]["identifiable"]
    said = [*row["audit"], *(w["text"] for w in summary["warnings"] if w.get("run") == 3)]
    assert damnit["trxas/Audit"](3).data == ("; ".join(said) or "nothing found")


def test_damnit_skips_what_is_not_known(damnit):
    for title, number, reason in (
        ("trxas/Dataset", 99, "no trxas product holds run 99"),
        ("trxas/Fluence", 2, "no fluence"),
        ("trxas/τ1", 5, "no value"),
        ("trxas/α", 2, "no excited fraction"),
    ):
        with pytest.raises(Skip, match=reason):
            damnit[title](number)

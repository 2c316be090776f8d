"""Columns for DAMNIT from trxas products: what a run became of, and the α and τ of the dataset that it is part of.

Copy what follows into the context file of your DAMNIT database and set RESULTS. Only `summary.json` and the metadata of
the product are read, so DAMNIT's Python needs nothing of trxas. Runs without a product are skipped; after a product was
published, `damnit reprocess all --match trxas` fills them in.
"""

# ruff: noqa: F821 - the annotations are DAMNIT's words, not Python names

import json
import math
from pathlib import Path

from damnit_ctx import Cell, Skip, Variable

RESULTS = Path("/gpfs/exfel/exp/SCS/YYYYMM/pNNNNNN/scratch/trxas")
"""Output folder of `trxas process`; holds `products/`."""

GOOD, BAD = "#c8e6c9", "#ffcdd2"


def _products():
    """Yield summary and config of the latest version of every dataset."""
    for pointer in sorted(RESULTS.glob("products/*/latest.json")):
        version = pointer.parent / json.loads(pointer.read_text())["path"]
        summary = json.loads((version / "summary.json").read_text())
        root = json.loads((version / "product.zarr" / "zarr.json").read_text())
        yield summary, json.loads(root["attributes"]["config"])


def _of_run(number):
    """Return the summary whose dataset holds a run, what it says about the run, and the run's fluence [mJ/cm²]."""
    for summary, config in _products():
        for row in summary["runs"]:
            if row["run"] == number:
                scans = [*config["runs"]["energy_scans"], *config["runs"]["delay_scans"]]
                fluences = [s["fluence"] for s in scans if s["run"] == number]
                return summary, row, fluences[0] if fluences else None
    raise Skip(f"no trxas product holds run {number}")


def _with_error(value, stderr, *, good=True):
    """Return a cell that shows value ± error and holds both; marked where the data do not determine the value."""
    if value is None:
        raise Skip("the data give no value")
    digits = 3 if not stderr else max(0, 1 - math.floor(math.log10(stderr)))
    text = f"{value:.{digits}f}" + ("" if stderr is None else f" ± {stderr:.{digits}f}")
    shown = text if good else f"not determined ({text})"
    return Cell(
        [value, float("nan") if stderr is None else stderr], summary_value=shown, background=None if good else BAD
    )


def _tau(number, name):
    summary, _, fluence = _of_run(number)
    for fit in summary["kinetics"]:
        if fit["fluence"] == fluence:
            tau = fit["parameters"][name]
            return _with_error(tau["value"], tau["stderr"], good=tau["identifiable"])
    raise Skip(f"no kinetic fit at the fluence of run {number}")


@Variable(title="trxas/Dataset")
def trxas_dataset(run, number: "meta#run_number"):
    """Dataset and version that hold the run."""
    summary, row, _ = _of_run(number)
    return f"{summary['dataset']} {summary['version']} ({row['kind'].replace('_', ' ')})"


@Variable(title="trxas/Fluence", units="mJ/cm²")
def trxas_fluence(run, number: "meta#run_number"):
    """Pump fluence of the run, from the config."""
    fluence = _of_run(number)[2]
    if fluence is None:
        raise Skip("a calibration run has no fluence")
    return fluence


@Variable(title="trxas/Noise", summary="mean")
def trxas_noise(run, number: "meta#run_number"):
    """Scatter of pumped/unpumped over photon noise; 1 is the limit, above 1.5 something else adds noise."""
    ratio = _of_run(number)[1]["noise_ratio"]
    if ratio is None:
        raise Skip("no pulse of the run is used")
    return Cell(ratio, summary_value=round(ratio, 2), background=GOOD if ratio < 1.5 else BAD)


@Variable(title="trxas/Pulses used", units="%")
def trxas_pulses_used(run, number: "meta#run_number"):
    """Pulses in the result over pulses of the run."""
    row = _of_run(number)[1]
    return Cell(100 * row["pulses_used"] / max(row["frames_expected"], 1), summary="mean")


@Variable(title="trxas/Audit")
def trxas_audit(run, number: "meta#run_number"):
    """What the audit of the run and the warnings of its dataset say."""
    summary, row, _ = _of_run(number)
    found = [*row["audit"], *(w["text"] for w in summary["warnings"] if w.get("run") == number)]
    return Cell("; ".join(found) or "nothing found", background=BAD if found else GOOD)


@Variable(title="trxas/α", units="%")
def trxas_alpha(run, number: "meta#run_number"):
    """Excited fraction at the fluence of the run, from all runs of the dataset."""
    summary, _, fluence = _of_run(number)
    for row in summary["alpha"]:
        if row["fluence"] == fluence and row["alpha"]["value"] is not None:
            stderr = row["alpha"]["stderr"]
            return _with_error(100 * row["alpha"]["value"], None if stderr is None else 100 * stderr)
    raise Skip(f"no excited fraction at the fluence of run {number}")


@Variable(title="trxas/τ1", units="ps")
def trxas_tau1(run, number: "meta#run_number"):
    """First time of the kinetic fit at the fluence of the run."""
    return _tau(number, "tau1")


@Variable(title="trxas/τ2", units="ps")
def trxas_tau2(run, number: "meta#run_number"):
    """Second time of the kinetic fit at the fluence of the run."""
    return _tau(number, "tau2")


@Variable(title="trxas/τ3", units="ps")
def trxas_tau3(run, number: "meta#run_number"):
    """Third time of the kinetic fit at the fluence of the run."""
    return _tau(number, "tau3")

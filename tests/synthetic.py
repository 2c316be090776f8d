"""A product like the seed experiment's, made from the forward model and fitted and published by the pipeline itself.

No frames are simulated, so that it takes seconds and still has every group, real fits and real errors.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import xarray as xr

from pipeline.results.summary import summarise
from pipeline.science import forward
from pipeline.simulate.timetable import build_model
from pipeline.stages import fit as fits
from pipeline.storage import versions as publish
from schemas.config import Config
from schemas.products import GROUPS, SCHEMA_VERSION
from schemas.scenario import Scenario

DELAYS = (-0.5, 0.0, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.8, 4.8, 10.0, 59.8)
FLUENCES = (8.0, 16.0, 32.0)
AUDIT = ("3 of 600 trains have no frames: trains 10017 <b>to</b> 10019",)


def model() -> forward.ForwardModel:
    """The simulator's sample with its default numbers."""
    runs = [{"run": 1, "kind": "dark", "trains": 1}]
    return build_model(Scenario.model_validate({"name": "seed", "seed": 1, "runs": runs}))


def config(dataset: str) -> Config:
    runs = {
        "dark": 1,
        "flat_field": 2,
        "energy_scans": [{"run": 3 + i, "fluence": f} for i, f in enumerate(FLUENCES)],
        "delay_scans": [{"run": 6, "fluence": 8.0}, {"run": 7, "fluence": 32.0}],
    }
    values = {"schema": 1, "dataset": dataset, "raw": "raw", "instrument": "scs-dssc-boz", "runs": runs}
    kinetics = {"irf_sigma": 0.04, "t_d": "fit", "global": False}
    mixture = {"window": [526.5, 531.0], "min_delay": 4.0}
    return Config.model_validate(values | {"kinetics": kinetics, "mixture": mixture, "delay": {"t0": 120.0}})


def groups(noise: float = 4e-4, seed: int = 7, *, scans: bool = True) -> dict[str, xr.Dataset]:
    """`spectra`, `delay_scan` and `quality` with normal noise; 16 mJ/cm² was measured at two delays only."""
    rng, sample = np.random.default_rng(seed), model()
    energy = xr.DataArray(np.arange(526.4, 535.01, 0.2), dims="energy")
    delay = xr.DataArray(np.array(DELAYS), dims="delay")
    truth = xr.concat([forward.delta_xas(sample, energy, delay, fluence=f) for f in FLUENCES], "fluence")
    truth = truth.transpose("fluence", "delay", "energy").assign_coords(
        fluence=list(FLUENCES), delay=delay.values, energy=energy.values
    )
    measured = xr.ones_like(truth, dtype=bool)
    measured[1] = measured[1] & np.isin(truth["delay"], [0.2, 4.8])[:, None]
    ground = forward.ground_od(sample, energy).assign_coords(energy=energy.values)
    spectra = _measurement(truth, ground, noise, rng, measured)
    fine = np.concatenate(
        [[-1.0, -0.3], np.arange(-0.06, 0.43, 0.02), np.arange(0.46, 1.6, 0.06), np.geomspace(2, 60, 10)]
    )
    points = xr.DataArray(fine, dims="delay", coords={"delay": fine})
    traces = xr.concat([forward.trace(sample, points, fluence=f) for f in (8.0, 32.0)], "scan").transpose(
        "scan", "delay"
    )
    here = forward.ground_od(sample, xr.DataArray(528.2))
    scan = _measurement(traces, here, noise, rng, xr.ones_like(traces, dtype=bool))
    scan = scan.assign_coords(fluence=("scan", [8.0, 32.0]), energy=("scan", [528.2, 528.2]))
    if not scans:
        scan = scan.isel(scan=slice(0, 0), delay=slice(0, 0))
    return {"spectra": spectra, "delay_scan": scan, "quality": _quality()}


def _measurement(truth, ground, noise, rng, measured) -> xr.Dataset:
    change = (truth + noise * rng.standard_normal(truth.shape)).where(measured)
    unpumped = (xr.zeros_like(truth) + ground + noise * rng.standard_normal(truth.shape)).where(measured)
    error = xr.full_like(truth, noise).where(measured)
    counts = xr.full_like(truth, 400, dtype=np.int64).where(measured, 0)
    values = {"od_unpumped": unpumped, "od_pumped": unpumped + change, "delta_xas": change}
    constant = {"flat_field_constant": ((), -0.08), "flat_field_constant_stderr": ((), 1e-5)}
    return xr.Dataset(
        constant
        | values
        | {f"{n}_stderr": error for n in values}
        | {"delta_xas_stderr_shot": error * 0.97, "n_pulses": counts, "n_trains": counts // 20}
        | {"delta_xas_stderr_systematic": 0 * error, "reference_stderr": 0 * error, "reference": _flat_field(truth)}
        | {"photons_pumped": counts * 2.0e4, "photons_unpumped": counts * 2.4e4}
    )


def _flat_field(truth) -> xr.DataArray:
    row = truth if "scan" in truth.dims else truth.isel(energy=0, drop=True)
    return xr.full_like(row, 0).astype("U14").where(False, "flat_field")


def _quality() -> xr.Dataset:
    """Fill whatever the schema asks for: counts are 0, probabilities 0.5, ratios 1, the rest tiny, and a few told."""
    sizes = {"run": 6, "pulse": 8}
    told = {"frames_expected": 24000, "frames_read": 23960, "pulses_used": 23410}
    told |= {"dropped_low_intensity": 480, "dropped_saturated": 70, "saturated_fraction": 0.003}
    told |= {"noise_ratio": np.array([1.0, 1.01, 0.99, 1.02, 1.7, 1.0])}
    told |= {"null_chi2": np.array([0.9, 1.0, 1.1, 1.02, 0.97, 1.2])}
    data = {}
    for name, variable in GROUPS["quality"].expanded():
        shape = [sizes.get(dim, 2) for dim in variable.dims]
        usual = (
            8e-5
            if name.endswith("_stderr")
            else 0.5
            if "_p_" in f"{name}_"
            else 1.0
            if "chi2" in name or "ratio" in name
            else 1e-5
        )
        value = told.get(name, 0 if variable.kind == "int" else usual)
        data[name] = (
            variable.dims,
            np.broadcast_to(value, shape).astype(np.int64 if variable.kind == "int" else float),
        )
    coords = {}
    for name, variable in GROUPS["quality"].coords.items():
        shape = [sizes.get(dim, 2) for dim in variable.dims]
        coords[name] = (
            variable.dims,
            np.arange(shape[0]) + (2 if name == "run" else 0 if variable.kind == "int" else 1.0),
        )
    return xr.Dataset(data, coords=coords)


@cache
def fitted(dataset: str, **options) -> tuple[xr.DataTree, dict]:
    """Return a product's tree without stamps, and its summary; made once, so copy before you change it."""
    settings = config(dataset)
    data = groups(**options)
    results, notes = fits.fit_all(data["spectra"], data["delay_scan"], settings, {})
    results.pop("model_results")
    described = {f"/{name}": GROUPS[name].describe(ds) for name, ds in (data | results).items()}
    tree = xr.DataTree.from_dict({"/": xr.Dataset(), **described})
    tree.attrs = {
        "schema_version": SCHEMA_VERSION,
        "dataset": dataset,
        "code_version": "0.1.0",
        "config": settings.model_dump_json(by_alias=True),
        "inputs": {"r0003": [{"name": "RAW-R0003-DSSC15-S00000.h5", "sha256": "ab" * 32, "size": 48344088}]},
        "environment": {"python": "3.11", "numpy": np.__version__},
    }
    return tree, summarise(tree, settings, audits={3: list(AUDIT)}, notes=notes)


def publish_version(out: Path, tree: xr.DataTree, summary: dict) -> Path:
    """Publish the tree as the next version, with one tiny picture instead of all figures."""

    def draw(_tree, _summary, folder: Path) -> None:
        from matplotlib.figure import Figure

        Figure(figsize=(1, 1)).savefig(folder / "spectra.png")

    return publish.publish(out / "products" / summary["dataset"], tree, json.loads(json.dumps(summary)), draw=draw)

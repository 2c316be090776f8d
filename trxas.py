"""What people import: `import trxas; product = trxas.open("results")`.

Every function is a few lines around `pipeline`, whose modules say more. Errors are one line that names the run, the
source, the value and the way out; their family is `pipeline.errors.TrxasError`.

A file `pipeline.py` or `schemas.py` of yours may lie beside your notebook: `import trxas` finds its own packages all the
same, and from then on `import pipeline` in that session gives the package of trxas. If yours was imported before, trxas
says so instead of guessing. Start a dask cluster of your own after `import trxas`: its workers search where you do.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from distributed import Client

__all__ = [
    "Product",
    "bin",
    "fit_kinetics",
    "fit_mixture",
    "frames",
    "open",
    "process",
    "pulses",
    "raw_frames",
    "simulate",
]


def _import_packages() -> None:
    """Import our packages from the folder of this file.

    Raises
    ------
    ImportError
        If another module of the same name is imported already.
    """
    home = Path(__file__).resolve().parent
    for name in ("schemas", "pipeline"):
        ours = home / name / "__init__.py"
        loaded = sys.modules.get(name)
        if loaded is not None and not _is(getattr(loaded, "__file__", None), ours):
            raise ImportError(
                f"trxas: {getattr(loaded, '__file__', None)} was imported as {name!r}, which is a package of trxas; "
                "rename that file and start Python again"
            )
        found = PathFinder.find_spec(name)
        if found is not None and not _is(found.origin, ours):
            # it stays there: processes that are started from here get this search path too
            sys.path.insert(0, str(home))
        importlib.import_module(name)


def _is(file: str | None, ours: Path) -> bool:
    return file is not None and Path(file).resolve() == ours


_import_packages()


class Product(NamedTuple):
    """A published version, opened: unpacks as `tree, summary, where`."""

    tree: xr.DataTree
    """All groups, opened lazily (`tree["spectra"].to_dataset()`)."""
    summary: dict[str, Any]
    """summary.json: times, excited fractions, peaks, runs, warnings."""
    where: str
    """Folder or URL of the version; it never changes, while `latest` does."""


def open(where: str | Path) -> Product:
    """Open a product from a version, a product.zarr, a dataset's folder or an output folder; a path or a URL.

    Parameters
    ----------
    where
        E.g. `results`, `results/products/my-sample/v0003`, `s3://bucket/prefix`.

    Raises
    ------
    ProductError
        If there is no product, more than one dataset, or the version's folder is damaged.
    """
    from pipeline.storage import versions

    version = versions.resolve(str(where))
    if isinstance(version, Path):
        # behind a URL this would read everything
        versions.intact(version)
    return Product(versions.open_product(version), versions.read_summary(version), str(version))


def process(
    config: str | Path,
    out: str | Path | None = None,
    *,
    changes: Iterable[str] = (),
    client: Client | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Product:
    """Take a dataset from raw runs to a published product; does nothing where the result is current.

    Parameters
    ----------
    config
        The config file.
    out
        Output folder, or a URL to publish to; the folder `out` beside the config unless given.
    changes
        `key=value` changes of the config, e.g. `["kinetics.power=1"]`.
    client
        A dask client whose workers are used whatever `compute.cluster` says; it stays open.
    progress
        Called with a label, what was done and what there is to do.

    Returns
    -------
    The published version, opened; runs that could not be used are in `summary["warnings"]`.

    Raises
    ------
    ConfigError
        If a key of the config is wrong; names it.
    DataError
        If a run on which all others rest, or all scans, cannot be used.
    BusyError
        If another process works in the output folder.
    ClusterError
        If the workers of the client cannot do the work.
    """
    from pipeline import workflow
    from pipeline.errors import ClusterError
    from pipeline.job import load_job
    from pipeline.storage.claim import claimed

    job = load_job(config, out, changes)
    if client is not None:
        # they may have been started beside a pipeline.py of the user's, before this module was imported
        try:
            client.register_worker_callbacks(partial(importlib.import_module, __name__))
        except ModuleNotFoundError as error:
            raise ClusterError(
                f"the dask client: a worker lacks {error.name}; start workers where trxas is installed"
            ) from None
    with claimed(job.out, "process"):
        return open(str(workflow.process(job, progress=progress, client=client).version))


def frames(out: str | Path, run: int) -> xr.DataArray:
    """Return the stored frames of a processed run, lazily.

    Parameters
    ----------
    out
        The output folder.
    run
        Number of the run.

    Returns
    -------
    DataArray (train, pulse, y, x) uint16 [ADU], chunked by dask in whole chunks of the store: the part of the module that
    the config keeps (`frames.keep`). What was recorded beside the frames is in memory as coordinates: train_id, pulse_id,
    cell_id, present, blank, energy [eV], delay_stage, trigger [ps], arrival [ps], intensity, dark_frame, pulse_slot, y, x;
    the laser's slots are with the `pulses`.

    Raises
    ------
    ProductError
        If no frames of the run are stored there.
    """
    from pipeline.storage import layout
    from pipeline.storage.lazy_cube import lazy_cube

    return lazy_cube(layout.run_stores(Path(out), run) / layout.FRAMES)


def raw_frames(
    run_folder: str | Path,
    instrument: str = "scs-dssc-boz",
    sources: Mapping[str, Any] | None = None,
    *,
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> xr.DataArray:
    """Return the frames of a raw run, lazily; nothing is stored.

    Parameters
    ----------
    run_folder
        Folder of the run, e.g. `/data/raw/r0003`.
    instrument
        Name of a profile, or path of a profile file.
    sources
        Where a role lives if not where the profile says, as in a config: `{"energy": {"source": NAME}}`.
    rows, columns
        Part of the module, in pixels.

    Returns
    -------
    DataArray (train, pulse, y, x) uint16 [ADU], one dask task per block of whole trains, with the coordinates of `frames`
    but `blank`. 0 where no frame was recorded (`present` is False).

    Raises
    ------
    DataError
        If the run holds no readable frames; when computed, if a file cannot be read.
    ConfigError
        If there is no such profile, or `sources` are wrong.
    """
    from pipeline.euxfel.lazy_frames import lazy_frames
    from pipeline.euxfel.reader import open_run
    from pipeline.job import instrument_of

    run = open_run(Path(run_folder), instrument_of(instrument, sources or {}))
    return lazy_frames(run, rows=rows, columns=columns)


def pulses(out: str | Path, run: int, dataset: str | None = None) -> xr.Dataset:
    """Return the pulses of a processed run with their labels, in memory.

    Parameters
    ----------
    out
        The output folder.
    run
        Number of the run.
    dataset
        Whose labels; may be left out where the folder holds one dataset only.

    Returns
    -------
    Dims (train, pulse, beam), beams by name (pumped, unpumped, reference): photons, photons_stderr, n_saturated,
    drop_reason (0: the pulse is used); coordinates energy [eV], delay [ps], fluence [mJ/cm²] and others.

    Raises
    ------
    ProductError
        If the run was not processed there, or there are several datasets.
    """
    from pipeline.results.stored_pulses import stored_pulses

    return stored_pulses(Path(out), run, dataset)


def bin(
    pulses: xr.Dataset | Sequence[xr.Dataset],
    *,
    along: Literal["energy", "delay"] = "energy",
    energy: Sequence[float] | np.ndarray | None = None,
    delay: float | Sequence[float] | np.ndarray | None = None,
    flat_field: xr.Dataset | None = None,
    pump_off_scans: Sequence[xr.Dataset] = (),
) -> xr.Dataset:
    """Bin pulses into spectra or delay scans.

    Parameters
    ----------
    pulses
        Pulses of a run or of several, from `pulses`; runs at the same fluence and delay (energy) add up.
    along
        What the runs scan: energy gives spectra, delay gives delay scans.
    energy
        Edges of the bins [eV], a tuple (start, stop, step) of their centres, or None: found in the data. Spectra only.
    delay
        Edges of the bins [ps], their width, or None: one bin per position of the stage.
    flat_field
        Pulses of the flat-field run, which fixes the constant of ΔXAS; without it the constant is taken from delays
        before time zero, with a warning. Pulses without pump in the same runs are the better reference and go first.
    pump_off_scans
        Pulses of energy scans with the pump off: the ratio of the sample beams against energy.

    Returns
    -------
    Spectra over (fluence, delay, energy) or delay scans over (scan, delay): od_unpumped, od_pumped, delta_xas [OD], each
    with its standard error, what the reference cannot know, photons and counts.

    Raises
    ------
    DataError
        If no pulse falls into a bin.
    """
    import warnings

    import numpy as np
    import xarray as xr

    from pipeline.science.spectra.compared import compared, outside_reference
    from pipeline.science.spectra.reference import noise_of_trains
    from pipeline.science.spectra.scans import at_steps, delay_scans, spectra
    from schemas.datasets.measured import DELAY_SCAN, SPECTRA

    runs = [pulses] if isinstance(pulses, xr.Dataset) else list(pulses)
    noise = {} if flat_field is None else noise_of_trains([flat_field])
    flats = [] if flat_field is None else [flat_field]
    outside, notes = outside_reference(flats, pump_off_scans, runs, train_noise=noise)
    options: dict[str, Any] = {
        "train_noise": noise,
        "delay_bins": delay.tolist() if isinstance(delay, np.ndarray) else delay,
    }
    for note in notes:
        warnings.warn(note.text, stacklevel=2)
    if along == "delay":
        return DELAY_SCAN.describe(compared(delay_scans, runs, outside, **options))
    bins = energy.tolist() if isinstance(energy, np.ndarray) else energy
    return SPECTRA.describe(compared(spectra, at_steps(runs), outside, energy_bins=bins, **options))


def fit_kinetics(
    *binned: xr.Dataset,
    fluence: float | None = None,
    irf_sigma: Literal["fit"] | float | tuple[float, float] = "fit",
    t_d: Literal["fit"] | float | tuple[float, float] = "fit",
    **options: Any,
) -> xr.Dataset:
    """Fit the times of the relaxation, shared by all traces at one fluence.

    Parameters
    ----------
    binned
        Delay scans, spectra, or both, from `bin` or from a product. An energy of the spectra is a trace where it was
        measured at six delays or more.
    fluence
        Fluence [mJ/cm²]; may be left out where there is one only.
    irf_sigma, t_d
        Gaussian response and time zero [ps]: "fit", a number (fixed), or (value, standard error) as measured.
    options
        Of `pipeline.science.kinetics.shared.fit_kinetics`: power, n_exponentials, amplitude_prior, n_bootstrap, …

    Returns
    -------
    Over parameter (t_d, irf_sigma, tau1, tau2, tau3) [ps]: value, stderr, ci68, ci95, identifiable, …; fit and residual
    (trace, delay) [OD]; redchi. See `pipeline.science.kinetics.shared.fit_kinetics`.

    Raises
    ------
    DataError
        If there is no trace at the fluence, or there are fewer points than parameters.
    """
    from pipeline.science.kinetics.shared import fit_kinetics as fit
    from pipeline.science.kinetics.traces import traces_of

    return fit(traces_of(binned, fluence), irf_sigma=irf_sigma, t_d=t_d, **options)


def fit_mixture(
    spectra: xr.Dataset,
    ground: xr.DataArray | str | Path | None = None,
    excited: xr.DataArray | str | Path | None = None,
    *,
    window: tuple[float, float] | None = None,
    min_delay: float = 0.8,
    **options: Any,
) -> xr.Dataset:
    """Fit the fraction of the excited state to late spectra.

    Parameters
    ----------
    spectra
        From `bin` or from a product.
    ground, excited
        Density of states of the two states over energy [eV], or text files of them; without them model peaks are used.
    window
        Energies [eV] to fit; found in the data unless given.
    min_delay
        First delay [ps] that counts.
    options
        Of `pipeline.science.mixture.alpha.fit_mixture`: gaussian_fwhm, lorentzian_fwhm [eV], …

    Returns
    -------
    Over fluence: alpha, alpha_stderr, alpha_model_stderr, redchi, …; components, fit and residual over energy.

    Raises
    ------
    DataError
        If no spectrum is late enough, or a density of states does not cover the window.
    ConfigError
        If only one of the two densities of states is given.
    """
    from pipeline.errors import ConfigError
    from pipeline.science.mixture.dos_models import fit_builtin_models, fit_models
    from pipeline.science.peaks.windows import difference_window
    from pipeline.storage.dos_files import read_dos

    if (ground is None) != (excited is None):
        raise ConfigError("fit_mixture: give both ground and excited, or neither")
    options |= {"window": window or difference_window(spectra), "min_delay": min_delay}
    if ground is None or excited is None:
        return fit_builtin_models(spectra, **options)
    pair = tuple(read_dos(dos) if isinstance(dos, str | Path) else dos for dos in (ground, excited))
    return fit_models(spectra, {"main": (pair[0], pair[1])}, **options)


def simulate(scenario: str | Path, out: str | Path, seed: int | None = None) -> Path:
    """Write raw runs with known truth.

    Parameters
    ----------
    scenario
        A scenario file, or the name of one in sample_runs (tiny, demo, …).
    out
        Folder; made if need be.
    seed
        Start of all random numbers; the scenario's own unless given.

    Returns
    -------
    The config that processes the runs; `truth.json` beside it holds every number that went in.

    Raises
    ------
    ConfigError
        If there is no such scenario, or `out` holds runs that were not simulated.
    """
    import os

    from pipeline.simulate import load_scenario, scenario_path, simulate_scenario

    workers = len(os.sched_getaffinity(0))
    return simulate_scenario(load_scenario(scenario_path(scenario)), Path(out), seed=seed, workers=workers)

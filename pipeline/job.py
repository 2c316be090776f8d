"""A config resolved to paths: the inputs every stage needs, but nothing that a stage computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.compute.workers import threads_of
from pipeline.errors import ConfigError, DataError
from pipeline.euxfel.run_files import raw_folder, run_folder
from pipeline.storage import layout
from pipeline.storage.places import Place, Remote, place
from schemas.config import Config
from schemas.config.detector import Beams
from schemas.config.runs import DelayScanRun, EnergyScanRun
from schemas.instrument import Instrument, load_instrument
from schemas.reading import load_config, override, parse_sources

__all__ = ["Job", "instrument_of", "load_job", "out_folder", "read_config"]


@dataclass(frozen=True)
class Job:
    """A dataset to process: its config, input folders and output folders."""

    config: Config
    base: Path
    raw: Path
    out: Path
    instrument: Instrument
    target: Place | None = None
    """Folder or URL for products, if not `out`; working stores stay in `out`."""
    failed: Mapping[int, str] = field(default_factory=dict)
    """Scan runs that cannot be used, with the reason; the rest of the dataset is processed without them."""

    def raw_run(self, run: int) -> Path:
        """Return the folder of a raw run."""
        return run_folder(self.raw, run)

    def run_dir(self, run: int) -> Path:
        """Return the folder of a run's stores."""
        return layout.run_stores(self.out, run)

    @property
    def calibrations(self) -> Path:
        """Folder of the calibrations."""
        return self.out / "calibration"

    @property
    def stage_dir(self) -> Path:
        """Folder of the dataset's intermediate results."""
        return layout.dataset_stores(self.out, self.config.dataset)

    @property
    def product_dir(self) -> Place:
        """Folder of the dataset's versions."""
        return layout.products(self.target or self.out, self.config.dataset)

    @property
    def reduced_runs(self) -> list[int]:
        """Runs that are reduced to pulses: those without pump, then the scans in the config's order; failed ones left out."""
        return [
            *self.flat_fields,
            *self.pump_off_scans,
            *(s.run for s in self.energy_scans),
            *(s.run for s in self.delay_scans),
        ]

    @property
    def flat_fields(self) -> list[int]:
        """Flat-field runs that did not fail; the first one calibrates the detector."""
        return [n for n in self.config.runs.flat_fields if n not in self.failed]

    @property
    def pump_off_scans(self) -> list[int]:
        """Energy scans with the pump off that did not fail."""
        return [s.run for s in self.config.runs.pump_off_scans if s.run not in self.failed]

    @property
    def energy_scans(self) -> list[EnergyScanRun]:
        """Energy scans that did not fail."""
        return [s for s in self.config.runs.energy_scans if s.run not in self.failed]

    @property
    def delay_scans(self) -> list[DelayScanRun]:
        """Delay scans that did not fail."""
        return [s for s in self.config.runs.delay_scans if s.run not in self.failed]

    def without(self, run: int, reason: str) -> Job:
        """Return the job without a scan run that cannot be used.

        Raises
        ------
        DataError
            If no scan remains, or the run is the dark run or the first flat field, which every scan needs.
        """
        left = dataclasses.replace(self, failed={**self.failed, run: reason})
        needed = [self.config.runs.dark, *self.config.runs.flat_fields[:1]]
        if run in needed or not (left.energy_scans or left.delay_scans):
            raise DataError(reason)
        return left

    @property
    def all_runs(self) -> list[int]:
        """All runs, the dark run first."""
        return [self.config.runs.dark, *self.reduced_runs]

    @property
    def workers(self) -> int:
        """Number of train blocks processed at a time."""
        return threads_of(self.config.compute)

    @property
    def profile(self) -> dict[str, Any]:
        """Instrument profile with the config's overrides applied; without its name, because the file behind it may be edited."""
        return self.instrument.model_dump(mode="json", exclude={"name", "title"})

    @property
    def roles(self) -> list[str]:
        """Usual roles of the patches from low to high x (explicit regions: in that order)."""
        beams = self.config.beams
        if isinstance(beams, Beams):
            given = {k: v for k, v in beams.model_dump().items() if v is not None}
            return sorted(given, key=lambda role: (given[role][0], given[role][2]))
        if isinstance(beams, str):
            return ["pumped", "unpumped", "reference"]
        if beams.order != "auto":
            return [str(r) for r in beams.order]
        return ["pumped", "unpumped", "reference"][: self.beam_count]

    @property
    def beam_count(self) -> int | None:
        """Return how many beams there are, None where that is to be found out."""
        beams = self.config.beams
        if isinstance(beams, str) or (not isinstance(beams, Beams) and beams.count == "auto" and beams.order == "auto"):
            return None
        return len(self.roles) if isinstance(beams, Beams) or beams.count == "auto" else beams.count

    @property
    def roles_are_given(self) -> bool:
        """Whether the config says which beam is which."""
        beams = self.config.beams
        return isinstance(beams, Beams) or (not isinstance(beams, str) and beams.order != "auto")

    def options(self, *names: str) -> dict[str, Any]:
        """Return parts of the config as plain data."""
        everything = self.config.model_dump(mode="json", by_alias=True)
        return {n: everything[n] for n in names}


def read_config(path: Path, assignments: Iterable[str] = ()) -> Config:
    """Read a config and apply key=value changes; the files it names need not exist.

    Raises
    ------
    ConfigError
        If the config is unreadable or invalid; the message names the key.
    """
    try:
        loaded = load_config(path)
        return override(loaded, assignments) if assignments else loaded
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ConfigError(str(error)) from None


def instrument_of(name: str, sources: Mapping[Any, Any], folder: Path | None = None) -> Instrument:
    """Return an instrument profile by its name, or from a file that may be named relative to a folder.

    Raises
    ------
    ConfigError
        If there is no such profile, or it or a source is wrong.
    """
    try:
        return load_instrument(name, folder).with_sources(parse_sources(sources))
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from None


def out_folder(config: Path, out: Path | str | None = None) -> Place:
    """Return the output folder or URL of a config: by default `out` next to the config file."""
    where = config.resolve().parent / "out" if out is None else place(out)
    return where.resolve() if isinstance(where, Path) else where


def load_job(
    config: Path | str,
    out: Path | str | None = None,
    assignments: Iterable[str] = (),
    *,
    work: Path | str | None = None,
) -> Job:
    """Read a config and resolve its paths.

    Parameters
    ----------
    config
        The config file.
    out
        Output folder, or a URL to which products are published; by default the folder `out` next to the config.
    assignments
        `key=value` changes of the config.
    work
        Folder of the working stores (runs, calibration, stages); by default the output folder, or `out` next to
        the config if the output is a URL: these stores are modified in place and renamed, which object stores do not support.

    Raises
    ------
    ConfigError
        If the config is invalid or the URL is not writable; the message names the key or the URL.
    DataError
        If the proposal folder does not exist on this machine.
    """
    path = Path(config)
    loaded = read_config(path, assignments)
    instrument = instrument_of(loaded.instrument, loaded.sources, path.parent)
    base = path.resolve().parent
    _check_files(loaded, base)
    stores, target = _places(path, out, work)
    return Job(loaded, base, raw_folder(loaded.raw, base), stores, instrument, target)


def _places(config: Path, out: Path | str | None, work: Path | str | None) -> tuple[Path, Place | None]:
    """Return the folder of the working stores, and the product folder or URL if it differs."""
    target = out_folder(config, out)
    stores = None if work is None else place(work)
    if isinstance(stores, Remote):
        raise ConfigError(f"--work {work}: must be a folder on a file system; products may go to a URL (--out)")
    if isinstance(target, Remote):
        target.check_writable()
        return (stores or config.resolve().parent / "out").resolve(), target
    return (target, None) if stores is None else (stores.resolve(), target)


def _check_files(config: Config, base: Path) -> None:
    """Raise ConfigError, naming the key, if a file in the config is missing; checked before any computation."""
    named = {
        **{
            ("mixture" if model == "main" else f"mixture.alternatives ({model})") + f".dos_{state}": dos.file
            for model, pair in config.mixture.models.items()
            for state, dos in zip(("ground", "excited"), pair, strict=True)
        },
        "detector.nonlinearity": None
        if config.detector.nonlinearity in ("auto", "none")
        else config.detector.nonlinearity,
    }
    for key, name in named.items():
        if name is not None and not (base / name).is_file():
            raise ConfigError(f"{key}: no file {base / name}; names are relative to the config file")

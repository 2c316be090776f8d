"""Known signals in the session's own pulses, through binning, reference and fits: made on request, after the fits.

It begins with stored pulses and labels and calls the functions of the stages, whose stores it leaves alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from pipeline.compute.workers import Workers, threads_of
from pipeline.errors import ProductError
from pipeline.job import Job
from pipeline.science.injection.injected_pulses import (
    as_scan,
    halved,
    measured_signal,
    parts_by_train,
    pulses_of,
    with_signal,
)
from pipeline.science.injection.injected_signal import Signal, signal_of
from pipeline.science.injection.recovery import injection_notes, recovered, size_of
from pipeline.science.labels.condition import OFF, ON
from pipeline.science.labels.selection import only_condition
from pipeline.science.spectra.compared import has_both_conditions
from pipeline.stages.base import Context, Made, Stage
from pipeline.stages.bin import BIN, bin_differences
from pipeline.stages.fit import FIT, dos_models
from pipeline.stages.fit_kinetics import fit_all_kinetics
from pipeline.stages.fit_mixture import Models, fit_late_spectra
from pipeline.stages.label import LABEL, labelled_runs
from pipeline.storage import store
from pipeline.storage.hashes import digest
from pipeline.storage.record import Record
from schemas.catalogue import note
from schemas.config.fit_options import Measured
from schemas.datasets.injection import CARRIERS, INJECTION, RECOVERED
from schemas.notes import Note

__all__ = ["INJECT", "Session", "inject_and_fit", "inject_many", "session_of"]

IN_RUN, PUMP_OFF_SCAN, ON_TOP = CARRIERS
BOUNDS = ["lower", "upper"]


class Session(NamedTuple):
    """What every draw needs."""

    job: Job
    runs: dict[int, xr.Dataset]
    """Pulses of all runs as measured."""
    carriers: dict[int, str]
    halves: dict[int, xr.Dataset]
    """Scans whose pulses are halved: their pulses without pump, or those with pump with the measured signal taken off."""
    by_train: dict[int, bool]
    """Whether a scan is halved train by train."""
    films: dict[int, float]
    """Thickness of the pumped film over that of the other, by energy scan; its ΔXAS is larger by as much."""
    signals: dict[float, Signal]
    """By fluence."""
    noise: tuple[float, float]
    """Error of ΔXAS in spectra and delay scans of halves over that of the session; signals grow with it."""
    models: Models
    window: tuple[float, float]


def session_of(
    job: Job, runs: dict[int, xr.Dataset], groups: Mapping[str, xr.Dataset], models: Models, *, seed: int = 0
) -> Session:
    """Choose the pulses that carry signals, and the signals.

    Parameters
    ----------
    job, runs
        The dataset, and the pulses of its runs with all labels.
    groups
        Its groups spectra, delay_scan, kinetics and mixture.
    models
        DOS of the mixture; empty for built-in peaks.
    seed
        Of the halves with which the noise is compared.
    """
    # results do not depend on the number of threads; draws run beside each other
    job = replace(job, config=_one_thread(job))
    spectra, scan = groups["spectra"], groups["delay_scan"]
    energy_scans, delay_scans = ([s.run for s in kind] for kind in (job.energy_scans, job.delay_scans))
    carriers = {n: IN_RUN if has_both_conditions(runs[n]) else ON_TOP for n in [*energy_scans, *delay_scans]}
    if job.pump_off_scans and not any(carriers[n] == IN_RUN for n in energy_scans):
        carriers |= dict.fromkeys(energy_scans, PUMP_OFF_SCAN)
    halves = {}
    for number in (n for n, carrier in carriers.items() if carrier != PUMP_OFF_SCAN):
        halves[number] = only_condition(runs[number], OFF if carriers[number] == IN_RUN else ON)
        if carriers[number] == ON_TOP:
            # it cancels between the halves anyway, but must not pass for what the films do without pump
            measured = measured_signal(runs[number], spectra if number in energy_scans else scan)
            halves[number] = with_signal(halves[number], -measured)
    by_train = {n: parts_by_train(runs[n]) for n in halves}
    # where the measured signal is taken off, so are the films
    films = {n: _film_of(runs[n], spectra) if carriers[n] != ON_TOP else 1.0 for n in energy_scans}
    fluences = groups["kinetics"]["fluence"].values.tolist()
    fits, power = (groups["kinetics"], groups["mixture"], scan), job.config.kinetics.power
    signals = {f: signal_of(f, *fits, power=power) for f in fluences}
    window = groups["mixture"].attrs.get("window", (0.0, 1.0))
    at = (float(window[0]), float(window[1]))
    session = Session(job, runs, carriers, halves, by_train, films, signals, (1.0, 1.0), models, at)
    again = _binned(session, np.random.default_rng([seed, 0]), 0.0, signals)
    noise = [_typical(new) / _typical(old) for new, old in zip(again, (spectra, scan), strict=True)]
    played = PUMP_OFF_SCAN in carriers.values()
    return session._replace(noise=(1.0 if played else noise[0], noise[1]))


def _one_thread(job: Job) -> Any:
    config = job.config
    kinetics = config.kinetics.model_copy(update={"bootstrap": "none", "per_energy": False})
    return config.model_copy(update={"compute": config.compute.model_copy(update={"workers": 1}), "kinetics": kinetics})


def _typical(binned: xr.Dataset) -> float:
    error = binned["delta_xas_stderr"].values
    return float(np.median(error[np.isfinite(error)])) if np.isfinite(error).any() else 1.0


def inject_and_fit(draw: int, session: Session, seed: int = 0) -> xr.Dataset:
    """Inject signals of one draw into all scans, bin and fit them; returns a row of `RECOVERED`."""
    rng = np.random.default_rng([seed, 1, draw])
    size = size_of(draw)
    signals = {f: _as_known(session.job, signal, rng) for f, signal in session.signals.items()}
    job = session.job
    spectra, scan = _binned(session, rng, size, signals)
    kinetics = fit_all_kinetics(spectra, scan, job.config)[0]["kinetics"]
    mixture, _ = fit_late_spectra(spectra, job.config, session.models, session.window)
    return _row(session, size, signals, kinetics, mixture)


def _as_known(job: Job, signal: Signal, rng: np.random.Generator) -> Signal:
    """Return a signal with time zero and response as known beforehand: what was measured is drawn within its error."""
    known = {"t_d": signal.course.t_d, "irf_sigma": signal.course.irf_sigma}
    for name in ("t_d", "irf_sigma"):
        setting = job.config.kinetics.setting(name)
        if isinstance(setting, Measured):
            known[name] = rng.normal(setting.value, setting.stderr)
        elif setting != "fit":
            known[name] = float(setting)
    return signal.moved(known["t_d"], abs(known["irf_sigma"]))


def _binned(
    session: Session, rng: np.random.Generator, size: float, signals: Mapping[float, Signal]
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return spectra and delay scans with signals of a size."""
    job, runs = session.job, dict(session.runs)
    delay_scans = {s.run for s in job.delay_scans}
    for number, half in session.halves.items():
        run = halved(half, rng, by_train=session.by_train[number])
        delay, signal = run["delay"].transpose("train", "pulse").values, signals[float(run["fluence"])]
        if number in delay_scans:
            change = signal.at_delays(float(np.nanmedian(run["energy"].values)), delay, size * session.noise[1])
        else:
            change = np.nan_to_num(
                signal.at_energies(run["energy"].values, delay, size * session.noise[0] * session.films[number])
            )
        runs[number] = with_signal(run, xr.DataArray(change, dims=("train", "pulse")))
    if PUMP_OFF_SCAN not in session.carriers.values():
        return bin_differences(job, runs)
    spectra, scan = _played(session, rng, size, signals)
    if job.delay_scans:
        # apart: what the halves say of the time of the scan is no knowledge of the session
        _, scan = bin_differences(_without(job, [s.run for s in job.energy_scans]), runs)
    return spectra, scan


def _played(
    session: Session, rng: np.random.Generator, size: float, signals: Mapping[float, Signal]
) -> tuple[xr.Dataset, xr.Dataset]:
    """Let half of the pulses of a pump-off scan play a late energy scan; return its spectrum, and the scans as measured.

    All that was measured with pump stays where it is: it wears the film. What is played is at a fluence of its own until
    it is binned.
    """
    job, runs, scans = session.job, dict(session.runs), session.job.pump_off_scans
    all_scans = [s.run for s in job.energy_scans]
    late = [n for n in all_scans if _delay_of(runs[n]) >= job.config.mixture.min_delay] or all_scans
    number, still = late[rng.integers(len(late))], scans[rng.integers(len(scans))]
    half = halved(runs[still], rng)
    run = as_scan(pulses_of(half, ON), runs[number])
    fluence = float(run["fluence"])
    delay = run["delay"].transpose("train", "pulse").values
    # films wear: they are as they were for the scan that was measured next to it
    film = session.films[min(all_scans, key=lambda n: abs(_time_of(runs[n]) - _time_of(session.runs[still])))]
    change = np.nan_to_num(signals[fluence].at_energies(run["energy"].values, delay, size * film))
    own = np.nextafter(fluence, np.inf)
    runs[number] = with_signal(run, xr.DataArray(change, dims=("train", "pulse"))).assign_coords(fluence=own)
    if len(scans) > 1:
        job = _without(job, [still])
    else:
        runs[still] = pulses_of(half, OFF).assign_coords(condition=runs[still]["condition"])
    spectra, scan = bin_differences(job, {n: one for n, one in runs.items() if n not in job.failed})
    spectra = spectra.sel(fluence=[own] if own in spectra["fluence"].values else []).assign_coords(fluence=[fluence])
    return spectra.isel(delay=spectra["n_pulses"].any(["fluence", "energy"]).values), scan


def _without(job: Job, numbers: list[int]) -> Job:
    return replace(job, failed={**job.failed, **dict.fromkeys(numbers, "its pulses carry signals")})


def _film_of(run: xr.Dataset, spectra: xr.Dataset) -> float:
    if "film_ratio" not in spectra or float(run["fluence"]) not in spectra["fluence"].values:
        return 1.0
    film = spectra["film_ratio"].sel(fluence=float(run["fluence"])).sel(delay=_delay_of(run), method="nearest")
    return float(film) if np.isfinite(film) else 1.0


def _time_of(run: xr.Dataset) -> float:
    return float(run["train_id"].mean())


def _delay_of(run: xr.Dataset) -> float:
    return float(np.nanmedian(run["nominal_delay"].values))


def _row(
    session: Session, size: float, signals: Mapping[float, Signal], kinetics: xr.Dataset, mixture: xr.Dataset
) -> xr.Dataset:
    """Return what was fitted beside what was injected."""
    parameters = ["tau1", "tau2", "tau3"][: session.job.config.kinetics.n_exponentials]
    row = RECOVERED.empty({"fluence": list(signals), "parameter": parameters, "bound": BOUNDS, "size": [size]})
    filled = {str(name): values.values.copy() for name, values in row.data_vars.items()}
    grown = 1.0 if PUMP_OFF_SCAN in session.carriers.values() else session.noise[0]
    for f, (fluence, signal) in enumerate(signals.items()):
        if fluence in mixture["fluence"].values:
            one = mixture.sel(fluence=fluence)
            filled["alpha"][0, f] = one["alpha"]
            filled["alpha_stderr"][0, f] = np.hypot(one["alpha_stderr"], one["alpha_model_stderr"].fillna(0.0))
            filled["alpha_true"][0, f] = _true_alpha(signal, one, mixture.attrs) * size * grown
        if fluence in kinetics["fluence"].values and signal.scans:
            fit = kinetics.sel(fluence=fluence, parameter=parameters).transpose("parameter", "bound", ...)
            given = {"tau": "value", "tau_ci68": "ci68", "tau_ci95": "ci95", "tau_identifiable": "identifiable"}
            for name, theirs in given.items():
                filled[name][0, f] = fit[theirs].values
            taus = signal.course.taus[: len(parameters)]
            filled["tau_true"][0, f, : len(taus)] = taus
    return row.assign({name: (row[name].dims, values) for name, values in filled.items()})


def _true_alpha(signal: Signal, one: xr.Dataset, attrs: Mapping[str, Any]) -> float:
    """Return the injected fraction as the fit averages it: over the delays that count, by their information."""
    delay, error = (one[n].values for n in ("delay", "alpha_delay_stderr"))
    used = np.isin(delay, attrs.get("delays", [])) & np.isfinite(error)
    if not used.any():
        return signal.alpha
    return signal.alpha * float(np.average(signal.share(delay[used]), weights=error[used] ** -2.0))


def inject_many(context: Context, session: Session, groups: Mapping[str, xr.Dataset], *, n: int, seed: int) -> Made:
    """Inject and fit n times, beside each other; the result does not depend on how many at a time."""
    settings = context.job.config.compute
    if settings.cluster == "threads" and threads_of(settings) > 1:
        # fits hold Python's lock
        settings = settings.model_copy(update={"cluster": "processes"})
    label = f"{n} injected signals"
    with Workers(settings, context.job.out / "logs") as workers:
        rows = workers.map(
            partial(inject_and_fit, seed=seed), range(n), session, lambda done: context.tell(label, done, n)
        )
    draws = xr.concat(rows, dim="draw")
    carriers = {number: session.carriers[number] for number in sorted(session.carriers)}
    played = len(session.job.pump_off_scans) if PUMP_OFF_SCAN in carriers.values() else None
    injection = recovered(draws, carriers, _session_numbers(session, groups), n_played=played)
    injection = injection.assign_attrs(
        n=n, seed=seed, noise_spectra=session.noise[0], noise_delay_scan=session.noise[1]
    )
    return Made({INJECTION.name: injection}, [*injection_notes(injection), *_on_top(session)])


def _on_top(session: Session) -> list[Note]:
    runs = [str(number) for number, carrier in session.carriers.items() if carrier == ON_TOP]
    return (
        [note("injection.on_top", runs="run " + runs[0] if len(runs) == 1 else "runs " + ", ".join(runs))]
        if runs
        else []
    )


def _session_numbers(session: Session, groups: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Return the session's own error of alpha and size of its signals, over fluence."""
    mixture, fluences = groups["mixture"], list(session.signals)
    errors = mixture["alpha_stderr"], mixture["alpha_model_stderr"].fillna(0.0)
    total = xr.DataArray(np.hypot(*errors)).reindex(fluence=fluences)
    early = np.linspace(-0.2, 5.0, 105)
    scans, spectra = [], []
    for signal in session.signals.values():
        scans.append(max((np.abs(course.at(early)).max() for course in signal.scans.values()), default=np.nan))
        spectra.append(abs(signal.alpha) * np.abs(signal.difference).max())
    return xr.Dataset(
        {"alpha_stderr": total, "signal": ("fluence", scans), "signal_spectrum": ("fluence", spectra)},
        coords={"fluence": fluences},
    )


class _Inject(Stage):
    """The stage that runs when it is asked for. Its key holds how many signals, and the seed."""

    def current_key(self, context: Context) -> str | None:
        """Return the key of the result if it belongs to the fits as they are now; None if not, or if there is none."""
        record = self.records(context.job).get(self.name, Record)
        if record is None or not self.where(context.job).exists():
            return None
        made = store.open_tree(self.where(context.job))[INJECTION.name].attrs
        return record.key if record.key == self.key_of(context, n=made["n"], seed=made["seed"]) else None

    def key_of(self, context: Context, *, n: int, seed: int) -> str:
        """Return the hash of fits, code, number of signals and seed."""
        return digest([self.key(context), n, seed])

    def ask(self, context: Context, *, n: int, seed: int) -> bool:
        """Inject and fit n signals unless that is done; returns whether it was.

        Raises
        ------
        ProductError
            If the dataset is not processed, or by other options or code than those of now.
        """
        job = context.job
        for stage in (LABEL, BIN, FIT):
            try:
                current = stage.is_current(context, None, stage.key(context))
            except KeyError:
                current = False
            if not current:
                raise ProductError(
                    f"{job.out}: dataset {job.config.dataset} is not processed with this config and program: "
                    f"{stage.title} are not current; run `trxas process` first"
                )
        key = self.key_of(context, n=n, seed=seed)
        if self.is_current(context, None, key):
            return False
        groups = BIN.result(job) | FIT.result(job)
        session = session_of(job, labelled_runs(job), groups, dos_models(job), seed=seed)
        made = inject_many(context, session, groups, n=n, seed=seed)
        checked = {name: self.spec(name).check(dataset) for name, dataset in made.datasets.items()}
        store.write_tree(self.where(job), xr.DataTree.from_dict({"/": xr.Dataset(), **checked}))
        self.records(job).put(self.name, Record(key, made.notes))
        return True


def _make(context: Context, run: int | None, key: str) -> Made:
    raise NotImplementedError("injections are asked for")


INJECT = _Inject(
    name="injection",
    title="injected signals",
    make=_make,
    makes={INJECTION.name: INJECTION},
    store="injection.zarr",
    needs=(FIT,),
)

"""Late spectra → the excited fraction of every fluence: which spectra, which models, what to say about them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from pipeline.errors import CoverageError, DataError
from pipeline.science.mixture.dos_models import fit_builtin_models, fit_models
from pipeline.science.mixture.reference_error import per_film, reference_error, with_reference_error
from schemas.catalogue import note
from schemas.config import Config
from schemas.config.fit_options import Mixture
from schemas.datasets.fitted import MIXTURE
from schemas.notes import Note

__all__ = ["Models", "fit_late_spectra", "fit_spectra"]

Models = Mapping[str, tuple[xr.DataArray, xr.DataArray]]
"""Name -> (ground, excited) DOS over energy [eV]."""

TOLERANCE = 0.01
"""A measured delay counts as min_delay when it is this near below it [ps]."""
MODEL_LIMIT = 0.1
"""Model error of α, as a fraction of it, that a person must know of."""
SIGNIFICANT = 3.0
"""An intercept of so many total errors is not zero."""
GROUND_LIMIT = 3.0
"""χ² per degree of freedom of the ground state above which the model is at fault."""


def fit_late_spectra(
    spectra: xr.Dataset, config: Config, models: Models, window: tuple[float, float]
) -> tuple[xr.Dataset, list[Note]]:
    """Return the group mixture, and what a person must know about it.

    Parameters
    ----------
    spectra
        See `schemas.datasets.measured`.
    config
        Options of the fit.
    models
        Name -> (ground, excited) DOS over energy [eV], the one that is reported first; empty for built-in peaks.
    window
        Energies [eV] where the config names none for the mixture.

    Raises
    ------
    CoverageError
        If a DOS that was given does not cover the window.
    """
    options = config.mixture
    late = spectra["delay"].values >= options.min_delay - TOLERANCE if spectra.sizes["energy"] else np.zeros(0, bool)
    if not late.any():
        return _empty_mixture(spectra), [note("mixture.no_late_spectrum", min_delay=options.min_delay)]
    scaled = per_film(spectra)
    try:
        mixture = fit_spectra(scaled, options, models, window)
    except CoverageError as error:
        raise CoverageError(f"mixture: {error}") from None
    except DataError as error:
        return _empty_mixture(spectra), [note("mixture.not_fitted", reason=error)]
    unknown = reference_error(scaled, mixture)
    notes = [*([] if models else [note("mixture.model_peaks")]), *_notes(mixture), *_unknown(mixture, unknown)]
    mixture = with_reference_error(mixture, unknown)
    return mixture, notes + _delays(mixture, options.min_delay) + _line(mixture)


def fit_spectra(
    scaled: xr.Dataset,
    options: Mixture,
    models: Models,
    window: tuple[float, float],
    *,
    again: bool = False,
    edge: str = "auto",
) -> xr.Dataset:
    """Return the mixture of spectra as `per_film` gives them, with the model error or, `again`, of the first model alone."""
    at = options.window if options.window != "auto" else window
    if not models:
        return fit_builtin_models(scaled, window=at, min_delay=options.min_delay)
    chosen = dict([*models.items()][:1]) if again else models
    fixed = {name: getattr(options, name) for name in ("min_delay", "gaussian_fwhm", "lorentzian_fwhm")}
    return fit_models(scaled, chosen, alternatives=not again, ground=options.ground, window=at, edge=edge, **fixed)


def _line(mixture: xr.Dataset) -> list[Note]:
    """Say where the shares are no line through zero."""
    intercept, error = (float(mixture[n]) for n in ("intercept", "intercept_stderr"))
    total = float(np.hypot(error, np.nan_to_num(float(mixture["intercept_model_stderr"]))))
    if not abs(intercept) > SIGNIFICANT * total:
        return []
    return [note("mixture.intercept", intercept=100 * intercept, error=100 * total)]


def _delays(mixture: xr.Dataset, min_delay: float) -> list[Note]:
    """Say where the shares of the fluences are not from the same delays."""
    known = mixture["alpha_delay"].notnull()
    known = known.sel(fluence=known.any("delay"))
    shared = known.sizes["fluence"] < 2 or bool(known.all("fluence").any())
    return [] if shared else [note("mixture.delays_differ", min_delay=min_delay)]


def _unknown(mixture: xr.Dataset, unknown: xr.Dataset) -> list[Note]:
    """Say of which shares the reference leaves a good part open."""
    rows = zip(*(one.values.tolist() for one in (mixture["fluence"], mixture["alpha"], unknown["alpha"])), strict=True)
    return [
        note("mixture.reference_unknown", fluence=fluence, alpha=100 * share, unknown=100 * error)
        for fluence, share, error in rows
        if error > MODEL_LIMIT * abs(share)
    ]


def _notes(mixture: xr.Dataset) -> list[Note]:
    """Say where the models miss the spectra, and where they differ."""
    notes = []
    if float(mixture["ground_redchi"]) > GROUND_LIMIT:
        notes.append(note("mixture.ground_misfit", redchi=float(mixture["ground_redchi"])))
    per_fluence = [mixture[n].values.tolist() for n in ("fluence", "alpha", "alpha_model_stderr", "redchi")]
    for fluence, share, error, _ in zip(*per_fluence, strict=True):
        if error > MODEL_LIMIT * abs(share):
            notes.append(note("mixture.models_differ", fluence=fluence, alpha=100 * share, difference=100 * error))
    for fluence, _, _, redchi in zip(*per_fluence, strict=True):
        if redchi > GROUND_LIMIT:
            notes.append(note("mixture.misfit", fluence=fluence, redchi=redchi))
    return notes


def _empty_mixture(spectra: xr.Dataset) -> xr.Dataset:
    axes = {name: spectra[name].values for name in ("fluence", "energy")}
    return MIXTURE.empty(axes, [f"{name}_model_stderr" for name in ("alpha", "slope", "intercept")])

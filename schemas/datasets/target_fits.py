"""The target model of a cube: what is excited goes from |2> to |1>, as two species or as a line that moves."""

from __future__ import annotations

from dataclasses import replace

from schemas.datasets.measured import DELAY, FLUENCE
from schemas.datasets.spec import DatasetSpec, Variable

__all__ = ["MODELS", "TARGET", "TARGET_FIT"]

MODELS = ("free amplitudes", "one spectrum", "species", "line that moves")
"""The seed's formula with free amplitudes at every energy, a spectrum that stands still, and the two target models."""

_PARAMETER, _INTERVAL = ("parameter",), ("parameter", "bound")
_COORDS = {
    "model": Variable(("model",), "1", "what was fitted to the cube", "str"),
    "parameter": Variable(_PARAMETER, "1", "parameter of the target model", "str"),
    "bound": Variable(("bound",), "1", "lower or upper end of the interval", "str"),
    "species": Variable(("species",), "1", "excited state: 2 at first, 1 in the end", "str"),
    "delay": DELAY,
}
_ENERGY = Variable(("trace",), "eV", "photon energy of the trace")
_VARIABLES = {
    "chi2": Variable(("model",), "1", "χ² of the data"),
    "dof": Variable(("model",), "1", "degrees of freedom, -1 where there is no fit", "int"),
    "probability": Variable(("model",), "1", "probability that chance exceeds this χ²"),
    "aicc": Variable(("model",), "1", "corrected Akaike information criterion"),
    "value": Variable(_PARAMETER, "ps", "fitted value"),
    "stderr": Variable(_PARAMETER, "ps", "standard error of value"),
    "ci68": Variable(_INTERVAL, "ps", "68 % interval, open ends infinite or 0"),
    "ci95": Variable(_INTERVAL, "ps", "95 % interval, open ends infinite or 0"),
    "identifiable": Variable(_PARAMETER, "1", "the data determine this parameter", "bool"),
    "verdict": Variable(_PARAMETER, "1", "what the data say of a time, in words", "str", required=False),
    "verdict_code": Variable(_PARAMETER, "1", "code of the verdict, see the reference of notes", "str", required=False),
    "redchi": Variable((), "1", "χ² per degree of freedom of the model that is reported"),
    "returning": Variable((), "1", "share of what is excited that returns to the ground with tau2", stderr=True),
    "lattice": Variable((), "1", "share that goes with tau3 while the line moves; 0 for species", stderr=True),
    "shift": Variable((), "eV", "place of the line at first less that in the end; NaN for species", stderr=True),
    "population": Variable(("species", "delay"), "1", "part of what is excited at once, seen through the response"),
    "line_shift": Variable(("delay",), "eV", "mean place of the line less that in the end; NaN without a line"),
    "species_spectrum": Variable(
        ("species", "trace"), "1", "difference of optical density if all were in this state", stderr=True
    ),
    "fit": Variable(("trace", "delay"), "1", "fitted difference, on its baseline"),
    "residual": Variable(("trace", "delay"), "1", "data minus fit"),
}

TARGET_FIT = DatasetSpec(
    "target_fit",
    "One fit of the target model to the traces of a fluence.",
    {
        **_COORDS,
        "energy": _ENERGY,
        "trace": Variable(("trace",), "1", "trace", "int", required=False),
        "parameter2": replace(_COORDS["parameter"], dims=("parameter2",)),
    },
    {**_VARIABLES, "correlation": Variable(("parameter", "parameter2"), "1", "correlation of t_d, irf_sigma, log tau")},
)

TARGET = DatasetSpec(
    "target",
    "The target model, one fit per fluence: populations and spectra of states 2 and 1, or a line that moves.",
    {"fluence": FLUENCE, **_COORDS, "energy": _ENERGY.renamed({"trace": "energy"})},
    {
        "reported": Variable(
            ("fluence",), "1", "model whose results these are, empty where there is none", "str", required=False
        ),
        **{n: v.renamed({"trace": "energy"}, leading=("fluence",)) for n, v in _VARIABLES.items()},
    },
)

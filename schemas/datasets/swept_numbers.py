"""What the numbers become when choices of the analysis change."""

from __future__ import annotations

from schemas.datasets.measured import FLUENCE
from schemas.datasets.spec import DatasetSpec, Variable

__all__ = ["SWEEP"]

_EACH = ("choice", "fluence")
_TIMES = (*_EACH, "parameter")

SWEEP = DatasetSpec(
    "sweep",
    "Times and excited fractions against choices of the analysis.",
    {
        "choice": Variable(("choice",), "1", "values of the config, in the order of key", "str"),
        "key": Variable(("key",), "1", "key of the config", "str"),
        "fluence": FLUENCE,
        "parameter": Variable(("parameter",), "1", "time of the kinetics", "str"),
    },
    {
        "value": Variable(("choice", "key"), "1", "value of the key", "str"),
        "tau": Variable(_TIMES, "ps", "fitted time", stderr=True),
        "tau_identifiable": Variable(_TIMES, "1", "the data determine the time", "bool"),
        "kinetics_redchi": Variable(_EACH, "1", "χ² per degree of freedom of the kinetics"),
        "alpha": Variable(_EACH, "1", "excited fraction", stderr=True),
        "alpha_model_stderr": Variable(_EACH, "1", "model error of alpha"),
        "mixture_redchi": Variable(_EACH, "1", "χ² per degree of freedom of the mixture"),
        "slope": Variable(("choice",), "cm^2/mJ", "slope of alpha against fluence", stderr=True),
        "reason": Variable(("choice",), "1", "why a choice gave nothing; empty: it did", "str"),
        "remark": Variable(
            ("choice",), "1", "runs that could not be used with this choice, fits that it has no data for", "str"
        ),
    },
)

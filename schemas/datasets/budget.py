"""The error budget: what each source adds to the error of each number."""

from __future__ import annotations

from schemas.datasets.measured import DELAY, FLUENCE
from schemas.datasets.spec import DatasetSpec, Variable

__all__ = ["BUDGET", "SOURCES", "STATUSES"]

SOURCES = {
    "statistics": "noise",
    "reference": "what the difference is compared with: films, splitting, drift, wear",
    "t0": "time zero",
    "irf": "response of pump and probe",
    "pedestal": "pedestal of the detector since the dark run",
    "response": "non-linearity of the detector",
    "energy": "energy axis of the monochromator",
    "dos": "DOS, edge and background of the mixture",
    "window": "energies that take part",
}
"""Sources of error in the order of the budget, and what they are."""

STATUSES = {
    "published": "part of an error that the product states beside the number",
    "beside": "beside these errors: the number was fitted again with the input moved by its error",
    "none": "does not touch this number",
    "not_known": "the error of the input is not known: NaN, not zero",
    "no_value": "the number is not there",
}
"""How an entry of the budget is to be read."""

_STATUS = "how the entry is to be read: " + ", ".join(STATUSES)


def _entries(name: str, dims: tuple[str, ...], units: str, text: str) -> dict[str, Variable]:
    return {
        name: Variable(("source", *dims), units, f"error of {text} from the source, one standard deviation"),
        f"{name}_status": Variable(("source", *dims), "1", _STATUS, "str"),
    }


BUDGET = DatasetSpec(
    "budget",
    "What each source adds to the error of each number. Entries are independent; NaN where the error of an input is not known.",
    {
        "source": Variable(("source",), "1", "source of error: " + ", ".join(SOURCES), "str"),
        "fluence": FLUENCE,
        "parameter": Variable(("parameter",), "1", "time of the kinetics", "str"),
        "peak": Variable(("peak",), "1", "peak", "str"),
        "delay": DELAY,
    },
    {
        **_entries("tau", ("fluence", "parameter"), "ps", "the time"),
        **_entries("alpha", ("fluence",), "1", "the excited fraction"),
        **_entries("slope", (), "cm^2/mJ", "the slope of alpha against fluence"),
        **_entries("position", ("peak", "fluence", "delay"), "eV", "the peak's position"),
    },
)

"""The datasets of the stages, in the order in which data flow: frames, pulses, spectra and delay scans."""

from __future__ import annotations

from schemas.datasets.spec import DatasetSpec, Variable

__all__ = [
    "BURST_DELAY_SCAN",
    "BURST_SPECTRA",
    "CONDITION",
    "CONDITIONS",
    "DELAY",
    "DELAY_SCAN",
    "DROP_REASON",
    "ENERGY",
    "FLUENCE",
    "FRAMES",
    "LABELS",
    "PULSES",
    "PULSE_DELAY",
    "REFERENCE",
    "REFERENCES",
    "SPECTRA",
    "SUMS",
    "X",
    "Y",
]

PULSE_DELAY = Variable(("train", "pulse"), "ps", "pump-probe delay, positive: pump first")
DROP_REASON = Variable(("train", "pulse"), "1", "why the pulse is left out; 0: it is used", "int")
CONDITIONS = ("on", "off")
"""Names of the conditions by number: what the pump does to a pulse."""
REFERENCES = ("in_run", "pump_off_scan", "flat_field", "before_time_zero", "none")
"""What a difference is compared with, best first."""
CONDITION = Variable(("train", "pulse"), "1", "condition of the pulse: number of its name in flag_meanings", "int")
Y = Variable(("y",), "1", "row of the module", "int")
X = Variable(("x",), "1", "column of the module", "int")

_TRAIN = {"train_id": Variable(("train",), "1", "train id", "int")}
_BY_PULSE = ("train", "pulse")
_RECORDED = {
    **_TRAIN,
    "pulse_id": Variable(("pulse",), "1", "pulse id of the machine", "int"),
    "cell_id": Variable(_BY_PULSE, "1", "memory cell of the detector", "int"),
    "present": Variable(_BY_PULSE, "1", "the frame was recorded", "bool"),
    "blank": Variable(_BY_PULSE, "1", "the frame was announced and holds nothing", "bool"),
    "energy": Variable(("train",), "eV", "photon energy"),
    "delay_stage": Variable(("train",), ("mm", "ps"), "position of the delay stage", required=False),
}
_BESIDE = {
    "trigger": Variable(("train",), "ps", "electronic delay of the pump", required=False),
    "arrival": Variable(_BY_PULSE, "ps", "arrival time of the X-ray pulse", required=False),
    "intensity": Variable(_BY_PULSE, ("uJ", "1"), "pulse energy before the sample", required=False),
    "dark_frame": Variable(_BY_PULSE, "1", "frame without an X-ray pulse", "bool"),
    "pulse_slot": Variable(
        ("pulse",), "1", "slot of the bunch pattern that belongs to the frame; -1: unknown", "int", required=False
    ),
    "laser": Variable(
        ("train", "slot"),
        "1",
        "the pump laser is triggered in this slot of the bunch pattern, counted from 0 to the last in use; the X-ray pulse "
        "that it meets may lie at a constant distance",
        "bool",
        required=False,
    ),
    "laser_known": Variable(
        ("train",),
        "1",
        "the laser's pattern was recorded; where not, laser is false and says nothing",
        "bool",
        required=False,
    ),
}

FRAMES = DatasetSpec(
    "frames",
    "Raw detector frames of one run, as recorded, cropped to the beams or whole, with all that was recorded beside them.",
    {**_RECORDED, **_BESIDE, "y": Y, "x": X},
    {"frames": Variable(("train", "pulse", "y", "x"), "ADU", "raw detector frame", "int")},
)

PULSES = DatasetSpec(
    "pulses",
    "Photons per pulse and beam of one run. What a pulse means (delay, fluence, which beam is which) is in its labels.",
    {**_RECORDED, "beam": Variable(("beam",), "1", "number of the beam, from low to high x", "int")},
    {
        "photons": Variable(("train", "pulse", "beam"), "1", "photons in the beam", stderr=True),
        "n_saturated": Variable(("train", "pulse", "beam"), "1", "saturated pixels in the beam", "int"),
        "border": Variable(
            ("train", "beam"),
            "1",
            "light within 2 pixels of the border of the beam's region over all of it",
            required=False,
        ),
        "pedestal": Variable(
            ("train", "pulse", "beam"),
            "1",
            "photons that the pedestal of the frame's unlit pixels adds",
            required=False,
        ),
        "pedestal_subtracted": Variable(
            ("train", "pulse", "beam"), "1", "photons taken off for the pedestal, noise averaged out", required=False
        ),
        **_BESIDE,
    },
)

LABELS = DatasetSpec(
    "labels",
    "What every pulse of one run means for the dataset; beside the pulses, which are never written again.",
    {
        **_TRAIN,
        "energy": Variable(("train",), "eV", "photon energy"),
        "delay": PULSE_DELAY,
        "nominal_delay": Variable(("train",), "ps", "pump-probe delay without the arrival time"),
        "fluence": Variable((), "mJ/cm^2", "pump fluence"),
        "condition": CONDITION,
        "role": Variable(("beam",), "1", "role of the beam", "str"),
        "t0": Variable((), ("mm", "ps"), "position of the delay stage at time zero", required=False),
    },
    {"drop_reason": DROP_REASON},
)


_TRAINS = {
    "product": "sum of products of the trains' photons, a · b",
    "product_pulses": "sum of products of the pulses' photons, a · b",
}
SUMS = DatasetSpec(
    "sums",
    "Sums over the pulses of a cell, in slices that add exactly: all that ratios and their errors need.",
    {"beam": Variable(("beam",), "1", "beam", "str")},
    {
        "n_pulses": Variable(("cell",), "1", "pulses in the cell", "int"),
        "n_trains": Variable(("cell",), "1", "trains with pulses in the cell", "int"),
        "n_pulses_off": Variable(("cell",), "1", "pulses without pump in the cell", "int", required=False),
        "n_trains_off": Variable(("cell",), "1", "trains with pulses without pump in the cell", "int", required=False),
        "n_trains_any": Variable(
            ("cell",), "1", "trains with pulses of any condition in the cell", "int", required=False
        ),
        "photons": Variable(("limb", "cell", "beam"), "1", "photons in the beam"),
        "shot_variance": Variable(("limb", "cell", "beam"), "1", "variance of photons from photon and read noise"),
        "energy_1": Variable(("limb", "cell"), "eV", "sum of energies, weighted by photons"),
        "energy_2": Variable(("limb", "cell"), "eV^2", "sum of squared energies, weighted by photons"),
        "delay_1": Variable(("limb", "cell"), "ps", "sum of delays, weighted by photons"),
        "delay_2": Variable(("limb", "cell"), "ps^2", "sum of squared delays, weighted by photons"),
        **{name: Variable(("limb", "cell", "pair"), "1", text) for name, text in _TRAINS.items()},
        "product_shifted": Variable(
            ("limb", "cell", "pair"), ("eV^2", "ps^2"), "the same, both times the scanned coordinate"
        ),
        "product_mixed": Variable(
            ("limb", "cell", "beam", "beam_b"), ("eV", "ps"), "the same, b times the scanned coordinate"
        ),
    },
)


def _difference(dims: tuple[str, ...]) -> dict[str, Variable]:
    row = dims if "scan" in dims else tuple(d for d in dims if d != "energy")
    return {
        "od_unpumped": Variable(
            dims, "1", "optical density of the unpumped sample, −ln(I_unpumped / I_reference)", stderr=True
        ),
        "od_pumped": Variable(dims, "1", "optical density of the pumped sample, od_unpumped + delta_xas", stderr=True),
        "delta_xas": Variable(dims, "1", "change of optical density, pumped − unpumped", stderr=True),
        "delta_xas_stderr_shot": Variable(dims, "1", "standard error of delta_xas from photon and read noise alone"),
        "delta_xas_stderr_systematic": Variable(
            dims,
            "1",
            "what the reference cannot know of delta_xas: films, splitting, drift, wear; beside delta_xas_stderr",
            since=2,
        ),
        "reference": Variable(row, "1", "what delta_xas is compared with: " + ", ".join(REFERENCES), "str", since=2),
        "reference_stderr": Variable(
            dims, "1", "part of delta_xas_stderr that is the reference's; common to bins that share it", since=2
        ),
        "n_pulses": Variable(dims, "1", "pulses with pump in the bin", "int"),
        "photons_pumped": Variable(dims, "1", "photons through the pumped sample"),
        "photons_unpumped": Variable(dims, "1", "photons through the unpumped sample"),
        "n_trains": Variable(dims, "1", "trains with pulses in the bin", "int", required=False),
        **_constant(()),
    }


def _constant(dims: tuple[str, ...]) -> dict[str, Variable]:
    """The constant of the difference; its error is part of every error of delta_xas and the same in all bins."""
    return {
        "flat_field_constant": Variable(
            dims,
            "1",
            "constant of delta_xas, ln(I_pumped / I_unpumped) without pump; its error squared is the covariance of "
            "delta_xas between any two bins",
            stderr=True,
        )
    }


FLUENCE = Variable(("fluence",), "mJ/cm^2", "pump fluence")
DELAY = Variable(("delay",), "ps", "pump-probe delay, positive: pump first")
ENERGY = Variable(("energy",), "eV", "photon energy, mean of the bin's pulses")

SPECTRA = DatasetSpec(
    "spectra",
    "Spectra of the pumped and the unpumped sample and their difference.",
    {"fluence": FLUENCE, "delay": DELAY, "energy": ENERGY},
    {
        **_difference(("fluence", "delay", "energy")),
        "systematic_mode": Variable(
            ("mode", "fluence", "delay", "energy"),
            "1",
            "delta_xas_stderr_systematic as independent errors of one standard deviation each; bins share a mode",
            required=False,
            since=2,
        ),
        "film_ratio": Variable(
            ("fluence", "delay"),
            "1",
            "thickness of the pumped film over that of the unpumped one; delta_xas is that of the pumped film",
            required=False,
            stderr=True,
            since=2,
        ),
    },
)

DELAY_SCAN = DatasetSpec(
    "delay_scan",
    "The same against delay at fixed photon energy.",
    {
        "fluence": Variable(("scan",), "mJ/cm^2", "pump fluence of the scan"),
        "energy": Variable(("scan",), "eV", "photon energy of the scan"),
        "delay": DELAY,
    },
    _difference(("scan", "delay")),
)

_C = "c = −ln(I_pumped / I_unpumped) without pump"
_UNKNOWN = "what neither noise nor measurement tells of {}: films, splitting, drift, wear"
REFERENCE = DatasetSpec(
    "reference",
    "What was measured without pump, and what the model of the reference makes of it.",
    {
        "energy": Variable(("energy",), "eV", "photon energy of the model"),
        "hours": Variable(("hours",), "h", "time since the first pulse without pump"),
    },
    {
        "measured": Variable(("point",), "1", _C, stderr=True),
        "measured_energy": Variable(("point",), "eV", "photon energy of measured"),
        "measured_hours": Variable(("point",), "h", "time of measured, since the first pulse without pump"),
        "measured_run": Variable(("point",), "1", "run of measured", "int"),
        "c": Variable(("energy",), "1", f"{_C}, of the model at the mean time of the scans", stderr=True),
        "c_stderr_systematic": Variable(("energy",), "1", _UNKNOWN.format("c")),
        "drift": Variable(("hours",), "1", "change of c since the mean time of the scans at drift_energy", stderr=True),
        "drift_stderr_systematic": Variable(("hours",), "1", _UNKNOWN.format("c at that time")),
        "drift_energy": Variable((), "eV", "photon energy of drift"),
    },
)

_BURST = {
    "pulse": Variable(("pulse",), "1", "index of the pulse in its train, mean of its group"),
    "first_pulse": Variable(("pulse",), "1", "first index of the group", "int"),
    "last_pulse": Variable(("pulse",), "1", "last index of the group", "int"),
}


def _by_pulse(spec: DatasetSpec, dims: tuple[str, ...]) -> DatasetSpec:
    names = ("delta_xas", "delta_xas_stderr_shot", "n_pulses")
    found = {n: v for n, v in _difference(dims).items() if n in names}
    return DatasetSpec(
        f"burst_{spec.name}",
        f"The difference of /{spec.name} by pulse index, on the same bins; made where burst.resolve is set. Groups of "
        "pulses share their trains.",
        {**_BURST, **spec.coords},
        found | _constant(("pulse",)),
    )


BURST_SPECTRA = _by_pulse(SPECTRA, ("pulse", "fluence", "delay", "energy"))
BURST_DELAY_SCAN = _by_pulse(DELAY_SCAN, ("pulse", "scan", "delay"))

"""A session whose fits are known, and fits of injected signals whose deviations are known."""

import numpy as np
import xarray as xr

from pipeline.science.injection.recovery import size_of
from pipeline.science.kinetics.model import kinetic_trace
from schemas.datasets.injection import RECOVERED

DELAY = np.array([-0.5, 0.0, 0.1, 0.2, 0.5, 1.0, 4.8, 10.0])
FORM = {"t_d": 0.01, "irf_sigma": 0.03, "taus": (0.2, 0.3, 2.0), "amplitudes": (0.1, 0.2, -0.03)}
ENERGY = np.linspace(527.0, 531.0, 9)


def scans(sign=-1.0):
    values = sign * kinetic_trace(DELAY, **FORM)
    return xr.Dataset(
        {"delta_xas": (("scan", "delay"), values[None])},
        coords={"fluence": ("scan", [8.0]), "energy": ("scan", [528.2]), "delay": DELAY},
    )


def fitted(**changed):
    form = FORM | changed
    value = [form["t_d"], form["irf_sigma"], *form["taus"]]
    return xr.Dataset(
        {
            "value": (("fluence", "parameter"), [value]),
            "amplitude": (("fluence", "term", "energy"), np.array(form["amplitudes"])[None, :, None]),
            "fit": (("fluence", "energy", "delay"), scans()["delta_xas"].values[None] + 0.001),
            "baseline": (("fluence", "energy"), [[0.001]]),
        },
        coords={
            "fluence": [8.0],
            "parameter": ["t_d", "irf_sigma", "tau1", "tau2", "tau3"],
            "energy": [528.2],
            "delay": DELAY,
        },
    )


def mixture(alpha=0.05, stderr=0.001):
    shape = np.sin(ENERGY)
    return xr.Dataset(
        {
            "alpha": ("fluence", [alpha]),
            "alpha_stderr": ("fluence", [stderr]),
            "fit": (("fluence", "energy"), [alpha * shape]),
        },
        coords={"fluence": [8.0], "energy": ENERGY},
        attrs={"delays": [4.8, 10.0]},
    )


N = 400
SESSION = xr.Dataset(
    {
        "alpha_stderr": ("fluence", [0.01]),
        "signal": ("fluence", [0.02]),
        "signal_spectrum": ("fluence", [0.03]),
    },
    coords={"fluence": [8.0]},
)


def draws(*, scatter=1.0, off=0.0, n=N, seed=2):
    """Return fits whose deviations are so many times their errors, and so many errors off; tau1 is known from size 0.5 on."""
    rng = np.random.default_rng(seed)
    size = np.array([size_of(k) for k in range(n)])
    true = 0.1 * size
    value = true + 0.01 * (off + scatter * rng.standard_normal(n))
    tau_true = np.array([0.2, 0.3, 1.5])
    error = 0.1 * tau_true
    tau = tau_true + error * (off + scatter * rng.standard_normal((n, 3)))
    bound = np.array([-1.0, 1.0])
    known = np.stack([size >= 0.5, size >= 0.0, size > 9.0], axis=-1)
    found = xr.Dataset(
        {
            "alpha": (("draw", "fluence"), value[:, None]),
            "alpha_stderr": (("draw", "fluence"), np.full((n, 1), 0.01)),
            "alpha_true": (("draw", "fluence"), true[:, None]),
            "tau": (("draw", "fluence", "parameter"), tau[:, None]),
            "tau_true": (("draw", "fluence", "parameter"), np.broadcast_to(tau_true, (n, 1, 3))),
            "tau_identifiable": (("draw", "fluence", "parameter"), known[:, None]),
            **{
                f"tau_ci{name}": (
                    ("draw", "fluence", "parameter", "bound"),
                    (tau[..., None] + width * error[:, None] * bound)[:, None],
                )
                for name, width in ((68, 1.0), (95, 1.96))
            },
        },
        coords={
            "fluence": [8.0],
            "parameter": ["tau1", "tau2", "tau3"],
            "bound": ["lower", "upper"],
            "size": ("draw", size),
        },
    )
    return RECOVERED.describe(found)

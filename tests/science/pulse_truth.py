"""Simulated pulses with known truth, without frames: thousands of data sets in seconds."""

import numpy as np
import xarray as xr


def make_pulses(
    rng,
    energy,
    *,
    delta=0.0,
    od=0.3,
    n_pulses=20,
    photons=2e4,
    sase=0.4,
    read_variance=100.0,
    excess=0.0,
    split=(0.96, 1.04, 1.0),
    delay=1.0,
    first_train=1000,
    drift=0.0,
):
    """Return pulses (train, pulse, beam) of pumped, unpumped, reference.

    energy (train); delta and od (train,) or scalars; excess: σ of an independent relative fluctuation per train and
    beam; drift: change of delta from the first to the last pulse.
    """
    energy = np.asarray(energy, float)
    n = len(energy)
    light = rng.gamma(1 / sase**2, sase**2, (n, n_pulses)) * photons
    burst = drift * np.linspace(-0.5, 0.5, n_pulses)[None, :]
    delta = np.broadcast_to(np.asarray(delta, float), n)[:, None] + burst
    od = np.broadcast_to(np.asarray(od, float), n)[:, None]
    mean = np.stack([light * np.exp(-od - delta) * split[0], light * np.exp(-od) * split[1], light * split[2]], axis=-1)
    mean = mean * (1 + excess * rng.standard_normal((n, 1, 3)))
    seen = rng.poisson(mean) + rng.normal(0, np.sqrt(read_variance), mean.shape)
    shape = (n, n_pulses)
    return xr.Dataset(
        {
            "photons": (("train", "pulse", "beam"), seen),
            "photons_stderr": (("train", "pulse", "beam"), np.sqrt(np.maximum(seen, 0) + read_variance)),
            "n_saturated": (("train", "pulse", "beam"), np.zeros((*shape, 3), np.int32)),
            "dark_frame": (("train", "pulse"), np.zeros(shape, bool)),
            "drop_reason": (("train", "pulse"), np.zeros(shape, np.uint8)),
        },
        coords={
            "beam": ["pumped", "unpumped", "reference"],
            "train_id": ("train", np.arange(first_train, first_train + n)),
            "pulse_id": ("pulse", 4 * np.arange(n_pulses)),
            "present": (("train", "pulse"), np.ones(shape, bool)),
            "blank": (("train", "pulse"), np.zeros(shape, bool)),
            "energy": ("train", energy),
            "delay": (("train", "pulse"), np.full(shape, float(delay))),
            "nominal_delay": ("train", np.full(n, float(delay))),
            "fluence": 8.0,
        },
    )


def exact_pulses(energy, photons, *, delay=1.0, n_pulses=4, fluence=8.0, stderr=None, first_train=1000):
    """Return pulses without any noise: their photons (broadcast over train, pulse, beam) and errors are what is given.

    delay (train,) or a scalar; stderr: like photons, by default their root.
    """
    energy = np.atleast_1d(np.asarray(energy, float))
    n = len(energy)
    delay = np.broadcast_to(np.asarray(delay, float), n)
    seen = np.broadcast_to(np.asarray(photons, float), (n, n_pulses, np.shape(photons)[-1])).copy()
    error = np.sqrt(seen) if stderr is None else np.broadcast_to(np.asarray(stderr, float), seen.shape).copy()
    shape, dims = seen.shape[:2], ("train", "pulse")
    return xr.Dataset(
        {
            "photons": ((*dims, "beam"), seen),
            "photons_stderr": ((*dims, "beam"), error),
            "n_saturated": ((*dims, "beam"), np.zeros(seen.shape, np.int32)),
            "dark_frame": (dims, np.zeros(shape, bool)),
            "drop_reason": (dims, np.zeros(shape, np.uint8)),
        },
        coords={
            "beam": ["pumped", "unpumped", "reference"][: seen.shape[2]],
            "train_id": ("train", np.arange(first_train, first_train + n)),
            "pulse_id": ("pulse", 4 * np.arange(n_pulses)),
            "present": (dims, np.ones(shape, bool)),
            "blank": (dims, np.zeros(shape, bool)),
            "energy": ("train", energy),
            "delay": (dims, np.repeat(delay[:, None], n_pulses, axis=1)),
            "nominal_delay": ("train", delay.copy()),
            "fluence": fluence,
        },
    )

"""Time zero of a product as text, and how it comes into a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigError, ProductError
from pipeline.job import read_config
from pipeline.results.summary import time_zero_line
from pipeline.storage import store, versions
from schemas.config_text import with_value

__all__ = ["time_zero_text", "write_t0"]


def time_zero_text(product: str) -> tuple[str, float]:
    """Return what the delay scans of a product say of time zero, and the stage position for `delay.t0`.

    Raises
    ------
    ProductError
        If the product holds no time zero.
    """
    version = versions.resolve_intact(product)
    summary: dict[str, Any] = versions.read_summary(version)
    zero = summary.get("time_zero")
    if zero is None:
        raise ProductError(
            f"{version}: no time zero; no delay scan has a step, or the product was made by an older trxas: process it again"
        )
    found = store.open_tree(version / "product.zarr")["time_zero"].to_dataset()
    lines = []
    rows = zip(*(found[n].values for n in ("fluence", "energy", "time_zero", "time_zero_stderr")), strict=True)
    for fluence, energy, value, stderr in rows:
        shown = f"{1e3 * value:+7.1f} ± {1e3 * stderr:.1f} fs" if np.isfinite(value) else "no step"
        lines.append(f"delay scan at {energy:.2f} eV, {fluence:g} mJ/cm²: {shown}")
    delay = zero["delay"]
    lines.append(
        f"all scans: {1e3 * delay['value']:+7.1f} ± {1e3 * delay['stderr']:.1f} fs from stage {zero['t0']:.4f}"
    )
    if found["dof"] > 0:
        lines.append(f"between scans: χ²/dof {float(found['chi2']) / int(found['dof']):.2f}, p {float(found['p']):.2g}")
    if found["is_reversed"]:
        lines.append("the signal precedes the pump: delay.sign is the wrong one")
    lines += [time_zero_line(zero), f"figure  {version / 'figures' / 'time_zero.png'}"]
    return "\n".join(lines), float(time_zero_line(zero).split()[-1])


def write_t0(config: Path, t0: float) -> None:
    """Write a stage position into a config as `delay.t0`; everything else, comments included, stays as it is.

    Raises
    ------
    ConfigError
        If the config cannot be read, or the result would say something else.
    """
    before = read_config(config)
    text = with_value(config.read_text(encoding="utf-8"), "delay", "t0", f"{t0!r}")
    aside = config.with_name(f".{config.name}.new")
    aside.write_text(text, encoding="utf-8")
    try:
        after = read_config(aside)
        expected = before.model_copy(update={"delay": before.delay.model_copy(update={"t0": t0})})
        if after != expected:
            raise ConfigError(f"{config}: delay.t0 cannot be written there; set it to {t0!r} by hand")
        aside.replace(config)
    finally:
        aside.unlink(missing_ok=True)

"""The same through the real command: a change and back, a run that is added, a version that is damaged."""

import json
import shutil

import pytest

from tests.command import trxas

ENERGY = "runs.delay_scans=[{run: 5, fluence: 32.0, energy: 600}]"
FEWER = "runs.energy_scans=[{run: 3, fluence: 32.0}]"


@pytest.mark.long
def test_what_was_done_before_leaves_no_trace(sessions, prefect_home, tmp_path):
    folder = shutil.copytree(sessions["one"], tmp_path / "session")

    def processed(out, *changes):
        """Return what the summary says, and the version."""
        sets = ["--set", *changes] if changes else []
        done = trxas("process", folder / "config.yaml", "--out", tmp_path / out, *sets, home=prefect_home)
        assert done.returncode == 0, done.stderr
        summary = json.loads(trxas("show", tmp_path / out, "--json").stdout)
        return {k: v for k, v in summary.items() if k not in ("created", "version")}, summary["version"]

    first, _ = processed("a", FEWER)
    moved, _ = processed("a", FEWER, ENERGY)
    assert moved["product_hash"] != first["product_hash"]
    assert processed("a", FEWER) == (first, "v0003")
    # a run is added, then its files change
    assert processed("a") == (processed("b")[0], "v0004")
    shutil.rmtree(folder / "raw" / "r0004")
    shutil.copytree(sessions["other"] / "raw" / "r0004", folder / "raw" / "r0004")
    last, version = processed("a")
    assert (last, version) == (processed("c")[0], "v0005")
    damaged = tmp_path / "a" / "products" / "history-tiny" / "v0005" / "product.zarr" / "spectra" / "delta_xas" / "c"
    shutil.rmtree(damaged)
    found = trxas("validate", tmp_path / "a")
    assert found.returncode == 1
    assert "spectra/delta_xas/c/0/0/0: is missing" in found.stderr
    for verb in (["show"], ["export", "--format", "csv", "--out", tmp_path / "export"], ["t0"], ["plan"]):
        refused = trxas(verb[0], tmp_path / "a", *verb[1:])
        assert refused.returncode == 1
        assert "v0005: is damaged (product.zarr/spectra/delta_xas/c/0/0/0: is missing)" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert processed("a") == (last, "v0006")

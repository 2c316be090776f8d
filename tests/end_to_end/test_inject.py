"""`trxas inject` on a processed dataset: a new version with what was found again, once."""

import json
import shutil

import pytest
import xarray as xr

from flows.cli import main
from pipeline.plots.injection_figure import draw_injection
from pipeline.storage import versions
from schemas.products import Summary


@pytest.fixture
def inject(capsys, tiny, processed, tmp_path):
    """Return the output folder, and a call of the verb in this process: exit code, stdout, stderr. Raw runs are gone."""
    out = tmp_path / "out"
    shutil.copytree(processed[0], out)
    (tmp_path / "raw").mkdir()
    for name in ("config.yaml", "dos_ground.txt", "dos_excited.txt"):
        shutil.copy(tiny.out / name, tmp_path / name)

    def call(*arguments):
        settings = ("--out", out, "--set", "compute.workers=1", "--no-progress")
        command = ["inject", str(tmp_path / "config.yaml"), *map(str, (*arguments, *settings))]
        with pytest.raises(SystemExit) as ended:
            main(command)
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return out, call


def test_a_version_with_the_injection_is_published_once(inject, tmp_path):
    out, call = inject
    before = versions.resolve(out)
    code, printed, err = call("--n", 3)
    assert code == 0, err
    assert "injected signals: 3 in pulses with pump, whose own signal cancels (4 runs)" in printed
    after = versions.resolve(out)
    assert (before.name, after.name) == ("v0001", "v0002")
    assert versions.check(after) == []
    tree, former = versions.open_product(after), versions.open_product(before)
    assert set(tree.children) - set(former.children) == {"injection"}
    for name in former.children:
        xr.testing.assert_identical(tree[name].to_dataset().load(), former[name].to_dataset().load())
    summary = Summary.model_validate_json(json.dumps(versions.read_summary(after)))
    assert summary.injection.n == 3
    assert {row.quantity for row in summary.injection.quantities if row.fluence == 32.0} == {
        "alpha",
        "tau1",
        "tau2",
        "tau3",
    }
    assert "injection.on_top" in {w.code for w in summary.warnings}
    draw_injection(tree["injection"].to_dataset().load(), tmp_path / "injection.png")
    assert (tmp_path / "injection.png").stat().st_size > 10_000
    # the same again changes nothing, and another seed draws others
    assert call("--n", 3)[0] == 0
    assert versions.resolve(out).name == "v0002"
    assert call("--n", 3, "--seed", 5)[0] == 0
    other = versions.open_product(versions.resolve(out))["injection"]
    assert (other["alpha"] != tree["injection"]["alpha"]).any()


def test_another_config_is_not_what_was_processed(inject):
    _, call = inject
    code, _, err = call("--n", 1, "--set", "kinetics.power=1")
    assert code == 1
    assert "is not processed with this config and program: fits are not current; run `trxas process` first" in err


def test_no_signal_is_no_use(inject):
    assert inject[1]("--n", 0)[0] == 2

"""The axis of delays of a session: time zero from the delay scans, monitors with another mean, a run without monitor."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import ConfigError, DataError, ProductError
from pipeline.job import load_job
from pipeline.plots.style import house_style
from pipeline.plots.time_zero_figure import draw_time_zero
from pipeline.results import time_zero_report
from pipeline.results.time_zero_report import time_zero_text, write_t0
from pipeline.science.labels.timing import PS_PER_MM
from pipeline.stages import label
from pipeline.stages.bin import BIN
from pipeline.stages.find_time_zero import any_position, time_zero_of
from pipeline.stages.label import LABEL
from pipeline.stages.reduce import pulses_of
from pipeline.storage.store import open_tree
from pipeline.workflow import context_of
from tests.command import trxas


@pytest.fixture(scope="module")
def made(tiny, processed):
    """Return the processed tiny experiment, and what makes its labels with changes of the config."""
    out = processed[0]

    def labels(*changes):
        job = load_job(tiny.out / "config.yaml", out, changes)
        return LABEL.make(context_of(job), None, "")

    return out, labels


def delays(made_labels):
    return {name: one["delay"].values for name, one in made_labels.datasets.items() if name != "r0002"}


def test_a_monitor_with_a_mean_and_a_run_without_one_land_on_one_axis(made, monkeypatch):
    true = delays(made[1]())

    def moved(job, number):
        pulses = pulses_of(job, number)
        return pulses.drop_vars("arrival") if number == 5 else pulses.assign(arrival=pulses["arrival"] + 0.4)

    monkeypatch.setattr(label, "pulses_of", moved)
    found = made[1]("delay.arrival_reference=session")
    for run, expected in true.items():
        np.testing.assert_allclose(found.datasets[run]["delay"].values, expected, atol=0.005)
    assert [(said.code, said.run) for said in found.notes if said.code.startswith("delay")] == [
        ("delay.monitor_missing", 5)
    ]
    # the absolute reading counts where the config says so
    absolute = made[1]("delay.arrival_reference=0.0").datasets["r0003"]["delay"].values
    np.testing.assert_allclose(absolute, true["r0003"] + 0.4)


def test_time_zero_comes_from_the_delay_scan(made):
    given, fitted = made[1](), made[1]("delay.t0=fit")
    t0 = fitted.datasets["r0003"]["t0"]
    assert t0.attrs["units"] == "mm"
    assert float(t0) == pytest.approx(120.0, abs=0.001)
    expected = delays(given)
    for run, found in delays(fitted).items():
        # time zero of the sample is that of the scenario
        np.testing.assert_allclose(found, expected[run] + PS_PER_MM * (120.0 - float(t0)), atol=1e-9)


def test_without_a_delay_scan_a_number_is_asked_for(made):
    with pytest.raises(DataError, match=r"delay\.t0 is fit, and there is no delay scan .*; give .* as delay\.t0$"):
        made[1]("delay.t0=fit", "runs.delay_scans=[]")
    assert any_position([xr.Dataset()]) == 0.0


def test_without_a_step_a_number_is_asked_for(made, monkeypatch):
    def unpumped(job, number):
        pulses = pulses_of(job, number)
        # both sample beams alike
        return pulses.assign(photons=pulses["photons"].isel(beam=[1, 1, 2]).assign_coords(beam=pulses["beam"].values))

    monkeypatch.setattr(label, "pulses_of", unpumped)
    order = "beams={count: 3, order: [pumped, unpumped, reference]}"
    with pytest.raises(DataError, match=r"delay\.t0 is fit, and cannot be found: no step in 1 delay scan.*delay\.t0$"):
        made[1]("delay.t0=fit", order)


def test_an_offset_of_the_energy_is_added(made):
    before, after = (one.datasets["r0004"]["energy"].values for one in (made[1](), made[1]("energy.offset=0.25")))
    np.testing.assert_array_equal(after, before + 0.25)


def said_of(made, tiny, delay_scan):
    job = load_job(tiny.out / "config.yaml", made[0])
    found, notes = time_zero_of(job, delay_scan, LABEL.result(job))
    return found, {said.code: said.text for said in notes}


def test_a_wrong_zero_or_sign_and_scans_that_disagree_are_told(made, tiny):
    scan = BIN.result(load_job(tiny.out / "config.yaml", made[0]))["delay_scan"].drop_vars("reference")
    found, said = said_of(made, tiny, scan)
    assert said == {}
    assert float(found["stage"]) == pytest.approx(120.0, abs=5 * float(found["stage_stderr"]))
    later = scan.assign_coords(delay=scan["delay"] + 2.0)
    found, said = said_of(made, tiny, later)
    assert "set delay.t0: 120.29" in said["delay.zero_off"] or "set delay.t0: 120.30" in said["delay.zero_off"]
    _, said = said_of(made, tiny, scan.assign_coords(delay=-scan["delay"]))
    assert "delay.sign is the wrong one" in said["delay.sign_wrong"]
    earlier = scan.interp(delay=scan["delay"] - 0.3).assign_coords(delay=scan["delay"])
    apart = xr.concat([scan, earlier], dim="scan", data_vars="minimal")
    apart = apart.assign_coords(energy=("scan", [528.2, 529.2]))
    _, said = said_of(made, tiny, apart)
    assert "fs at 32 mJ/cm², 529.20 eV" in said["delay.scans_disagree"]


def test_t0_is_told_and_written(processed, tiny, tmp_path):
    out, stdout = processed
    last = next(line for line in stdout.splitlines() if line.startswith("time zero at stage "))
    config = tmp_path / "config.yaml"
    text = (tiny.out / "config.yaml").read_text(encoding="utf-8").replace("t0: 120.0", "t0: fit")
    config.write_text(text + "# mine\n", encoding="utf-8")
    done = trxas("t0", out, "--write", config)
    assert done.returncode == 0, done.stderr
    assert last in done.stdout
    value = last.split("delay.t0: ")[1]
    assert config.read_text(encoding="utf-8") == text.replace("t0: fit", f"t0: {float(value)!r}") + "# mine\n"
    figure = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("figure"))
    assert figure.endswith("figures/time_zero.png")
    assert "delay scan at 528.20 eV, 32 mJ/cm²:" in time_zero_text(str(out))[0]


def test_a_product_without_time_zero_says_so(processed, monkeypatch):
    monkeypatch.setattr(time_zero_report.versions, "read_summary", lambda _: {})
    with pytest.raises(
        ProductError, match=r"no time zero; no delay scan has a step, or .* an older trxas: process it again"
    ):
        time_zero_text(str(processed[0]))


def test_a_config_that_would_say_something_else_is_left_alone(tiny, tmp_path, monkeypatch):
    config = tmp_path / "config.yaml"
    config.write_bytes((tiny.out / "config.yaml").read_bytes())
    monkeypatch.setattr(time_zero_report, "with_value", lambda text, *_: text)
    with pytest.raises(ConfigError, match=r"delay\.t0 cannot be written there; set it to 1\.5 by hand"):
        write_t0(config, 1.5)
    assert config.read_bytes() == (tiny.out / "config.yaml").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_the_figure_shows_scans_with_a_step(processed, tmp_path):
    tree = open_tree(processed[0] / "products" / "tiny" / "v0001" / "product.zarr")
    with house_style():
        draw_time_zero(tree["delay_scan"].to_dataset(), tree["time_zero"].to_dataset(), tmp_path / "zero.png")
    assert (tmp_path / "zero.png").stat().st_size > 10_000

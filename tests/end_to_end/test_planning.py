"""`trxas plan` before there are data, on a product, and where there is nothing to plan from."""

import json

import numpy as np
import pytest

from flows.cli import main
from pipeline.results.interleave import interleave_lines
from pipeline.results.plan import plan_of_config, plan_text
from pipeline.storage import versions as publish
from schemas.config import Config


@pytest.fixture
def plan(capsys):
    """Run the verb in this process; returns exit code, stdout, stderr."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["plan", *map(str, arguments)])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return call


def config(**sections) -> Config:
    runs = {"dark": 1, "delay_scans": [{"run": 2, "fluence": 8.0}]}
    return Config.model_validate({"dataset": "next-beamtime", "runs": runs, **sections})


def case(**sections) -> dict:
    return plan_of_config(config(**sections))["cases"][0]


def test_a_config_from_init_can_be_planned(plan, tiny, tmp_path):
    with pytest.raises(SystemExit):
        main(["init", str(tiny.out / "raw"), "-o", str(tmp_path / "c.yaml")])
    code, out, _ = plan(tmp_path / "c.yaml")
    assert code == 0
    assert "NOT YOUR NUMBERS" in out
    assert "there is no product" in out
    assert all(f"tau{i} = " in out for i in (1, 2, 3))
    code, out, _ = plan(tmp_path / "c.yaml", "--json", "--set", "plan.trains=40", "plan.target=0.1")
    assert code == 0
    found = json.loads(out)
    assert found["basis"].startswith("plan section of the config (trains); delays, ")
    assert found["cases"][0]["target"] == 0.1
    code, _, err = plan(tmp_path / "c.yaml", "--set", "plan.trains=0")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "plan.trains" in err


def test_a_product_is_planned_from_what_was_measured(plan, processed, tiny, tmp_path):
    product = publish.resolve(processed[0])
    code, out, _ = plan(product, "--json")
    assert code == 0
    found = json.loads(out)["cases"][0]
    import xarray as xr

    fit = xr.open_datatree(product / "product.zarr")["kinetics"].to_dataset().sel(fluence=32.0)
    for name, tau in found["taus"].items():
        # the plan leaves out the constant under the trace, which the fit knows as well as its reference
        assert tau["stderr"] == pytest.approx(float(fit["crb"].sel(parameter=name)), rel=2e-2)
    better = found["better"]
    assert sum(better["shots"]) == found["shots"]
    assert 0.2 < better["efficiency"] < 1.0
    now, then = (np.array([t["relative"] for t in f["taus"].values()]) for f in (found, better))
    assert better["efficiency"] == pytest.approx((then**2).sum() / (now**2).sum(), rel=0.02)
    (tmp_path / "config.yaml").write_text((tiny.out / "config.yaml").read_text())
    arguments = (tmp_path / "config.yaml", "--json", "--out", processed[0])
    assert json.loads(plan(*arguments)[1])["source"] == f"product {product}"
    assert json.loads(plan(*arguments, "--planned")[1])["source"] == "config tiny"


def test_shots_noise_and_scans_of_the_plan_section():
    first = case()
    more = case(plan={"trains": 16})
    for name, tau in first["taus"].items():
        assert more["taus"][name]["relative"] == pytest.approx(tau["relative"] / 2, rel=1e-6)
        assert tau["shots_factor"] == pytest.approx((tau["relative"] / 0.2) ** 2, rel=1e-6)
    noisy = case(plan={"noise_ratio": 2.0, "photons": 1e5})
    assert noisy["snr"] == pytest.approx(first["snr"] / 4)
    assert first["snr"] == pytest.approx(0.01 / np.sqrt(2 / 4e5 / 160), rel=1e-3)
    dense = {"delays": [{"start": -0.1, "stop": 1.5, "step": 0.05}, 2, 3, 5, 10, 60]}
    one = case(plan={**dense, "trains": 8})
    scans = case(plan={**dense, "amplitudes": [[1.0, 2.5, -0.5], [1.0, -0.6, 1.5]]})
    assert (scans["n_scans"], scans["shots"]) == (2, one["shots"])
    assert scans["taus"]["tau1"]["relative"] < one["taus"]["tau1"]["relative"]
    measured = case(kinetics={"t_d": {"value": 0.0, "stderr": 0.002}})
    assert measured["taus"]["tau1"]["relative"] < first["taus"]["tau1"]["relative"]
    coarse = case(plan={"candidates": [{"start": 0.0, "stop": 5.0, "step": 0.5}], "delays": [0, 1, 60]})
    assert max(coarse["better"]["delays"]) <= 5.0
    assert list(case(kinetics={"n_exponentials": 2})["taus"]) == ["tau1", "tau2"]


def test_a_hopeless_plan_says_so():
    text = plan_text(plan_of_config(config(plan={"delays": [-1.0, 0.5, 60.0], "photons": 1e3})))
    assert "tau1 = 0.15 ps: not determined" in text
    assert "at the better delays" in text


def test_nothing_to_plan_from_is_one_line(plan, tmp_path):
    for arguments in ([tmp_path], [tmp_path / "nowhere.yaml"]):
        code, _, err = plan(*arguments)
        assert code in (1, 2)
        assert len(err.splitlines()) == 1
    (tmp_path / "c.yaml").write_text(
        "dataset: x\nruns: {dark: 1, delay_scans: [{run: 2, fluence: 1}]}\nplan: {delays: [-5, -4]}\n"
    )
    code, _, err = plan(tmp_path / "c.yaml")
    assert code in (1, 2)
    assert "plan.delays: no signal" in err


def interleaved(**sections):
    return plan_of_config(config(**sections))["interleave"]


def scans(*fluences):
    return {"dark": 1, "energy_scans": [{"run": 3 + k, "fluence": f} for k, f in enumerate(fluences)]}


def test_what_to_interleave_is_said_in_numbers_of_the_plan():
    found = interleaved(plan={"photons": 2e6, "trains": 10, "pulses_per_train": 10, "signal": 0.02})
    assert found["stderr"] == pytest.approx(1e-4)
    assert found["stderr_every_second"] == pytest.approx(np.sqrt(2) * 1e-4)
    # half a per mille of wear for every per cent of films: 0.3 % and 2 % of an optical density of 0.5
    assert (found["films"], found["wear_per_run"]) == pytest.approx((0.01, 0.0015))
    assert found["runs_between_pump_off_scans"] == 1
    assert interleaved(plan={"signal": 0.4})["runs_between_pump_off_scans"] == 5
    assert interleaved(plan={"delays": [-2, -1, -0.5, -0.3, 0.0, 0.2, 1.0]})["early_delays"] == 4


@pytest.mark.parametrize(
    ("fluences", "together", "better"),
    [
        ((8.0, 16.0, 32.0), True, [8.0, 32.0, 16.0, 8.0]),
        ((8.0, 32.0, 16.0, 8.0), False, [8.0, 32.0, 16.0, 8.0]),
        ((4.0, 8.0, 16.0, 32.0), True, [4.0, 32.0, 8.0, 16.0, 4.0]),
        ((8.0, 32.0), False, [8.0, 32.0, 8.0]),
        ((8.0, 8.0, 8.0), False, [8.0]),
    ],
)
def test_fluences_that_go_with_time_are_put_in_a_better_order(fluences, together, better):
    found = interleaved(runs=scans(*fluences))
    assert (found["fluences_with_time"], found["better_fluences"]) == (together, better)
    text = "\n".join(interleave_lines(found))
    assert ("go with time, as wear does; better" in text) == together


def test_a_plan_ends_with_what_to_interleave(plan, processed):
    code, out, _ = plan(publish.resolve(processed[0]))
    assert code == 0
    assert "What to interleave (signal " in out
    assert "  pump         on every second pulse: all of this cancels; error " in out
    found = plan_of_config(config())["interleave"] | {"in_run": True}
    assert "  pump         pulses without pump are in the runs: nothing of this stays. Keep it so" in interleave_lines(
        found
    )

"""What is said of a time, for every kind of interval that it can have."""

import numpy as np
import pytest

from pipeline.science.kinetics.problem import build_problem
from pipeline.science.kinetics.report import verdicts
from pipeline.science.kinetics.search import solve
from pipeline.science.kinetics.shared import fit_kinetics
from tests.science.kinetic_truth import simulate

OPEN = np.inf


@pytest.fixture(scope="module")
def solved():
    """A fit, and the problem and solution that it came from."""
    traces = simulate(snr=100)
    fit = fit_kinetics(traces, irf_sigma=0.05)
    values = (traces[n].values for n in ("delta_xas", "delta_xas_stderr"))
    problem = build_problem(
        traces["delay"].values, *values, power=2, n_exponentials=3, irf_sigma=0.05, t_d="fit", amplitude_prior=3.0
    )
    return problem, solve(problem)[0], fit


def of_tau2(solved, ends, *, identifiable=False, **changes):
    problem, best, fit = solved
    fit = fit.copy(deep=True)
    fit["ci95"].loc[{"parameter": "tau2"}] = np.array(ends)
    fit["identifiable"].loc[{"parameter": "tau2"}] = identifiable
    for name, value in changes.items():
        if fit[name].dims:
            fit[name].loc[{"parameter": "tau2"}] = value
        else:
            fit[name] = value
    return verdicts(problem, best, fit)[1]


@pytest.mark.parametrize(
    ("ends", "code", "text"),
    [
        ((0.0, 0.4), "kinetics.tau_upper_limit", "tau2 < 0.4 ps at 95 %, not determined below: SNR is 1"),
        ((0.1, OPEN), "kinetics.tau_lower_limit", "tau2 > 0.1 ps at 95 %, not determined above: SNR is 1"),
        ((0.1, 0.4), "kinetics.tau_between", "tau2 between 0.1 and 0.4 ps at 95 %, not determined better: SNR is 1"),
        ((0.0, OPEN), "kinetics.tau_not_determined", "tau2 is not determined by these data: SNR is 1"),
    ],
)
def test_an_interval_without_a_value_has_the_verdict_of_its_ends(solved, ends, code, text):
    said = of_tau2(solved, ends)
    assert (said.code, said.severity, said.parameter) == (code, "caution", "tau2")
    assert said.text.startswith(text)


def test_a_determined_time_is_told_with_its_interval(solved):
    said = of_tau2(solved, (0.2, 0.3), identifiable=True, value=0.25)
    assert (said.code, said.severity) == ("kinetics.tau_determined", "info")
    assert said.text == "tau2 = 0.25 ps, 95 % interval 0.2 to 0.3 ps"


@pytest.mark.parametrize(("high", "shown"), [(0.3, "0.3"), (OPEN, "open")])
def test_a_model_that_chi_square_contradicts_gives_no_value(solved, high, shown):
    said = of_tau2(solved, (0.2, high), chi2=2.0 * float(solved[2]["dof"]))
    assert (said.code, said.severity) == ("kinetics.tau_of_misfit", "caution")
    assert said.text.startswith("tau2 is not known: the model does not describe the data (χ²/dof 2.00, probability ")
    assert said.text.endswith(f"if it did, 0.2 to {shown} ps at 95 %")


@pytest.mark.parametrize(
    ("crb", "advice"),
    [
        (0.5, "about 1000 is needed with these delays"),
        (1e4, "no ratio in reach would do with these delays"),
        (1e-4, "other solutions fit nearly as well (linear error 0.07 ps)"),
    ],
)
def test_the_advice_follows_from_what_the_delays_allow(solved, crb, advice):
    ratio = float(of_tau2(solved, (0.1, 0.4)).text.split("SNR is ")[1].split(",")[0])
    assert ratio == pytest.approx(100, rel=0.3)
    # a standard error of a fifth of tau is wanted, and it falls as the ratio grows
    said = of_tau2(solved, (0.1, 0.4), crb=crb, value=0.25 * ratio / 100, stderr=0.07)
    assert said.text.endswith(advice)

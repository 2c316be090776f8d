"""Times pyglotaran on traces from a file; run by the interpreter of an environment that has it, not by ours.

`python pyglotaran_fit.py data.npz repeats`: the file holds delay, signal (trace, delay), stderr, taus (the start) and
irf_sigma. Prints JSON: seconds of processor time per fit, the taus and the residual sum of squares.

The form without the square is a K-matrix of six compartments: a_j feeds b_j with 1/tau1 while both lose 1/tau_j, so that
b_j(t) = (1 - e^{-t/tau1}) e^{-t/tau_j}; the a_j are kept out of the signal by zero constraints.
"""

import contextlib
import io
import json
import sys
import time

import numpy as np
import xarray as xr
from glotaran.io import load_model, load_parameters
from glotaran.optimization.optimize import optimize
from glotaran.project.scheme import Scheme

MODEL = """
default_megacomplex: decay
initial_concentration:
  start: {compartments: [a1, a2, a3, b1, b2, b3], parameters: [one, one, one, zero, zero, zero]}
megacomplex:
  m: {type: decay, k_matrix: [k]}
k_matrix:
  k:
    matrix:
      (b1, a1): k1
      (b2, a2): k1
      (b3, a3): k1
      (a2, a2): k2
      (a3, a3): k3
      (b1, b1): zero
      (b2, b2): k2
      (b3, b3): k3
irf:
  response: {type: gaussian, center: center, width: width, normalize: false}
clp_constraints:
  - {type: zero, target: a1}
  - {type: zero, target: a2}
  - {type: zero, target: a3}
dataset:
  d: {initial_concentration: start, megacomplex: [m], irf: response}
"""


def main() -> None:
    file, repeats = sys.argv[1:]
    data = np.load(file)
    rates = (1 / data["taus"]).tolist()
    parameters = [
        ["one", 1.0, {"vary": False}],
        ["zero", 0.0, {"vary": False}],
        ["center", 0.0, {"min": -0.3, "max": 0.3}],
        ["width", float(data["irf_sigma"]), {"vary": False}],
        *([f"k{i + 1}", rate, {"min": 1 / 200, "max": 100.0}] for i, rate in enumerate(rates)),
    ]
    model = load_model(MODEL, format_name="yml_str")
    start = load_parameters(json.dumps(parameters), format_name="yml_str")
    dataset = xr.Dataset(
        {
            "data": (("time", "spectral"), data["signal"].T),
            "weight": (("time", "spectral"), 1 / data["stderr"].T),
        },
        coords={"time": data["delay"], "spectral": np.arange(len(data["signal"]), dtype=float)},
    )
    seconds = []
    for _ in range(int(repeats) + 1):
        scheme = Scheme(model=model, parameters=start, data={"d": dataset}, maximum_number_function_evaluations=200)
        begin = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            result = optimize(scheme, verbose=False, raise_exception=True)
        seconds.append(time.process_time() - begin)
    taus = [1 / result.optimized_parameters.get(f"k{i}").value for i in (1, 2, 3)]
    sys.stdout.write(
        json.dumps({"seconds": float(np.median(seconds[1:])), "taus": taus, "chi2": float(2 * result.cost)})
    )


if __name__ == "__main__":
    main()

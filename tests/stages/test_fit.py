"""What the fits say where there is little to fit."""

import numpy as np

from pipeline.stages.fit import fit_all
from pipeline.stages.fit_kinetics import fit_all_kinetics
from tests.stages.test_fit_kinetics import config, data
from tests.synthetic import config as seed
from tests.synthetic import groups


def test_a_dataset_of_few_energies_and_no_delay_scan_has_no_fit_and_says_so():
    made = groups(scans=False)
    few = made["spectra"].isel(energy=slice(0, 3), delay=slice(0, 2))
    results, notes = fit_all(few, made["delay_scan"], seed("seed"), {})
    said = {note.code: note.severity for note in notes}
    assert said == {"peaks.not_fitted": "caution", "kinetics.none": "info", "mixture.no_late_spectrum": "info"}
    assert not results["peaks"]["detected"].any()
    assert (results["kinetics"]["verdict_code"] == "kinetics.no_fit").all()


def test_kinetics_that_cannot_be_fitted_or_rest_on_two_unknowns_are_named_by_fluence():
    spectra, scan = data(shift=0.0, noise=1e-4)
    none = spectra.isel(energy=[])
    late = scan.sel(delay=slice(2.0, None))
    *_, notes = fit_all_kinetics(none, late, config())
    assert [(n.code, n.fluence) for n in notes] == [("kinetics.not_fitted", 8.0), ("kinetics.none", None)]
    assert notes[0].text.startswith("kinetics at 8 mJ/cm²: the first delay is 2.2 ps, behind the rise")
    groups, _, notes = fit_all_kinetics(none, scan, config(irf_sigma="fit", t_d="fit"))
    kinetics = groups["kinetics"]
    assert "kinetics.response_fitted" in [n.code for n in notes]
    assert np.isfinite(kinetics["value"]).all()

"""What became of every frame and pulse, and how good the result is."""

from __future__ import annotations

from schemas.datasets.measured import DELAY, ENERGY, FLUENCE
from schemas.datasets.spec import DatasetSpec, Variable

__all__ = ["QUALITY"]

QUALITY = DatasetSpec(
    "quality",
    "What happened to every frame and pulse, and how close to the shot-noise limit the run is.",
    {
        "run": Variable(("run",), "1", "run number", "int"),
        "pulse": Variable(("pulse",), "1", "index of the pulse in its train", "int"),
        "fluence": FLUENCE,
        "delay": DELAY,
        "energy": ENERGY,
        "scan_delay": Variable(("scan_delay",), "ps", "pump-probe delay of the delay scans"),
        "scan_fluence": Variable(("scan",), "mJ/cm^2", "pump fluence of the scan"),
        "scan_energy": Variable(("scan",), "eV", "photon energy of the scan"),
    },
    {
        "run_fluence": Variable(("run",), "mJ/cm^2", "pump fluence of the run"),
        "run_delay": Variable(("run",), "ps", "nominal delay of an energy scan"),
        "frames_expected": Variable(("run",), "1", "trains × pulses of the run", "int"),
        "frames_read": Variable(("run",), "1", "frames recorded and read", "int"),
        "pulses_used": Variable(("run",), "1", "pulses in the result", "int"),
        "pulses_without_pump": Variable(("run",), "1", "of these, pulses that the pump did not reach", "int"),
        "trains_missing": Variable(("run",), "1", "trains without detector data", "int"),
        "trains_partial": Variable(("run",), "1", "trains with fewer frames than usual", "int"),
        "trains_suspect": Variable(("run",), "1", "trains whose index is flagged as suspect", "int"),
        "trains_truncated": Variable(("run",), "1", "trains whose index points past the data", "int"),
        "trains_misindexed": Variable(("run",), "1", "trains whose index points at another train", "int"),
        "trains_duplicate": Variable(("run",), "1", "trains recorded twice, the second copy left out", "int"),
        "trains_duplicate_pulse": Variable(("run",), "1", "trains in which a pulse id repeats", "int"),
        "sequences_missing": Variable(("run",), "1", "sequence files of the detector that are missing", "int"),
        "frames_blank": Variable(("run",), "1", "frames announced but never written, or zero everywhere", "int"),
        **{
            f"dropped_{reason}": Variable(("run",), "1", f"pulses left out: {text}", "int")
            for reason, text in {
                "absent": "no frame",
                "dark": "no X-ray pulse in the bunch pattern",
                "excluded": "excluded by the config",
                "no_calibration": "the dark run lacks the memory cell",
                "low_intensity": "below the intensity floor",
                "saturated": "saturated pixels",
                "no_energy": "no photon energy for the train",
                "no_delay": "no delay: stage or arrival time missing",
                "no_condition": "not known whether the pump reached them",
                "outside_bins": "outside all bins",
            }.items()
        },
        "noise_ratio": Variable(("run",), "1", "scatter of pumped/unpumped over photon noise"),
        "noise_ratio_reference": Variable(("run",), "1", "scatter of unpumped/reference over photon noise"),
        "null_chi2": Variable(("run",), "1", "χ² per degree of freedom, odd against even trains"),
        "null_p": Variable(("run",), "1", "probability of null_chi2 by chance"),
        "null_p_unpumped": Variable(("run",), "1", "probability of null_chi2_unpumped by chance"),
        "null_chi2_unpumped": Variable(
            ("run",), "1", "χ² per degree of freedom of od_unpumped, odd against even trains"
        ),
        "null_chi2_early": Variable(
            ("run",), "1", "χ² per degree of freedom of delta_xas against zero, delays before time zero"
        ),
        "null_p_early": Variable(("run",), "1", "probability of null_chi2_early by chance"),
        "agreement_p": Variable(("run",), "1", "probability of agreement_chi2 by chance"),
        "agreement_chi2": Variable(
            ("run",), "1", "χ² per degree of freedom against other runs at this fluence and delay"
        ),
        "offset": Variable(("run",), "1", "mean difference of delta_xas from those runs", stderr=True),
        "normalisation": Variable(("run",), "1", "mean difference of od_unpumped from other energy scans", stderr=True),
        "saturated_fraction": Variable(("run",), "1", "pulses with saturated pixels over X-ray pulses"),
        "backlash": Variable(
            ("run",), "eV", "reading of a feature in up sweeps less that in down sweeps", stderr=True, required=False
        ),
        "delay_spread": Variable(
            ("run",), "ps", "rms of the pulses' delays about the mean of their bin", required=False
        ),
        "drift": Variable(
            ("run",), "1", "change of delta_xas from the first to the last pulse of the burst", stderr=True
        ),
        "build_up": Variable(
            ("run",), "1", "relative change of the size of delta_xas from the first to the last pulse", stderr=True
        ),
        "burst_profile": Variable(
            ("run", "pulse"), "1", "deviation of delta_xas at a pulse index from the mean of its train", stderr=True
        ),
        "stderr_ratio": Variable(
            ("fluence", "delay", "energy"), "1", "delta_xas_stderr over delta_xas_stderr_shot of /spectra"
        ),
        "stderr_ratio_mean": Variable(("fluence", "delay"), "1", "mean of stderr_ratio over the spectrum"),
        "stderr_ratio_scan": Variable(
            ("scan", "scan_delay"), "1", "delta_xas_stderr over delta_xas_stderr_shot of /delay_scan"
        ),
        "stderr_ratio_scan_mean": Variable(("scan",), "1", "mean of stderr_ratio_scan over the scan"),
    },
)

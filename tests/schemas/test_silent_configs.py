"""What used to pass without a word: keys that are there twice, and numbers that no experiment has."""

import pytest

from schemas.instrument import load_instrument
from schemas.reading import assigned, load_config, parse_config

RUNS = {"dark": 1, "flat_field": 2, "energy_scans": [{"run": 3, "fluence": 8.0}]}
TEXT = "dataset: test\nruns:\n  dark: 1\n  energy_scans: [{run: 3, fluence: 8}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT + "delay: {t0: 1}\nenergy: {}\ndelay: {t0: 2}\n", r"x\.yaml: delay: given twice, in lines 5 and 7"),
        (TEXT + "delay:\n  t0: 1\n  sign: 1\n  t0: 2\n", r"x\.yaml: delay\.t0: given twice, in lines 6 and 8"),
        (TEXT + "delay: {t0: 1, t0: 1}\n", r"x\.yaml: delay\.t0: given twice, in line 5"),
        (TEXT.replace("run: 3,", "run: 3, run: 4,"), r"x\.yaml: runs\.energy_scans\[0\]\.run: given twice, in line 4"),
        (TEXT + "sample: &a {name: &b [*a]}\n", r"x\.yaml: sample"),
    ],
)
def test_a_key_that_is_there_twice_is_named_with_both_lines(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(tmp_path / "x.yaml")


def test_keys_of_one_name_in_two_places_are_no_fault(tmp_path):
    (tmp_path / "x.yaml").write_text(TEXT.replace("}]", "}, {run: 4, fluence: 8}]"))
    assert [s.run for s in load_config(tmp_path / "x.yaml").runs.energy_scans] == [3, 4]


def test_a_change_and_a_profile_may_not_say_it_twice_either(tmp_path):
    with pytest.raises(ValueError, match=r"--set delay=\{t0: 1, t0: 2\}: t0: given twice"):
        assigned({}, ["delay={t0: 1, t0: 2}"])
    (tmp_path / "p.yaml").write_text("name: p\nname: q\n")
    with pytest.raises(ValueError, match=r"instrument: p\.yaml: name: given twice, in lines 1 and 2"):
        load_instrument("p.yaml", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"delay": {"t0": 1e300}},
            r"delay\.t0: expected a position of the delay stage .*between -100000 and 100000 \(got",
        ),
        ({"kinetics": {"irf_sigma": 1e300}}, r"kinetics\.irf_sigma: expected a duration \[ps\], between 0 and 10000"),
        ({"kinetics": {"irf_sigma": -1}}, r"kinetics\.irf_sigma: expected a duration"),
        ({"kinetics": {"t_d": -1e9}}, r"kinetics\.t_d: expected a time \[ps\]"),
        ({"kinetics": {"parameters": {"tau1": {"value": 1e5}}}}, r"tau1 must be a duration of up to 10000 ps"),
        ({"energy": {"bins": {"start": 526, "stop": 538, "step": 1e-9}}}, r"energy\.bins\.step: expected a distance"),
        (
            {"energy": {"bins": {"start": 500, "stop": 550, "step": 1e-3}}},
            r"a step of 0\.001 eV makes 5e\+04 bins; 10000",
        ),
        (
            {"energy": {"bins": {"start": 0.526, "stop": 538, "step": 1}}},
            r"energy\.bins\.start: expected a photon energy",
        ),
        ({"delay": {"bin": {"width": 1e-9}}}, r"delay\.bin\.width: expected a width of delay bins \[ps\]"),
        ({"peaks": {"window": [0.5267, 0.531]}}, r"peaks\.window.*: expected a photon energy \[eV\], between 10 and"),
        ({"mixture": {"gaussian_fwhm": 1e9}}, r"mixture\.gaussian_fwhm: expected a width \[eV\]"),
        ({"energy": {"offset": 1e30}}, r"energy\.offset: expected a difference of photon energies"),
        ({"detector": {"gain": 1e-30}}, r"detector\.gain: expected ADU per photon"),
        (
            {"runs": RUNS | {"energy_scans": [{"run": 3, "fluence": 1e30}]}},
            r"fluence: expected a pump fluence \[mJ/cm²\]",
        ),
    ],
)
def test_numbers_beyond_physics_say_what_was_meant(change, message):
    with pytest.raises(ValueError, match=message) as told:
        parse_config({"dataset": "test", "runs": RUNS} | change)
    assert "\n" not in str(told.value)

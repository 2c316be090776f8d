"""The configuration: what is accepted, and what a person is told otherwise."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from schemas import export
from schemas.config import Config
from schemas.instrument import load_instrument
from schemas.products import GROUPS
from schemas.reading import load_config, override, parse_config

MINIMAL = {
    "dataset": "test",
    "runs": {"dark": 1, "flat_field": 2, "energy_scans": [{"run": 3, "fluence": 8.0}]},
}

CONTRACT = """
schema: 1
dataset: babio3-o-k
raw: raw
instrument: scs-dssc-boz
sources: {}
runs:
  dark: 1
  flat_field: 2
  energy_scans: [{run: 3, fluence: 8.0}, {run: 4, fluence: 8.0, delay: 0.8}]
  delay_scans:  [{run: 9, fluence: 8.0}]
delay: {t0: 120.0, sign: 1, bin: auto}
energy: {bins: {start: 526, stop: 538, step: 0.2}}
beams: auto
detector: {gain: auto, nonlinearity: auto, flat_field: {order: 1}, saturation: 255}
filters: {min_intensity: 0.1, exclude_pulses: []}
peaks: {window: [526.5, 531.0]}
kinetics: {power: 2, irf_sigma: fit, t_d: fit, global: true}
mixture: {dos_ground: a.txt, dos_excited: b.txt, window: [526.5, 531.0], min_delay: 0.8, gaussian_fwhm: 0.0, lorentzian_fwhm: 0.0}
frames: {keep: beams}
compute: {cluster: threads, workers: auto, memory: 2GiB}
"""


def test_the_contracts_example_is_valid_and_survives_a_round_trip():
    config = parse_config(yaml.safe_load(CONTRACT))
    assert config.kinetics.global_ is True
    assert parse_config(config.model_dump(mode="json", by_alias=True)) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "colour: unknown key$"),
        ({"kinetic": {}}, "kinetic: unknown key; did you mean kinetics\\?"),
        ({"t0": 1}, "t0: unknown key; did you mean delay.t0\\?"),
        ({"Delay": {"t0": 1}}, "Delay: unknown key; did you mean delay\\?"),
        (
            {"runs": {"dark": 1, "delay_scans": [{"run": 3, "flunce": 8}]}},
            "runs.delay_scans.0.flunce: unknown key; did you mean fluence",
        ),
        ({"sources": {"energy": {"kay": "x"}}}, "sources.energy.kay: unknown key; did you mean key"),
        ({"runs": {"dark": 1}}, "list at least one run"),
        ({"runs": {"dark": 1, "energy_scans": [{"run": 1, "fluence": 8}]}}, "run 1 is both a calibration and a scan"),
        ({"runs": {"dark": 1, "energy_scans": [{"run": 3}]}}, "runs.energy_scans.0.fluence: missing"),
        ({"delay": {"bin": [1.0, 0.5]}}, "delay.bin: bin edges must increase"),
        ({"beams": {"pumped": [0, 1, 2]}}, "beams"),
        ({"beams": {"pumped": [5, 1, 0, 2], "unpumped": [0, 1, 0, 2]}}, "not \\[x0, x1, y0, y1\\]"),
        ({"compute": {"cluster": "moon"}}, "'moon' is not threads"),
        ({"mixture": {"dos_ground": "a.txt"}}, "give both dos_ground and dos_excited"),
        ({"mixture": {"ground": "measured"}}, "ground: measured needs dos_ground and dos_excited"),
        ({"kinetics": {"irf_sigma": "guess"}}, "kinetics.irf_sigma"),
        ({"dataset": "../up"}, "dataset"),
    ],
)
def test_a_wrong_config_names_the_key(change, message):
    with pytest.raises(ValueError, match=message):
        parse_config({**MINIMAL, **change})


@pytest.mark.parametrize(
    ("kinetics", "message"),
    [
        (
            {"irf_sigma": 0.04, "parameters": {"irf_sigma": {"value": 0.05}}},
            "kinetics: give kinetics.irf_sigma or kinetics.parameters.irf_sigma, not both",
        ),
        ({"t_d": 0, "parameters": {"t_d": {"min": 0}}}, "give kinetics.t_d or kinetics.parameters.t_d, not both"),
        ({"parameters": {"tau4": {"value": 1}}}, r"kinetics\.parameters\.tau4: unknown key; did you mean tau3\?$"),
        ({"parameters": {"tau1": {"vale": 1}}}, r"kinetics\.parameters\.tau1\.vale: unknown key; did you mean value\?"),
        ({"parameters": {"tau1": {"value": "short"}}}, r"kinetics\.parameters\.tau1\.value: .* \(got 'short'\)"),
        ({"parameters": {"tau1": {"vary": False}}}, r"kinetics\.parameters\.tau1: vary: false needs a value"),
        ({"parameters": {"tau1": {"stderr": 0.1}}}, "tau1: stderr belongs to a measured value"),
        (
            {"parameters": {"tau1": {"value": 1, "stderr": 0.1, "vary": False}}},
            "tau1: stderr belongs to a measured value",
        ),
        ({"parameters": {"tau1": {"min": 2, "max": 1}}}, r"tau1: min \(2\) must be below max \(1\)"),
        ({"parameters": {"tau1": {"value": 3, "max": 1}}}, r"tau1: value \(3\) is not between min and max"),
        ({"parameters": {"tau1": {"value": 0}}}, "tau1 must be positive, got 0"),
        ({"parameters": {"irf_sigma": {"max": -1}}}, "irf_sigma must not be negative, got -1"),
        ({"parameters": {"tau2": {"expr": "tau1", "min": 1}}}, "tau2: expr ties it .* so min must not be given"),
        ({"parameters": {"tau2": {"expr": "2*tau2"}}}, r"tau2\.expr depends on tau2 itself"),
        ({"parameters": {"tau1": {"expr": "tau2"}, "tau2": {"expr": "tau1"}}}, r"tau1\.expr depends on tau1 itself"),
        ({"parameters": {"tau2": {"expr": "2*tau"}}}, r"tau2\.expr: 'tau' is none of abs, exp, irf_sigma"),
        ({"parameters": {"tau2": {"expr": "2*"}}}, r"tau2\.expr: '2\*' is not an expression"),
        ({"parameters": {"tau2": {"expr": "0.3"}}}, r"tau2\.expr: '0\.3' is not a formula of other parameters"),
        ({"parameters": {"tau2": {"expr": "tau1.real"}}}, r"tau2\.expr: 'tau1\.real' is not a formula"),
        ({"parameters": {"tau2": {"expr": "tau1(2)"}}}, r"tau2\.expr: 'tau1\(2\)' is not a formula"),
        ({"n_exponentials": 2, "parameters": {"tau3": {"value": 1}}}, "tau3: there is no tau3 with n_exponentials: 2"),
        (
            {"n_exponentials": 1, "parameters": {"tau1": {"expr": "tau2"}}},
            "tau1: there is no tau2 with n_exponentials: 1",
        ),
    ],
)
def test_a_wrong_kinetic_parameter_names_the_key_in_one_line(kinetics, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_config({**MINIMAL, "kinetics": kinetics})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["irf_sigma", "t_d"])
@pytest.mark.parametrize(
    ("short", "long"),
    [(0.04, {"value": 0.04, "vary": False}), ({"value": 0.04, "stderr": 0.01}, {"value": 0.04, "stderr": 0.01})],
)
def test_the_short_keys_are_entries_of_parameters(name, short, long):
    one = parse_config({**MINIMAL, "kinetics": {name: short}}).kinetics
    other = parse_config({**MINIMAL, "kinetics": {"parameters": {name: long}}}).kinetics
    assert one.given == other.given
    assert one.setting(name) == other.setting(name) == getattr(one, name)
    assert parse_config({**MINIMAL, "kinetics": {}}).kinetics.given == {}


def test_parameters_survive_a_change_of_another_key():
    said = {"tau2": {"expr": "1.6*sqrt(tau1*tau3)"}, "t_d": {"min": -0.1, "max": 0.1}, "irf_sigma": {"value": 0.04}}
    config = parse_config({**MINIMAL, "kinetics": {"parameters": said}})
    changed = override(config, ["kinetics.parameters.t_d.max=0.2", "kinetics.power=1"])
    assert changed.kinetics.parameters.t_d.max == 0.2
    assert changed.kinetics.parameters.tau2 == config.kinetics.parameters.tau2
    # a bare value is a start, no knowledge
    assert (changed.kinetics.setting("irf_sigma"), changed.kinetics.setting("t_d")) == ("fit", "fit")
    with pytest.raises(ValueError, match=r"give kinetics\.irf_sigma or kinetics\.parameters\.irf_sigma"):
        override(config, ["kinetics.irf_sigma=0.05"])


def test_a_file_that_is_not_yaml_names_the_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("dataset: a\nruns: [1, 2\n")
    with pytest.raises(ValueError, match=r"config\.yaml: not valid YAML in line"):
        load_config(path)


def test_override_sets_nested_keys_and_names_unknown_ones():
    config = parse_config(MINIMAL)
    changed = override(config, ["kinetics.power=1", "delay.bin.width=0.02", "kinetics.irf_sigma=0.05"])
    assert (changed.kinetics.power, changed.kinetics.irf_sigma, changed.delay.bin.width) == (1, 0.05, 0.02)
    assert config.kinetics.power == 2
    with pytest.raises(ValueError, match=r"kinetics\.powr: unknown key"):
        override(config, ["kinetics.powr=1"])
    with pytest.raises(ValueError, match="expected key=value"):
        override(config, ["kinetics.power"])


@given(st.floats(0.001, 10), st.integers(0, 300), st.sampled_from(["beams", "full", "none"]))
def test_override_agrees_with_writing_it_into_the_file(width, saturation, keep):
    data = {
        **MINIMAL,
        "delay": {"bin": {"width": width}},
        "detector": {"saturation": saturation + 1},
        "frames": {"keep": keep},
    }
    words = [f"delay.bin.width={width!r}", f"detector.saturation={saturation + 1}", f"frames.keep={keep}"]
    assert override(parse_config(MINIMAL), words) == parse_config(data)


def test_exported_schemas_are_current():
    for name, document in export.documents().items():
        stored = (export.FOLDER / name).read_text(encoding="utf-8")
        assert stored == export.as_text(document), f"{name} is out of date: run `make schemas`"
    for name, page in export.pages().items():
        assert (export.PAGES / name).read_text(encoding="utf-8") == page, f"{name} is out of date: run `make schemas`"


def test_the_pages_name_every_key_and_every_variable():
    pages = export.pages()
    assert (
        "| `runs.energy_scans[].fluence` | number ≥ 0 and ≤ 100000 | required | Pump fluence [mJ/cm²]"
        in pages["config.md"]
    )
    assert '| `detector.gain` | number ≥ 0.0001 and ≤ 10000 or `auto` | `"auto"` |' in pages["config.md"]
    for name, spec in GROUPS.items():
        section = pages["product.md"].split(f"## /{name}\n")[1].split("\n## ")[0]
        for variable, about in [*spec.coords.items(), *spec.expanded()]:
            assert f"`{variable}`" in section
            assert about.text in section or variable.endswith("_stderr")
    # no cell without a meaning
    assert not [line for page in pages.values() for line in page.splitlines() if line.endswith("|  |")]


def test_every_field_says_what_it_means():
    seen = set()

    def walk(model):
        if model in seen:
            return
        seen.add(model)
        for name, item in model.model_fields.items():
            assert item.description, f"{model.__name__}.{name} has no description"
            if isinstance(item.annotation, type) and hasattr(item.annotation, "model_fields"):
                walk(item.annotation)

    walk(Config)
    assert len(seen) > 8


def test_sources_override_a_role_in_part_or_whole():
    profile = load_instrument("scs-dssc-boz")
    config = parse_config(
        {**MINIMAL, "sources": {"energy": {"source": "A/B/C", "unit": "keV"}, "delay_stage": "D/E/F", "arrival": None}}
    )
    changed = profile.with_sources(config.sources)
    assert (changed.energy.source, changed.energy.key, changed.energy.unit) == ("A/B/C", "actualEnergy", "keV")
    assert changed.delay_stage.source == "D/E/F"
    assert changed.arrival is None
    with pytest.raises(ValueError, match=r"sources\.energy: this role is required"):
        profile.with_sources({"energy": None})


def test_an_unknown_instrument_lists_the_profiles():
    with pytest.raises(ValueError, match=r"'moonbeam' is neither a profile .*scs-dssc-boz"):
        load_instrument("moonbeam")

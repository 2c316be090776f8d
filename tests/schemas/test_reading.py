"""What a person is told about a config or a profile that cannot be used: one line, with the key."""

import pytest

from schemas.instrument import RoleOverride, load_instrument
from schemas.reading import assigned, load_config, parse_config, parse_sources

RUNS = {"dark": 1, "energy_scans": [{"run": 2, "fluence": 8.0}]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["a", "list"], r"^the file must hold a mapping of keys"),
        ({"runs": RUNS}, r"^dataset: missing$"),
        ({"dataset": "x", "runs": {"dark": "one"}}, r"^runs\.dark: .*\(got 'one'\)$"),
        ({"dataset": "x", "runs": RUNS, "kinetcs": {}}, r"^kinetcs: unknown key.*kinetics"),
        ({"dataset": "x", "runs": RUNS | {"drak": 1}}, r"^runs\.drak: unknown key.*dark"),
        (
            {"dataset": "x", "runs": {"dark": 1, "energy_scans": [{"run": 2}]}},
            r"^runs\.energy_scans\.0\.fluence: missing$",
        ),
        ({"dataset": "x", "runs": RUNS, "kinetics": {"power": 3}}, r"^kinetics\.power: .*\(got 3\)$"),
        ({"dataset": "x", "runs": RUNS, "delay": {"sign": 0}}, r"^delay\.sign: "),
    ],
)
def test_a_config_at_fault_names_the_key(data, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_config(data)
    assert "\n" not in str(caught.value)


def test_a_file_at_fault_names_the_file_and_the_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("dataset: x\nruns: {dark: 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.yaml: not valid YAML in line \d"):
        load_config(path)
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ValueError, match=r"config\.yaml: not valid YAML$"):
        load_config(path)
    path.write_text("dataset: x\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.yaml: runs: missing"):
        load_config(path)
    with pytest.raises(OSError, match="No such file"):
        load_config(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("kinetics.power", "--set kinetics.power: expected key=value, e.g. kinetics.power=1"),
        ("=1", "--set =1: expected key=value"),
        ("a=[1", r"--set a=\[1: '\[1' is not a YAML value"),
    ],
)
def test_changes_that_are_none(item, message):
    with pytest.raises(ValueError, match=message):
        assigned({}, [item])


def test_changes_are_made_in_order_and_make_what_they_need():
    assert assigned({"a": 1}, ["a.b=2", "a.c={d: 3}", "a.c.e=x", " f =[1, 2]"]) == {
        "a": {"b": 2, "c": {"d": 3, "e": "x"}},
        "f": [1, 2],
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"energi": {}}, r"^sources\.energi"),
        ({"arrival": {"index": "slot"}}, r"^sources\.arrival\.index: "),
    ],
)
def test_sources_at_fault_name_the_role(data, message):
    with pytest.raises(ValueError, match=message):
        load_instrument("scs-dssc-boz").with_sources(parse_sources(data))


def test_a_role_that_a_profile_lacks_needs_source_and_key():
    bare = load_instrument("scs-dssc-boz").with_sources({"arrival": None})
    assert bare.arrival is None
    with pytest.raises(ValueError, match=r"sources\.arrival: the profile has no such role; give source and key"):
        bare.with_sources({"arrival": "SOME/SOURCE:output"})
    full = bare.with_sources({"arrival": RoleOverride(source="SOME/SOURCE:output", key="data.x", unit="fs")})
    assert full.arrival.key == "data.x"
    for required in ("frames", "energy", "delay_stage"):
        with pytest.raises(ValueError, match=rf"sources\.{required}: this role is required"):
            bare.with_sources({required: None})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", r"instrument: .*profile\.yaml: not valid YAML"),
        ("name: x\ntitle: y\n", r"instrument: .*profile\.yaml: frames: "),
        ("name: x\nenergi: {}\n", r"instrument: .*profile\.yaml: (energi: unknown key|title|frames)"),
    ],
)
def test_a_profile_at_fault_names_its_key(tmp_path, text, message):
    (tmp_path / "profile.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_instrument("profile.yaml", tmp_path)

"""Units cannot be wrong in silence: what is known is converted, what is not is an error that names the key."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.job import load_job
from schemas.datasets.measured import PULSES
from schemas.instrument import ROLES, RoleOverride, load_instrument
from schemas.units import ROLE_QUANTITIES, kept_unit, known_units

PROFILE = load_instrument("scs-dssc-boz")
ALL = sorted({unit for role in ROLES for unit in known_units(role)})


@pytest.mark.parametrize(
    ("role", "unit", "kept"),
    [
        ("energy", "keV", ("eV", 1e3)),
        ("delay_stage", "um", ("mm", 1e-3)),
        ("delay_stage", "µm", ("mm", 1e-3)),
        ("delay_stage", "fs", ("ps", 1e-3)),
        ("arrival", "s", ("ps", 1e12)),
        ("trigger", "ns", ("ps", 1e3)),
        ("trigger", "μs", ("ps", 1e6)),
        ("intensity", "J", ("uJ", 1e6)),
        ("intensity", "mJ", ("uJ", 1e3)),
        ("intensity", "µJ", ("uJ", 1.0)),
        ("intensity", "nJ", ("uJ", 1e-3)),
        ("intensity", "1", ("1", 1.0)),
    ],
)
def test_a_known_unit_is_converted(role, unit, kept):
    assert kept_unit(role, unit) == kept


@given(role=st.sampled_from(ROLES), unit=st.sampled_from([*ALL, "furlong", "ADU", "EV", ""]))
def test_a_unit_is_converted_to_what_the_datasets_say_or_refused(role, unit):
    if unit not in known_units(role):
        with pytest.raises(ValueError, match=rf"^sources\.{role}\.unit: .*known: {known_units(role)[0]}"):
            PROFILE.with_sources({role: RoleOverride(source="A/B/C", key="d", unit=unit)})
    else:
        kept, factor = kept_unit(role, unit)
        assert factor > 0
        assert role in ("frames", "bunch_pattern") or kept in PULSES[role].known_units


def test_every_unit_that_is_kept_stays_as_it_is():
    for role, quantities in ROLE_QUANTITIES.items():
        for quantity in quantities:
            assert kept_unit(role, quantity.unit) == (quantity.unit, 1.0)


def test_a_role_that_the_profile_lacks_needs_a_unit():
    bare = PROFILE.with_sources({"arrival": None})
    with pytest.raises(ValueError, match=r"^sources\.arrival\.unit: no unit is given; known: ps, fs, ns, us, s$"):
        bare.with_sources({"arrival": RoleOverride(source="A/B/C", key="d")})


@pytest.mark.parametrize("where", ["config", "profile"])
def test_a_wrong_unit_is_a_config_error(where, tmp_path):
    profile = PROFILE.model_dump(exclude_none=True)
    sources = {"arrival": {"unit": "mm"}} if where == "config" else {}
    if where == "profile":
        profile["arrival"]["unit"] = "mm"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(profile))
    config = {"dataset": "x", "runs": {"dark": 1, "energy_scans": [{"run": 2, "fluence": 1}]}, "sources": sources}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config | {"instrument": "mine.yaml"}))
    with pytest.raises(ConfigError) as caught:
        load_job(tmp_path / "config.yaml")
    assert caught.value.exit_code == 2
    assert str(caught.value) == "sources.arrival.unit: 'mm' is not a unit of this role; known: ps, fs, ns, us, s"

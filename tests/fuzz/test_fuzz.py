"""A fixed set of damaged sessions; `make fuzz N=…` makes others, `make test-long` a few hundred."""

import h5py
import pytest

from tests.fuzz.damage import KINDS, Case
from tests.fuzz.harness import Session, judge

QUICK = ("missing", "other_object", "declared", "meanwhile")
FEW = range(210, 420)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return Session(tmp_path_factory.mktemp("fuzz"))


def seeds_of(kind, n):
    return [list(KINDS).index(kind) + len(KINDS) * k for k in range(n)]


@pytest.mark.parametrize("seed", [s for kind in QUICK for s in seeds_of(kind, 1)])
def test_a_damaged_file_costs_no_other_its_result(session, tmp_path, seed):
    found = judge(session, seed, tmp_path / "case")
    assert not found.faults, f"{found.what}: {found.faults}"


def test_the_same_files_give_the_same_fault(session, tmp_path):
    (seed,) = seeds_of("compressed", 1)
    first, second = (judge(session, seed, tmp_path / "case") for _ in range(2))
    assert first.what == second.what
    assert first.outcome == second.outcome


def test_what_nobody_tells_is_found(session, tmp_path, monkeypatch):
    """The harness itself: a change of numbers that no file shows must be called a fault."""

    def silent(case):
        case.run = 3

        with h5py.File(case.file("*DA01*"), "r+") as file:
            file["CONTROL/SA3_XTD10_MONO/MDL/PHOTON_ENERGY/actualEnergy/value"][...] += 0.1
        return "energies moved"

    monkeypatch.setitem(KINDS, next(iter(KINDS)), silent)
    found = judge(session, 0, tmp_path / "case")
    assert found.faults == ["numbers of the run differ, and nothing tells"]


@pytest.mark.long
@pytest.mark.parametrize("seed", FEW)
def test_many_damaged_files(session, tmp_path, seed):
    found = judge(session, seed, tmp_path / "case", whole=seed % 10 == 0)
    assert not found.faults, f"{found.what}: {found.faults}"


def test_every_kind_of_damage_is_drawn_and_the_same_again(tmp_path):
    cases = [Case(seed, tmp_path) for seed in range(len(KINDS))]
    assert [case.kind for case in cases] == list(KINDS)
    assert [case.run for case in cases] == [Case(seed, tmp_path).run for seed in range(len(KINDS))]

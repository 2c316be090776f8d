"""A fixed set of damaged sessions; `make fuzz N=…` makes others, `make test-long` a few hundred.

The harness forks, which a process with threads, such as that of the tests, should not: it has one of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.damage import KINDS, Case

QUICK = [list(KINDS).index(kind) for kind in ("declared", "meanwhile")]
SILENT = -1
MANY = range(1000, 1210)
PER_TEST = 15


def judged(folder, seeds):
    """Return what came of cases, in their order."""
    command = [sys.executable, "-m", "tests.fuzz", "--json", "--folder", str(folder), "--seeds", *map(str, seeds)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(seeds), done.stderr
    return found


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return judged(tmp_path_factory.mktemp("fuzz"), [*QUICK, QUICK[-1], SILENT])


@pytest.mark.parametrize("place", range(len(QUICK)))
def test_a_damaged_file_costs_no_other_its_result(cases, place):
    assert cases[place]["faults"] == [], cases[place]["what"]


def test_the_same_files_give_the_same_fault(cases):
    first, second = cases[len(QUICK) - 1], cases[len(QUICK)]
    assert (first["what"], first["outcome"]) == (second["what"], second["outcome"])


def test_the_harness_finds_numbers_that_differ_without_a_word(cases):
    assert cases[-1]["faults"] == ["numbers of the run differ, and nothing tells"]


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("first", MANY[::PER_TEST])
def test_many_damaged_files(tmp_path, first):
    seeds = range(first, first + PER_TEST)
    assert [(one["what"], one["faults"]) for one in judged(tmp_path, seeds) if one["faults"]] == []


def test_every_kind_of_damage_is_drawn_and_the_same_again(tmp_path):
    cases = [Case(seed, tmp_path) for seed in range(len(KINDS))]
    assert [case.kind for case in cases] == list(KINDS)
    assert [case.run for case in cases] == [Case(seed, tmp_path).run for seed in range(len(KINDS))]

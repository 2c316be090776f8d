"""The ledger counts what was finished under its key, and nothing else."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.storage.ledger import Ledger


def result(number):
    return {"photons": np.full((2, 3), number + 0.5), "present": np.ones(2, bool)}


WHOLE = {n: (a.dtype.str, a.shape, a.tobytes()) for n, a in result(0).items()}


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path / "blocks", "key")
    made.begin()
    for number in range(4):
        made.add(number, result(number), chunk_bytes=100 + number)
    return made


def test_finished_blocks_come_back_to_the_bit_also_in_another_process(ledger):
    found = pickle.loads(pickle.dumps(ledger)).finished()
    assert sorted(found) == [0, 1, 2, 3]
    for number, (arrays, size) in found.items():
        assert size == 100 + number
        assert arrays.keys() == result(number).keys()
        for name, values in result(number).items():
            np.testing.assert_array_equal(arrays[name], values)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_an_entry_that_is_cut_or_changed_counts_only_with_its_arrays_whole(tmp_path_factory, data):
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "blocks", "key")
    ledger.begin()
    ledger.add(0, result(0), chunk_bytes=7)
    path = next(ledger.folder.glob("*.npz"))
    content = bytearray(path.read_bytes())
    where = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:where]
    else:
        content[where] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    # dates, for one, are of no account
    for arrays, size in ledger.finished().values():
        assert size == 7
        assert {n: (a.dtype.str, a.shape, a.tobytes()) for n, a in arrays.items()} == WHOLE


def test_an_entry_cut_short_or_with_another_value_does_not_count(ledger):
    first, second = sorted(ledger.folder.glob("[0-9]*.npz"))[:2]
    content = first.read_bytes()
    first.write_bytes(content[:-1])
    value = np.float64(1.5).tobytes()
    assert value in second.read_bytes()
    second.write_bytes(second.read_bytes().replace(value, np.float64(2.5).tobytes(), 1))
    assert sorted(ledger.finished()) == [2, 3]


def test_entries_of_other_settings_do_not_count_and_a_slow_worker_of_theirs_is_told(ledger):
    other = Ledger(ledger.folder, "other")
    assert not other.is_open
    assert other.finished() == {}
    other.begin()
    assert other.finished() == {}
    # a worker of the former settings that was still at it
    ledger.add(2, result(2))
    assert other.finished() == {}
    assert not ledger.is_open
    other.remove()
    with pytest.raises(DataError, match="another process works on this run"):
        ledger.add(3, result(3))

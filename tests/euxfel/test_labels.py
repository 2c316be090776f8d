"""Slow and fast data joined to the frames, from files whose values are written here: patterns, units, packing, gaps."""

import shutil

import h5py
import numpy as np
import pytest

from pipeline.euxfel.bunch_pattern import _leading
from pipeline.euxfel.reader import open_run
from pipeline.euxfel.run_files import TrainValues
from schemas.instrument import RoleOverride, load_instrument

PROFILE = load_instrument("scs-dssc-boz")
PATTERN = "CONTROL/SCS_RR_UTC/MDL/BUNCH_DECODER/sase3"
XGM = "INSTRUMENT/SCS_BLU_XGM/XGM/DOOCS:output/data/intensitySa3TD"
BAM = "INSTRUMENT/SA3_XTD10_DOOCS/BAM/LCAT1932M_TL:output/data/absoluteTD"


@pytest.fixture
def folder(tiny, tmp_path):
    """Return a copy of the tiny flat-field run: 20 trains of 16 pulses, ids 0, 8, …, 120."""
    shutil.copytree(tiny.out / "raw" / "r0002", tmp_path / "r0002")
    return tmp_path / "r0002"


def written(folder, **values):
    """Write values into the slow-data file, whole or row by row."""
    with h5py.File(next(folder.glob("*DA01*.h5")), "r+") as file:
        for name, value in values.items():
            file[{"ids": f"{PATTERN}/pulseIds/value", "n": f"{PATTERN}/nPulses/value", "xgm": XGM, "bam": BAM}[name]][
                ...
            ] = value


def pattern(ids, width=1000):
    row = np.zeros(width, np.int32)
    row[: len(ids)] = ids
    return np.broadcast_to(row, (20, width))


def test_a_foreign_bunch_pattern_is_not_used_and_that_is_said(folder):
    """Slots of which no frame has one (another SASE, another rate) would make all frames dark."""
    written(folder, ids=pattern(np.arange(1, 16, 3)), n=5)
    run = open_run(folder, PROFILE)
    assert not run.labels["dark_frame"].any()
    assert (run.labels["pulse_slot"] == -1).all()
    assert [line for line in run.audit if "bunch pattern" in line]


def test_a_pattern_that_knows_some_frames_makes_the_others_dark(folder):
    written(folder, ids=pattern(np.arange(0, 64, 8)), n=8)
    run = open_run(folder, PROFILE)
    np.testing.assert_array_equal(run.labels["dark_frame"], np.broadcast_to(run.labels["pulse_id"] >= 64, (20, 16)))
    assert not [line for line in run.audit if "bunch pattern" in line]


def test_trains_without_any_bunch_are_dark(folder):
    """A dark run with its pattern recorded: no pulses is a pattern too, not a foreign one."""
    written(folder, ids=pattern([]), n=0)
    run = open_run(folder, PROFILE)
    assert run.labels["dark_frame"].all()
    assert not [line for line in run.audit if "bunch pattern" in line]


def test_the_number_of_pulses_counts_not_what_the_table_holds_beyond(folder):
    written(folder, ids=pattern(np.arange(0, 128, 8)), n=4)
    run = open_run(folder, PROFILE)
    np.testing.assert_array_equal(run.labels["dark_frame"], np.broadcast_to(np.arange(16) >= 4, (20, 16)))


def test_without_a_number_of_pulses_the_list_says_how_long_it_is(folder):
    written(folder, ids=pattern([0, 8, 16]))
    with h5py.File(next(folder.glob("*DA01*.h5")), "r+") as file:
        del file[f"{PATTERN}/nPulses"]
    dark = open_run(folder, PROFILE).labels["dark_frame"]
    np.testing.assert_array_equal(dark, np.broadcast_to(np.arange(16) >= 3, (20, 16)))


def test_a_list_of_ids_ends_where_they_stop_growing():
    table = np.array([[0, 8, 16, 0, 0], [8, 16, 24, 32, 40], [8, 0, 0, 0, 0], [0, 0, 0, 0, 0]], float)
    np.testing.assert_array_equal(_leading(table), [3, 5, 1, 1])


def test_a_train_without_pattern_says_nothing_about_its_frames(folder):
    """The decoder missed two trains, and in one it saw no pulse."""
    written(folder, n=np.r_[0, np.full(19, 16)])
    with h5py.File(next(folder.glob("*DA01*.h5")), "r+") as file:
        file["INDEX/SCS_RR_UTC/MDL/BUNCH_DECODER/count"][3:5] = 0
    dark = open_run(folder, PROFILE).labels["dark_frame"].values
    assert dark[0].all()
    assert not dark[1:].any()


def test_packed_values_go_to_the_pulses_of_the_pattern(folder):
    """The k-th value of the gas monitor belongs to the k-th X-ray pulse, wherever that is in the train."""
    written(
        folder, ids=pattern(np.arange(8, 128, 16)), n=8, xgm=np.arange(1000.0)[None, :] + 1000 * np.arange(20)[:, None]
    )
    found = open_run(folder, PROFILE).labels["intensity"].values
    assert np.isnan(found[:, ::2]).all()
    np.testing.assert_array_equal(found[:, 1::2], np.arange(8)[None, :] + 1000 * np.arange(20)[:, None])


def test_values_by_bucket_lie_at_twice_the_pulse_id(folder):
    written(folder, bam=np.arange(7222.0))
    found = open_run(folder, PROFILE).labels["arrival"].values
    np.testing.assert_allclose(found, np.broadcast_to(2 * 8 * np.arange(16) * 1e-3, (20, 16)))


def test_values_by_pulse_lie_at_the_pulse_id(folder):
    written(folder, bam=np.arange(7222.0))
    role = RoleOverride(source=PROFILE.arrival.source, key=PROFILE.arrival.key, unit="ps", index="pulse")
    found = open_run(folder, PROFILE.with_sources({"arrival": role})).labels["arrival"].values
    np.testing.assert_allclose(found, np.broadcast_to(8 * np.arange(16), (20, 16)))


@pytest.mark.parametrize(
    ("role", "unit", "factor"),
    [
        ("energy", "keV", 1e3),
        ("delay_stage", "um", 1e-3),
        ("delay_stage", "m", 1e3),
        ("delay_stage", "fs", 1e-3),
        ("delay_stage", "ns", 1e3),
        ("trigger", "s", 1e12),
        ("trigger", "fs", 1e-3),
    ],
)
def test_units_become_those_of_the_labels(tiny, role, unit, factor):
    path = tiny.out / "raw" / "r0003"
    plain = open_run(path, PROFILE).labels[role]
    found = open_run(path, PROFILE.with_sources({role: RoleOverride(unit=unit)})).labels[role]
    np.testing.assert_allclose(found, plain * factor, rtol=1e-12)
    time = unit in {"fs", "ps", "ns", "s"}
    assert found.attrs["units"] == {"energy": "eV", "trigger": "ps", "delay_stage": "ps" if time else "mm"}[role]


def test_trains_without_a_value_are_counted(folder):
    with h5py.File(next(folder.glob("*DA01*.h5")), "r+") as file:
        file["INDEX/SA3_XTD10_MONO/MDL/PHOTON_ENERGY/count"][3:5] = 0
    run = open_run(folder, PROFILE)
    assert np.flatnonzero(np.isnan(run.labels["energy"].values)).tolist() == [3, 4]
    assert any("energy: 2 of 20 trains have no value of SA3_XTD10_MONO" in line for line in run.audit)


def test_values_are_looked_up_by_train_id():
    table = TrainValues(np.array([10, 12, 15]), np.array([[1, 2], [3, 4], [5, 6]]))
    np.testing.assert_array_equal(
        table.at(np.array([12, 11, 15, 99, 10])), [[3, 4], [np.nan] * 2, [5, 6], [np.nan] * 2, [1, 2]]
    )
    none = TrainValues(np.array([], np.uint64), np.empty((0, 2)))
    assert np.isnan(none.at(np.array([1, 2]))).all()

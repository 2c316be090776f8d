"""X-ray slots, laser slots and detector ids brought together, in real files whose bunch patterns are written here."""

import shutil
from types import SimpleNamespace
from typing import get_args

import h5py
import hypothesis.strategies as st
import numpy as np
import pytest
import yaml
from euxfel_bunch_pattern import DESTINATION_T4D, DESTINATION_T5D, PHOTON_LINE_DEFLECTION, PPL_BITS, indices_at_laser
from hypothesis import given

from pipeline.euxfel.bunch_pattern import BunchPattern, Slots, laser_name, read_pattern
from pipeline.euxfel.draft import draft
from pipeline.euxfel.pulse_slots import match_slots
from pipeline.euxfel.pump_pattern import pulse_report, pulse_text, pump_comments, runs_without_laser
from pipeline.euxfel.reader import _numbered, open_run
from pipeline.euxfel.run_files import open_files
from pipeline.simulate.exdf_writer import control_file
from pipeline.stages.inventory import _record
from pipeline.storage.record import Inventory, Records
from schemas.instrument import Laser, Role, RoleOverride, load_instrument
from schemas.reading import parse_config

PROFILE = load_instrument("scs-dssc-boz")
DECODER = "CONTROL/SCS_RR_UTC/MDL/BUNCH_DECODER"
SERVER = "SCS_RR_UTC/TSYS/TIMESERVER:outputBunchPattern"
TABLE = f"INSTRUMENT/{SERVER}/data/bunchPatternTable"
IMAGE = "INSTRUMENT/SCS_DET_DSSC1M-1/DET/15CH0:xtdf/image"
XGM = "INSTRUMENT/SCS_BLU_XGM/XGM/DOOCS:output/data/intensitySa3TD"
BAM = "INSTRUMENT/SA3_XTD10_DOOCS/BAM/LCAT1932M_TL:output/data/absoluteTD"
SASE3 = DESTINATION_T4D | PHOTON_LINE_DEFLECTION
N = 16
IDS = 8 * np.arange(N)
"""Pulse ids of the detector in the tiny run, which has 20 trains."""


@pytest.fixture
def folder(tiny, tmp_path):
    shutil.copytree(tiny.out / "raw" / "r0002", tmp_path / "r0002")
    return tmp_path / "r0002"


def slow(folder):
    return h5py.File(next(folder.glob("*DA01*.h5")), "r+")


def write(folder, *, xrays=None, laser=None, bit=PPL_BITS.LP_SCS, ids=None):
    """Write slots of X-rays into decoder and table, of the laser (slots of all trains, or of each) into the table, and detector ids."""
    with slow(folder) as file:
        table = file[TABLE][()]
        if xrays is not None:
            table[:] = 0
            table[:, xrays] = SASE3 | 5
            listed = np.zeros(1000, np.int32)
            listed[: len(xrays)] = xrays
            file[f"{DECODER}/sase3/pulseIds/value"][...] = listed
            file[f"{DECODER}/sase3/nPulses/value"][...] = len(xrays)
        if laser is not None:
            per_train = len(laser) == len(table) and not isinstance(laser[0], int | np.integer)
            for train, slots in enumerate(laser if per_train else [laser] * len(table)):
                table[train, slots] |= np.uint32(bit)
        file[TABLE][...] = table
    if ids is not None:
        with h5py.File(next(folder.glob("*DSSC15*.h5")), "r+") as file:
            file[f"{IMAGE}/pulseId"][...] = np.tile(ids, 20)[:, None]


def fires(run):
    """Return the slots of the laser in the first train."""
    return np.flatnonzero(run.labels["laser"].values[0])


def test_the_laser_of_the_time_server_serves_where_the_decoder_knows_none(folder):
    write(folder, laser=IDS[::2])
    with slow(folder) as file:
        entries = file[TABLE][0]
    run = open_run(folder, PROFILE)
    assert run.pattern.sources == {"SCS_RR_UTC/MDL/BUNCH_DECODER", SERVER}
    assert run.labels["laser"].dims == ("train", "slot")
    assert run.labels["laser"].shape == (20, 121)
    np.testing.assert_array_equal(fires(run), IDS[::2])
    assert run.labels["laser_known"].all()
    np.testing.assert_array_equal(run.labels["pulse_slot"], IDS)
    np.testing.assert_array_equal(fires(run), indices_at_laser(entries, PPL_BITS.LP_SCS))


def test_the_decoders_own_laser_comes_first(folder):
    write(folder, laser=[3])
    with slow(folder) as file:
        listed = np.zeros((20, 1000), np.int32)
        listed[:, :2] = [0, 16]
        file[f"{DECODER}/laser/pulseIds/value"] = listed
        file[f"{DECODER}/laser/nPulses/value"] = np.r_[np.full(19, 2), 0]
    run = open_run(folder, PROFILE)
    np.testing.assert_array_equal(fires(run), [0, 16])
    assert not run.labels["laser"][19].any()
    assert run.labels["laser_known"].all()


@pytest.mark.parametrize("name", sorted(get_args(Laser)))
def test_each_laser_has_its_bit(folder, name):
    """Other lasers fire in other slots of the same table."""
    for k, other in enumerate(PPL_BITS):
        write(folder, laser=[k], bit=other)
    run = open_run(folder, PROFILE.with_sources({"bunch_pattern": RoleOverride(laser=name)}))
    np.testing.assert_array_equal(fires(run), [list(PPL_BITS).index(PPL_BITS[name])])


def test_lasers_have_the_names_of_the_facility():
    assert set(get_args(Laser)) == set(PPL_BITS.__members__)


@pytest.mark.parametrize(
    ("source", "laser", "name"),
    [
        ("SCS_RR_UTC/TSYS/TIMESERVER", None, "LP_SCS"),
        ("SQS_RR_UTC/TSYS/TIMESERVER", None, "LP_SQS"),
        ("MID_RR_SYS/MDL/BUNCH_PATTERN", None, "LP_SASE2"),
        ("HED_RR_SYS/MDL/BUNCH_PATTERN", None, "LP_SASE2"),
        ("SPB_RR_SYS/TSYS/TIMESERVER", "LP_FXE", "LP_FXE"),
        ("LA2_RR_UTC/TSYS/TIMESERVER", None, None),
    ],
)
def test_the_laser_is_that_of_the_instrument_unless_it_is_named(source, laser, name):
    assert laser_name(Role(source=source, key="bunchPatternTable", laser=laser)) == name


@pytest.mark.parametrize("control", [False, True], ids=["data stream", "property"])
def test_the_machines_table_gives_both(folder, control):
    xrays = 100 + 4 * np.arange(N)
    write(folder, xrays=xrays, laser=[0, 8])
    source, key = SERVER, "data.bunchPatternTable"
    with slow(folder) as file:
        if control:
            source, key = "SCS_RR_UTC/TSYS/TIMESERVER", "bunchPatternTable"
            file[f"CONTROL/{source}/{key}/value"] = file[TABLE][()]
            file[f"CONTROL/{source}/{key}/timestamp"] = np.zeros(20, np.uint64)
            file[f"INDEX/{source}/first"], file[f"INDEX/{source}/count"] = np.arange(20), np.ones(20, np.uint64)
            name = file["METADATA/dataSources/deviceId"]
            for column, text in (("root", "CONTROL"), ("deviceId", source), ("dataSourceId", f"CONTROL/{source}")):
                name = file[f"METADATA/dataSources/{column}"]
                name.resize((len(name) + 1,))
                name[-1] = text
    role = RoleOverride(source=source, key=key)
    run = open_run(folder, PROFILE.with_sources({"bunch_pattern": role}))
    np.testing.assert_array_equal(run.pattern.xrays.usual()[0], xrays)
    np.testing.assert_array_equal(fires(run), [0, 8])
    assert run.pattern.sources == {source}


@pytest.mark.parametrize(("sase", "entry"), [(1, DESTINATION_T4D), (2, DESTINATION_T5D), (3, SASE3)])
def test_the_table_gives_the_pulses_of_one_sase(folder, sase, entry):
    write(folder, xrays=[])
    with slow(folder) as file:
        table = np.zeros((20, 2700), np.uint32)
        table[:, 8:12], table[:, 12:16], table[:, 16:20] = DESTINATION_T4D | 5, DESTINATION_T5D | 5, SASE3 | 5
        file[TABLE][...] = table
    role = PROFILE.bunch_pattern.model_copy(update={"source": SERVER, "key": "data.bunchPatternTable", "sase": sase})
    train_id = open_files(folder).train_ids()
    found = read_pattern(open_files(folder), role, train_id)
    np.testing.assert_array_equal(found.xrays.usual()[0], np.flatnonzero(table[0] == entry | 5))


def test_a_table_without_x_rays_is_no_list_of_slots(folder):
    """Laser bits alone are small numbers."""
    write(folder, xrays=[], laser=[0])
    role = RoleOverride(source=SERVER, key="data.bunchPatternTable")
    run = open_run(folder, PROFILE.with_sources({"bunch_pattern": role}))
    assert run.labels["dark_frame"].all()
    assert (run.labels["pulse_slot"] == -1).all()
    np.testing.assert_array_equal(fires(run), [0])


def test_a_run_without_pattern_or_laser_lacks_them(folder):
    with slow(folder) as file:
        file["INDEX/SCS_RR_UTC/TSYS/TIMESERVER:outputBunchPattern/data/count"][...] = 0
    for sources, there in (({"bunch_pattern": None}, set()), ({}, {"pulse_slot"})):
        run = open_run(folder, PROFILE.with_sources(sources))
        assert {"pulse_slot", "laser", "laser_known"} & set(run.labels) == there


def test_trains_whose_pattern_was_not_recorded_say_nothing(folder):
    write(folder, laser=IDS)
    with slow(folder) as file:
        file["INDEX/SCS_RR_UTC/TSYS/TIMESERVER:outputBunchPattern/data/count"][3:5] = 0
    labels = open_run(folder, PROFILE).labels
    assert np.flatnonzero(~labels["laser_known"].values).tolist() == [3, 4]
    assert not labels["laser"][3:5].any()
    assert labels["laser"].any("slot").sum() == 18
    assert not labels["dark_frame"].any()


def test_detector_ids_that_begin_elsewhere_than_the_slots(folder):
    """The monitors, too, are looked up by slot: the k-th value of the gas monitor, entry 2 · slot of the arrival monitor."""
    write(folder, xrays=IDS + 1046, laser=IDS[::2])
    with slow(folder) as file:
        file[XGM][...] = np.arange(1000.0)
        file[BAM][...] = np.arange(7222.0)
    run = open_run(folder, PROFILE)
    assert (run.match.how, run.match.offset, run.audit) == ("offset", 1046, [])
    np.testing.assert_array_equal(run.labels["pulse_slot"], IDS + 1046)
    assert not run.labels["dark_frame"].any()
    np.testing.assert_array_equal(run.labels["intensity"], np.broadcast_to(np.arange(N), (20, N)))
    np.testing.assert_allclose(run.labels["arrival"], np.broadcast_to(2e-3 * (IDS + 1046), (20, N)))
    np.testing.assert_array_equal(fires(run), IDS[::2])
    assert run.labels.sizes["slot"] == IDS[-1] + 1046 + 1


def test_detector_ids_that_count_x_ray_pulses(folder):
    xrays = 1046 + 8 * np.arange(N)
    write(folder, xrays=xrays, ids=np.arange(N))
    with slow(folder) as file:
        file[BAM][...] = np.arange(7222.0)
    run = open_run(folder, PROFILE)
    assert run.match.how == "order"
    np.testing.assert_array_equal(run.labels["pulse_slot"], xrays)
    np.testing.assert_allclose(run.labels["arrival"][0], 2e-3 * xrays)
    assert not run.labels["dark_frame"].any()


def test_an_offset_with_fewer_x_ray_pulses_than_frames_is_a_guess_and_said(folder):
    write(folder, xrays=IDS[:4] + 1046)
    run = open_run(folder, PROFILE)
    np.testing.assert_array_equal(run.labels["dark_frame"], np.broadcast_to(np.arange(N) >= 4, (20, N)))
    assert any("slot = pulse id + 1046" in line for line in run.audit)


SPARSE = st.lists(st.integers(0, 60), min_size=1, max_size=20, unique=True).map(sorted).map(np.array)


@given(slots=SPARSE, offset=st.integers(-200, 2500), lost=st.integers(0, 3), dark=st.integers(0, 5))
def test_any_offset_is_found_whatever_the_pattern(slots, offset, lost, dark):
    """Ids differ from the slots by a constant; the frames after the last X-ray pulse are dark; a few trains lack pattern or frames."""
    slots = slots + 200
    ids = np.r_[slots, slots[-1] + 1 + np.arange(dark)] - min(offset, slots[0])
    used = np.zeros((40, int(slots[-1]) + 1), bool)
    used[:, slots] = True
    known = np.ones(40, bool)
    known[:lost] = used[:lost] = False
    present = np.ones((40, len(ids)), bool)
    present[20, 1:] = False
    match = match_slots(Slots("x", used, known), ids.astype(np.uint64), present)
    lit = Slots("x", used, known).at(match.pulse_slot)
    if dark == 0:
        np.testing.assert_array_equal(match.pulse_slot, slots)
    # whatever is found: nearly all X-ray pulses that have a frame are seen in one
    assert match.how in ("equal", "offset")
    assert (lit & present).sum() >= 0.9 * np.minimum(present.sum(axis=1), used.sum(axis=1)).sum()
    step = np.diff(match.pulse_slot)
    np.testing.assert_array_equal(step, np.diff(ids))


@given(slots=SPARSE, ids=SPARSE)
def test_frames_are_never_all_dark_nor_in_one_slot(slots, ids):
    used = np.zeros((5, 61), bool)
    used[:, slots] = True
    match = match_slots(Slots("x", used, np.ones(5, bool)), ids.astype(np.uint64), np.ones((5, len(ids)), bool))
    placed = match.pulse_slot[match.pulse_slot >= 0]
    assert len(set(placed)) == len(placed)
    assert (match.how == "foreign") == (len(placed) == 0)
    assert match.how == "foreign" or np.isin(placed, slots).any()


@given(seed=st.integers(0, 10**6), slots=SPARSE)
def test_values_per_x_ray_pulse_are_numbered_as_a_loop_would(seed, slots):
    """Patterns that differ from train to train; frames of slots that some trains do not use, or none."""
    used = np.random.default_rng(seed).random((6, 40)) < 0.4
    pattern = BunchPattern(Slots("x", used, np.ones(6, bool)), None)
    lit, place = _numbered(None, pattern, slots)
    for train, row in enumerate(used):
        lies = np.flatnonzero(row).tolist()
        assert lit[train].tolist() == [slot in lies for slot in slots]
        assert place[train, lit[train]].tolist() == [lies.index(slot) for slot in slots if slot in lies]


def test_trains_without_x_rays_do_not_spoil_the_match(folder):
    """Every second train is blocked: its frames are dark, its pattern is no other one."""
    write(folder, xrays=IDS + 300)
    with slow(folder) as file:
        file[f"{DECODER}/sase3/nPulses/value"][1::2] = 0
    run = open_run(folder, PROFILE)
    assert (run.match.how, run.match.offset) == ("offset", 300)
    assert run.labels["dark_frame"][1::2].all()
    assert not run.labels["dark_frame"][::2].any()


@pytest.mark.parametrize(
    ("laser", "share", "along", "pattern"),
    [
        (IDS, 1.0, "pulses", [1]),
        (IDS[::2], 0.5, "pulses", [1, 0]),
        (np.r_[IDS[::4], IDS[1::4]], 0.5, "pulses", [1, 1, 0, 0]),
        ([IDS, []] * 10, 0.5, "trains", [1, 0]),
        ([[], IDS, []] * 6 + [[], IDS], 0.35, "trains", "every third"),
        ([], 0.0, "pulses", [0]),
        ([IDS] * 19 + [[]], 0.95, "trains", [1]),
        (np.r_[IDS[:8:2], IDS[8::2] + 5], 0.25, "pulses", [1, 0] * 4 + [0] * 8),
        (np.r_[IDS[:4], IDS[5], IDS[11]], 0.375, "pulses", [1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        ([IDS] * 7 + [[]] * 13, 0.35, "trains", None),
    ],
)
def test_the_pattern_of_the_pump_is_told(folder, laser, share, along, pattern):
    write(folder, xrays=IDS + 1046, laser=laser)
    run = open_run(folder, PROFILE)
    pump = pulse_report(run)["pump"]
    assert pump["share"] == pytest.approx(share)
    if pattern == "every third":
        pattern = [int(k == run.labels["train_id"].values[1] % 3) for k in range(3)]
    assert (pump["along"], pump["pattern"]) == (along, pattern)
    assert pump["offset"] == (1046 if share else 0)


def test_inspect_tells_it_in_words(folder):
    write(folder, xrays=IDS + 1046, laser=[IDS[::2]] * 18 + [[], []])
    text = "\n".join(pulse_text(pulse_report(open_run(folder, PROFILE))))
    assert "X-rays   16 pulses per train, first slot 1046, step 8 (SCS_RR_UTC/MDL/BUNCH_DECODER)" in text
    assert "laser    LP_SCS: 8 pulses per train, first slot 0, step 16; 2 trains without pulses" in text
    assert "detector ids + 1046 = X-ray slots; 0 frames without X-rays" in text
    assert "laser slot + 1046 = X-ray slot would pump 0.45 of the X-ray pulses, 1, 0 along pulses" in text


@pytest.mark.parametrize(
    ("laser", "text"),
    [
        (IDS, "1 of the X-ray pulses, all of them"),
        ([IDS] * 19 + [[]], "0.95 of the X-ray pulses, all but missing shots"),
        ([IDS] * 7 + [[]] * 13, "in no pattern that repeats within 16"),
        ([[]] * 20, "LP_SCS: 0 pulses per train; 20 trains without pulses"),
    ],
)
def test_other_patterns_in_words(folder, laser, text):
    write(folder, laser=laser)
    assert text in "\n".join(pulse_text(pulse_report(open_run(folder, PROFILE))))


@pytest.mark.parametrize(
    ("xrays", "ids", "text"),
    [
        (IDS, IDS, "detector ids = X-ray slots; 0 frames"),
        (IDS, IDS + 40, "detector ids − 40 = X-ray slots; 0 frames"),
        (IDS, np.arange(N), "the n-th frame is that of the n-th X-ray pulse"),
        ([], IDS, "no X-ray pulse to compare with; 320 frames without X-rays"),
        (np.arange(1, 16, 3), IDS, "detector ids do not belong to the X-ray slots"),
    ],
)
def test_how_frames_belong_to_x_rays_in_words(folder, xrays, ids, text):
    write(folder, xrays=xrays, ids=ids)
    assert text in "\n".join(pulse_text(pulse_report(open_run(folder, PROFILE))))


def test_a_run_without_pattern_has_no_report(folder):
    assert pulse_report(open_run(folder, PROFILE.with_sources({"bunch_pattern": None}))) is None


def test_the_file_of_the_time_server_is_one_that_matters(folder, tmp_path, monkeypatch):
    """A laser pattern that changes makes the pulses stale, also where it lies in a file of its own."""
    write(folder, laser=IDS[::2])
    with slow(folder) as file:
        trains, table = file["INDEX/trainId"][()], file[TABLE][()]
        file["INDEX/SCS_RR_UTC/TSYS/TIMESERVER:outputBunchPattern/data/count"][...] = 0
    extra = folder / "RAW-R0002-DA02-S00000.h5"
    key = {"data.bunchPatternTable": table}
    control_file(extra, run=2, sequence=0, train_id=trains, control={}, instrument={SERVER: key}, units={})
    job = SimpleNamespace(run_dir=lambda number: tmp_path / "out", instrument=PROFILE, profile={})
    run = open_run(folder, PROFILE)
    np.testing.assert_array_equal(fires(run), IDS[::2])
    _record(job, run)
    hashed = Records(tmp_path / "out").get("inventory", Inventory).files
    assert extra.name in {file["name"] for file in hashed}


def test_init_names_pattern_and_laser_free_scans():
    def scan(run, share, pattern, kind="energy_scan"):
        return {"run": run, "kind": kind, "pulses": {"pump": {"share": share, "along": "pulses", "pattern": pattern}}}

    none = {"run": 1, "kind": "dark", "pulses": None}
    lines = pump_comments([none, scan(3, 0.0, [0]), scan(4, 0.5, [1, 0]), scan(6, 0.5, [1, 0], "delay_scan")])
    assert len(lines) == 1
    assert "in runs 4, 6: 1, 0 along pulses; `pump: auto`" in lines[0]
    flat = scan(2, 0.0, [0], "flat_field")
    assert runs_without_laser([none, flat, scan(3, 0.0, [0]), scan(4, 0.5, [1, 0])]) == [2, 3]
    # a laser that never fires is one that is not in the pattern: nothing is guessed, and the key is named
    never = [none, flat, scan(3, 0.0, [0]), scan(4, 0.0, [0])]
    assert runs_without_laser(never) == []
    (line,) = pump_comments(never)
    assert "EDIT if not, as in pump: {pulses: [1, 0]}" in line
    assert pump_comments([none, flat]) == []


def test_init_writes_it_into_the_config(tiny, tmp_path):
    """Runs 3 and 5 move the energy without laser, 4 and the delay scan 6 with every second pulse pumped."""
    raw = tmp_path / "raw"
    shutil.copytree(tiny.out / "raw", raw)
    for run in (4, 6):
        write(raw / f"r{run:04d}", laser=IDS[::2])
    text = draft(raw, "scs-dssc-boz")[1]
    assert "# the bunch pattern has the laser in runs 4, 6: 1, 0 along pulses; `pump: auto` takes it from there" in text
    assert "  pump_off_scans:   # the laser does not fire in these" in text
    config = parse_config(yaml.safe_load(text))
    assert config.pump == "auto"
    assert [s.run for s in config.runs.pump_off_scans] == [3, 5]
    assert [s.run for s in config.runs.energy_scans] == [4]

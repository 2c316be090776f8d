"""SIGKILL during the calibration: what was read of the dark run is not read again, and the bits are the same."""

import multiprocessing
import os
import signal
from collections import Counter

import pytest
import xarray as xr

from pipeline.stages import calibrate as calibrating
from pipeline.stages.inventory import INVENTORY
from pipeline.storage import ledger
from pipeline.workflow import context_of

DARK, FLAT = 1, 2
KILLS = [
    ("dark run 1", 1),
    ("dark run 1", 5),
    ("dark run 1", 6),
    ("dark run 1", 16),
    ("image of run 2", 3),
    ("fits", 0),
]
"""Where the attempts end: what was done last."""


def calibrate(job, progress=None):
    context = context_of(job, progress)
    for run in (DARK, FLAT):
        INVENTORY.run(context, run)
    calibrating.CALIBRATE.run(context)


def attempt(job, end, reads):
    """Calibrate in this process, and end it by SIGKILL when so much is done; every train that is read leaves a line."""

    def told(label, done, _total=0):
        if (label, done) == end:
            os.kill(os.getpid(), signal.SIGKILL)

    def blocks(run, trains):
        for train, *block in read(run, trains):
            with reads.open("a") as file:
                file.write(f"{run.number} {train}\n")
            yield train, *block

    def build(*arguments, **options):
        told("fits", 0)
        return fitted(*arguments, **options)

    read, calibrating.frames_by_train = calibrating.frames_by_train, blocks
    fitted, calibrating.build_calibration = calibrating.build_calibration, build
    # an entry after every train, whatever it costs
    ledger.SHARE = float("inf")
    calibrate(job, told)


@pytest.fixture(scope="module")
def attempted(small_job, tmp_path_factory):
    """Return a job that was killed again and again and then finished, and how often each train was read."""
    folder = tmp_path_factory.mktemp("killed")
    job = small_job(folder / "out")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.workflow"])
    for end in [*KILLS, None]:
        process = context.Process(target=attempt, args=(job, end, folder / "reads"))
        process.start()
        process.join(120)
        assert process.exitcode == (0 if end is None else -signal.SIGKILL), end
    lines = (folder / "reads").read_text().split("\n")[:-1]
    return job, Counter(tuple(map(int, line.split())) for line in lines)


def test_only_what_was_in_work_is_read_again(attempted):
    _, reads = attempted
    # killed when trains 0, 4 and 5 were read and not yet entered; 16 trains are done when the last is
    assert {train: n for (run, train), n in reads.items() if run == DARK} == dict.fromkeys(range(16), 1) | {
        0: 2,
        4: 2,
        5: 2,
        15: 2,
    }
    # three trains when the image was half made, and then all of it
    assert sorted(n for (run, _), n in reads.items() if run == FLAT)[-3:] == [2, 2, 2]
    assert sum(n for (run, _), n in reads.items() if run == FLAT) == 20 + 3


def test_the_calibration_is_that_of_an_undisturbed_run_and_nothing_is_left_behind(attempted, small_job, tmp_path):
    job, _ = attempted
    undisturbed = small_job(tmp_path / "out")
    calibrate(undisturbed)
    (one,), (other,) = (list(j.calibrations.iterdir()) for j in (job, undisturbed))
    assert one.name == other.name
    trees = [xr.open_datatree(folder / "calibration.zarr", engine="zarr") for folder in (one, other)]
    xr.testing.assert_identical(*trees)
    for number in (DARK, FLAT):
        assert sorted(p.name for p in job.run_dir(number).iterdir()) == ["files.json", "stages.json"]


def test_sums_are_entered_as_often_as_their_cost_allows(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(ledger.time, "monotonic", lambda: now[0])
    book = ledger.Ledger(tmp_path / "blocks", "key")
    book.begin()
    monkeypatch.setattr(ledger.Ledger, "replace", lambda *_: now.__setitem__(0, now[0] + 2.0))
    throttle = ledger.CheckpointThrottle(int(ledger.FIRST_GUESS))
    now[0] = 1.0 / ledger.SHARE - 0.1
    assert not throttle.due
    now[0] += 0.2
    assert throttle.due
    throttle.enter(book, 1, {})
    now[0] += 2.0 / ledger.SHARE - 0.1
    assert not throttle.due
    now[0] += 0.2
    assert throttle.due

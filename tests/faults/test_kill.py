"""SIGKILL at random moments: what is finished is kept, what was in work is done again, and the bits are the same."""

import multiprocessing
import os
import re
import time

import numpy as np
import pytest

from pipeline.workflow import process
from tests.faults.stores import assert_same_stores

LONGEST = 120.0
"""Seconds after which an attempt is taken for stuck."""


@pytest.fixture(scope="module")
def context():
    """Return a context that forks processes from one that has imported everything: many starts cost one import."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.workflow"])
    return context


def progress_of(out, expected=None):
    """Return how much is there of what will stay; a chunk of frames counts 25 times, a file written aside like its final one."""
    # os.walk passes over folders that go away meanwhile
    found = {f"{folder}/{name}" for folder, _, names in os.walk(out) for name in names}
    version = f"{out}/products/tiny/v0001/"
    found = {re.sub(r"/\.([^/]+)\.partial/", r"/\1/", re.sub(r"^.*/\.partial-[^/]+/", version, f)) for f in found}
    found = {f.removeprefix(str(out)) for f in found}
    if expected is not None:
        found &= expected
    return found, len(found) + 24 * sum("/frames/c/" in f for f in found)


def finished_chunks(out):
    """Return the chunk files of finished blocks and of finished runs, with what tells whether they are written again."""
    chunks = {}
    for run in (out / "runs").glob("r*"):
        entered = {int(p.stem) for p in (run / "blocks").glob("[0-9]*.npz")}
        for file in (run / "frames.zarr" / "frames" / "c").glob("*/0/0/0"):
            number = int(file.parts[-4])
            if number in entered or not (run / "blocks").exists():
                chunks[file] = (file.stat().st_ino, file.stat().st_mtime_ns)
    return chunks


@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.long)])
def test_killed_again_and_again_the_product_is_the_same_and_finished_blocks_are_not_repeated(
    undisturbed, small_job, tmp_path, context, kills
):
    job = small_job(tmp_path / "out")
    expected, total = progress_of(undisturbed)
    rng = np.random.default_rng(20)
    moments = np.sort(rng.uniform(0, 0.95, kills)) * total
    delays = rng.uniform(0, 0.03, kills)
    killed, killed_while_reducing, finished = 0, 0, {}
    for moment, delay in zip(moments, delays, strict=True):
        attempt = context.Process(target=process, args=(job,))
        attempt.start()
        give_up = time.monotonic() + LONGEST
        while attempt.is_alive() and progress_of(job.out, expected)[1] < moment:
            attempt.join(0.02)
            assert time.monotonic() < give_up
        attempt.join(delay)
        attempt.kill()
        attempt.join()
        # a busy machine may look too late to catch the last moments
        assert attempt.exitcode in (-9, 0)
        killed += attempt.exitcode == -9
        killed_while_reducing += any((job.out / "runs").glob("*/blocks/*.npz"))
        for file, stamp in finished.items():
            assert (file.stat().st_ino, file.stat().st_mtime_ns) == stamp, file
        finished |= finished_chunks(job.out)
    last = context.Process(target=process, args=(job,))
    last.start()
    last.join(LONGEST)
    assert last.exitcode == 0
    for file, stamp in finished.items():
        assert (file.stat().st_ino, file.stat().st_mtime_ns) == stamp, file
    assert killed >= kills - 3
    assert killed_while_reducing >= kills // 6
    assert_same_stores(undisturbed, job.out)
    assert not list(job.product_dir.glob(".partial*"))

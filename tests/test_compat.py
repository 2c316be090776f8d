"""What `pipeline.compat` takes from other packages is still there, does what it did, and has a way on without it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import extra_data.read_machinery
import numpy as np
import pytest
from distributed.comm import connect
from numcodecs import blosc

from pipeline import compat
from pipeline.errors import DataError
from pipeline.euxfel.run_files import raw_folder
from schemas.config import Proposal

ROOT = Path(__file__).parents[1]


def test_part_of_a_blosc_buffer_is_decoded():
    values = np.arange(5000, dtype=np.uint16)
    packed = bytearray(blosc.compress(values, b"lz4", 1, blosc.SHUFFLE))
    decode = compat.partial_decoder()
    assert decode is not None
    out = np.zeros(700, np.uint16)
    assert decode(packed, 1234, 700, out)
    np.testing.assert_array_equal(out, values[1234:1934])
    assert not decode(packed, 4800, 700, out)


def test_without_a_part_decoder_there_is_none(monkeypatch):
    monkeypatch.setattr(compat.ctypes, "CDLL", lambda name: object())
    assert compat.partial_decoder() is None
    assert not compat.exchange(Path("a"), Path("b"))


def test_two_folders_are_swapped(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert compat.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists()
    assert not compat.exchange(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize("known", [True, False], ids=["extra-data", "by hand"])
def test_a_proposal_is_found_where_the_facility_keeps_it(tmp_path, monkeypatch, known):
    (tmp_path / "SCS" / "202401" / "p002619" / "raw").mkdir(parents=True)
    monkeypatch.setenv("EXTRA_DATA_DATA_ROOT", str(tmp_path))
    if not known:
        monkeypatch.delattr(extra_data.read_machinery, "find_proposal")
    assert raw_folder(Proposal(proposal=2619), tmp_path) == tmp_path / "SCS" / "202401" / "p002619" / "raw"
    with pytest.raises(
        DataError,
        match=r"proposal 9: not found on this machine \((.*proposal|no folder p000009 below) .*give raw: FOLDER",
    ):
        raw_folder(Proposal(proposal=9), tmp_path)


def test_a_connection_that_breaks_is_known_by_its_class(monkeypatch):
    async def listen_and_hang_up():
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            comm = await connect(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=5)
            await comm.read()

    with pytest.raises(compat.connection_lost()):
        asyncio.run(listen_and_hang_up())
    monkeypatch.setitem(sys.modules, "distributed.comm.core", None)
    assert compat.connection_lost() is ConnectionError


def test_ctrl_c_stays_as_it_is_when_dask_jobqueue_is_imported():
    code = """
import signal, threading
from pipeline import compat
before, change = signal.getsignal(signal.SIGINT), signal.signal
made = []
thread = threading.Thread(target=lambda: made.append(compat.slurm_cluster_class().__name__))
thread.start()
thread.join()
assert made == ["SLURMCluster"]
assert signal.getsignal(signal.SIGINT) is before
assert signal.signal is change
# the reason for it all: without that, it does not
import importlib, dask_jobqueue.runner
importlib.reload(dask_jobqueue.runner)
assert signal.getsignal(signal.SIGINT) is not before
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120)

"""One process at a time in a folder: real processes, dead owners, other hosts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import BusyError
from pipeline.storage import claim
from pipeline.storage.claim import claimed

ROOT = Path(__file__).parents[2]

COUNT = """
import sys
from pathlib import Path
from pipeline.storage.claim import claimed
folder = Path(sys.argv[1])
for _ in range(5):
    with claimed(folder, "count", wait=60):
        total = int((folder / "total").read_text())
        sum(range(100_000))
        (folder / "total").write_text(str(total + 1))
"""
HOLD = """
import sys
from pathlib import Path
from pipeline.storage.claim import claimed
with claimed(Path(sys.argv[1]), "hold"):
    print("held", flush=True)
    sys.stdin.read()
"""


def start(code, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], **pipes)


def test_processes_that_wait_for_each_other_lose_nothing(tmp_path):
    (tmp_path / "total").write_text("0")
    processes = [start(COUNT, tmp_path) for _ in range(4)]
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert (tmp_path / "total").read_text() == "20"
    assert len(list((tmp_path / ".claims").iterdir())) == 1


def test_a_living_owner_is_named_and_a_killed_one_is_no_obstacle(tmp_path):
    process = start(HOLD, tmp_path)
    assert process.stdout.readline() == "held\n"
    with (
        pytest.raises(BusyError, match=rf"process {process.pid} on .* works here \(hold, since "),
        claimed(tmp_path, "x"),
    ):
        pass
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    with claimed(tmp_path, "x"):
        assert json.loads(next((tmp_path / ".claims").glob("0*")).read_text())["pid"] == os.getpid()


def test_a_process_may_enter_again_and_leaves_once(tmp_path):
    with claimed(tmp_path, "outer"):
        with claimed(tmp_path, "inner"):
            pass
        path = next((tmp_path / ".claims").glob("0*"))
        assert not json.loads(path.read_text())["ended"]
    assert json.loads(path.read_text())["ended"]


def test_an_owner_on_another_host_counts_as_dead_after_a_while(tmp_path):
    folder = tmp_path / ".claims"
    folder.mkdir()
    owner = {"pid": 1, "started": "1", "host": "elsewhere 1", "since": "then", "what": "watch", "ended": False}
    path = folder / "000041"
    path.write_text(json.dumps(owner))
    with pytest.raises(BusyError, match="on elsewhere"), claimed(tmp_path, "x"):
        pass
    old = path.stat().st_mtime - claim.LOST - 1
    os.utime(path, (old, old))
    with claimed(tmp_path, "x"):
        assert [p.name for p in folder.glob("0*")] == ["000042"]


def test_a_number_that_was_passed_over_is_not_taken(tmp_path):
    # a process that looked long ago makes its claim only now, when others have come and tidied up
    (tmp_path / "000009").write_text(json.dumps({"ended": True}))
    assert claim._make(tmp_path, 5, "late") is None
    assert [p.name for p in tmp_path.iterdir()] == ["000009"]
    assert claim._make(tmp_path, 10, "next") == tmp_path / "000010"
    assert [p.name for p in tmp_path.iterdir()] == ["000010"]


def test_a_late_claim_that_its_successor_has_tidied_up_is_given_up(tmp_path, monkeypatch):
    def tidied(folder):
        (folder / "000007").unlink()
        return [9]

    monkeypatch.setattr(claim, "_numbers", tidied)
    assert claim._make(tmp_path, 7, "late") is None

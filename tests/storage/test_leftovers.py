"""What killed publishers left behind goes, and what a living one has in hand stays."""

import json
import os
import subprocess
import sys
import time

import pytest

from pipeline.storage import leftovers, owners
from pipeline.storage.places import Remote

DEAD = {"pid": 2**22 + 1, "started": "1", "host": owners.boot_of(), "since": "2026-01-01T00:00:00Z"}
ELSEWHERE = {"pid": 1, "started": "1", "host": "elsewhere 1a2b3c4d", "since": "2026-01-01T00:00:00Z"}


def made_by(code, folder):
    """Let another process make a partial folder; returns it."""
    made = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    line = made.stdout.readline().decode().strip()
    return made, folder / line


CODE = """
import sys
from pathlib import Path
from pipeline.storage import leftovers
partial = leftovers.new_partial(Path(sys.argv[1]))
(partial / "product.zarr").mkdir(parents=True)
print(partial.name, flush=True)
sys.stdin.read()
"""


def test_a_folder_goes_when_its_owner_was_killed_and_not_before(tmp_path):
    owner, partial = made_by(CODE, tmp_path)
    with owner:
        leftovers.sweep(tmp_path)
        assert partial.is_dir()
        owner.kill()
        owner.wait()
    leftovers.sweep(tmp_path)
    assert not partial.exists()


def test_what_another_host_left_goes_after_a_day(tmp_path):
    names = [".partial-0123abcd-42-77-aa", ".partial-4242-ab12cd34", ".partial-"]
    for name in names:
        (tmp_path / name).mkdir()
    leftovers.sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(names)
    old = time.time() - owners.FORGOTTEN - 60
    for name in names[:2]:
        os.utime(tmp_path / name, (old, old))
    leftovers.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [names[2]]


def unfinished(name, owner):
    version = Remote(f"memory://leftovers-{name}/products/x/v0003")
    (version / "claim-1").write_text(json.dumps(owner) if isinstance(owner, dict) else owner)
    (version / "product.zarr" / "zarr.json").write_text("{}")
    (version / "figures" / "a.png").write_text("")
    return version


@pytest.mark.parametrize(
    ("owner", "stays"),
    [
        (owners.this_process(), True),
        (DEAD, False),
        (ELSEWHERE | {"since": owners.this_process()["since"]}, True),
        (ELSEWHERE, False),
        ("", True),
    ],
    ids=["living", "dead", "elsewhere", "elsewhere long ago", "unknown"],
)
def test_objects_of_an_unfinished_version_go_with_their_owner_and_its_number_stays_taken(request, owner, stays):
    version = unfinished(request.node.callspec.id.replace(" ", "-"), owner)
    for _ in range(2):
        leftovers.sweep_versions([version])
        names = {p.name for p in version.iterdir()}
        assert names == ({"claim-1", "product.zarr", "figures"} if stays else {"claim-1", "abandoned"})
        assert leftovers.was_abandoned(version) is not stays

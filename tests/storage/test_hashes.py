"""Content hashes: worked out in the background, once, and settled where somebody needs them."""

import threading
from importlib import resources

import pytest

from pipeline.job import load_job
from pipeline.stages.inventory import INVENTORY
from pipeline.storage.hashes import FileHashes, Identity
from pipeline.workflow import context_of


def test_the_identity_is_worked_out_before_anybody_asks_and_once():
    calls, done = [], threading.Event()

    def work():
        calls.append(threading.current_thread().name)
        done.set()
        return "hash"

    identity = Identity(work)
    assert done.wait(30)
    assert identity.result() == identity.result() == "hash"
    assert calls == ["hash"]


def test_what_failed_is_tried_again_by_who_needs_it_and_raised_there():
    failures = [OSError("stale handle"), OSError("still stale")]

    def work():
        if failures:
            raise failures.pop(0)
        return "hash"

    identity = Identity(work)
    with pytest.raises(OSError, match="still stale"):
        identity.result()
    assert identity.result() == "hash"


def test_a_file_is_read_once_also_when_killed_between_files(tmp_path, monkeypatch):
    files = [tmp_path / name for name in ("a.h5", "b.h5")]
    for file in files:
        file.write_bytes(file.name.encode())
    first = FileHashes(tmp_path / "files.json").of(files[0])
    # nothing was saved on purpose: the process was killed here
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
    assert FileHashes(tmp_path / "files.json").of(files[0]) == first
    monkeypatch.undo()
    files[0].write_bytes(b"other")
    assert FileHashes(tmp_path / "files.json").of(files[0])["sha256"] != first["sha256"]
    assert FileHashes(tmp_path / "files.json").of(files[1])["size"] == 4


def identity_of_run_5(config, out, change):
    context = context_of(load_job(config, out, [change]))
    INVENTORY.run(context, 5)
    return INVENTORY.recorded_key(context, 5)


def test_an_edited_profile_is_another_identity(tiny, tmp_path):
    """The same file name and other content: the sign or source of a role may have changed."""
    profile = tmp_path / "hutch.yaml"
    text = (resources.files("schemas") / "profiles" / "scs-dssc-boz.yaml").read_text(encoding="utf-8")
    profile.write_text(text, encoding="utf-8")
    change = f"instrument={profile}"
    first = identity_of_run_5(tiny.out / "config.yaml", tmp_path / "out", change)
    profile.write_text(text.replace("title: SCS", "title: the hutch"), encoding="utf-8")
    assert identity_of_run_5(tiny.out / "config.yaml", tmp_path / "out", change) == first
    profile.write_text(text.replace("unit: fs, index: bucket", "unit: ps, index: bucket"), encoding="utf-8")
    assert identity_of_run_5(tiny.out / "config.yaml", tmp_path / "out", change) != first

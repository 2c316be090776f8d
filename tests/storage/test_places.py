"""Paths and URLs, and the marks by which two publishers at once tell whose a version number is."""

import sys
import threading
from itertools import combinations
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, ProductError
from pipeline.storage import versions as publish
from pipeline.storage.places import Remote, place


def test_local_and_remote_names(tmp_path):
    assert place("file:///a/b") == Path("/a/b")
    assert place("out") == Path("out")
    remote = place("s3://bucket/a/b/")
    assert (str(remote), remote.name, str(remote.parent), str(remote / "c")) == (
        "s3://bucket/a/b",
        "b",
        "s3://bucket/a",
        "s3://bucket/a/b/c",
    )
    with pytest.raises(ProductError, match="memory://nowhere: no product there"):
        publish.resolve("memory://nowhere")
    with pytest.raises(ConfigError, match=r"moon://a.*: Protocol not known"):
        publish.resolve("moon://a")


def test_what_goes_wrong_on_the_way_is_one_line_with_the_way_out():
    remote = Remote("memory://a/b")
    message = r"memory://a/b: cannot be reached \(no route\).*AWS_ENDPOINT_URL"
    with pytest.raises(ProductError, match=message), remote._reached():
        raise OSError("no route\nand more")
    with pytest.raises(FileNotFoundError, match="memory://a/b: not there"):
        remote.read_text()


def test_without_s3fs_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    # the name fsspec.registry is also that of a mapping; forget that s3fs was loaded
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'trxas\[s3\]'") as raised:
        Remote("s3://bucket/a").check_writable()
    assert len(str(raised.value).splitlines()) == 1
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigError, match=r"gs://bucket/a.*: gs:// needs a package that is not installed: .*gcsfs"):
        Remote("gs://bucket/a").check_writable()


class Steps:
    """Lets threads list and write only when it is their turn: one step each time."""

    def __init__(self, patch, threads, n_steps):
        self.turns = {t: threading.Semaphore(0) for t in threads}
        self.left = dict.fromkeys(threads, n_steps)
        self.done = threading.Semaphore(0)
        listing, writing = Remote.iterdir, Remote.write_text
        patch.setattr(Remote, "iterdir", lambda place: iter(self.take(lambda: list(listing(place)))))
        patch.setattr(Remote, "write_text", lambda place, *a: self.take(lambda: writing(place, *a)))

    def take(self, step):
        me = threading.current_thread().name
        if not self.left.get(me):
            return step()
        self.left[me] -= 1
        assert self.turns[me].acquire(timeout=30)
        result = step()
        self.done.release()
        return result

    def give(self, name):
        self.turns[name].release()
        assert self.done.acquire(timeout=30)


def test_two_that_take_a_number_together_never_both_get_it(monkeypatch):
    """Every order of two publishers' steps (list, mark, list) on a store without conditional writes."""
    for k, first in enumerate(combinations(range(6), 3)):
        folder = Remote(f"memory://claims-{k}/products/x")
        got = {}
        with monkeypatch.context() as patch:
            steps = Steps(patch, ("a", "b"), 3)

            def claim(folder=folder, got=got):
                got[threading.current_thread().name] = publish._claim(folder)[0].name

            threads = [threading.Thread(target=claim, name=name) for name in ("a", "b")]
            for thread in threads:
                thread.start()
            for i in range(6):
                steps.give("a" if i in first else "b")
            for thread in threads:
                thread.join(timeout=30)
        assert len(set(got.values())) == 2, (first, got)
        Remote(f"memory://claims-{k}").remove()

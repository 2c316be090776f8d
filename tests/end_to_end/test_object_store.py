"""Products on a real S3-speaking server, and what two publishers at once do to each other there."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
import xarray as xr
from moto.server import ThreadedMotoServer

from flows.cli import main
from pipeline.errors import ConfigError, ProductError
from pipeline.job import load_job
from pipeline.storage import leftovers, owners
from pipeline.storage import versions as publish
from pipeline.storage.places import Remote
from pipeline.workflow import process
from tests.command import trxas
from trxas import open as open_product

BUCKET = "beamtime"


@pytest.fixture(scope="module")
def s3():
    """An S3 server on loopback, found by the usual environment variables; yields a bucket's URL."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir(BUCKET)
        yield f"s3://{BUCKET}"
    server.stop()


@pytest.fixture(scope="module")
def ready(processed):
    """What a publisher has in hand: the tree without its stamp, and the summary without version."""
    product = open_product(processed[0])
    tree = product.tree.load()
    tree.attrs = {k: v for k, v in tree.attrs.items() if k not in ("created", "product_hash")}
    summary = {k: v for k, v in product.summary.items() if k not in ("created", "product_hash", "version")}
    return tree, summary


def draw_nothing(tree, summary, folder):
    (folder / "nothing.png").write_bytes(b"")


def test_a_product_goes_to_a_bucket_and_plain_xarray_reads_it(s3, tiny, processed, prefect_home):
    out, expected = processed[0], publish.resolve(processed[0])
    done = trxas("process", tiny.out / "config.yaml", "--out", f"{s3}/shift-1", "--work", out, home=prefect_home)
    assert done.returncode == 0, done.stderr
    assert f"product  {s3}/shift-1/products/tiny/v0001/product.zarr" in done.stdout
    version = publish.resolve(f"{s3}/shift-1")
    assert str(version) == f"{s3}/shift-1/products/tiny/v0001"
    names = {p.name for p in (Remote(s3) / "shift-1").iterdir()}
    assert names == {"products"}
    there = xr.open_datatree(f"{version}/product.zarr", engine="zarr")
    here = xr.open_datatree(expected / "product.zarr", engine="zarr")
    for name, node in here.children.items():
        xr.testing.assert_identical(there[name].to_dataset().load(), node.to_dataset().load())
    assert there.attrs["product_hash"] == here.attrs["product_hash"]
    pointer = json.loads(fsspec.filesystem("s3").cat(f"{BUCKET}/shift-1/products/tiny/latest.json"))
    assert (pointer["version"], pointer["product_hash"]) == ("v0001", there.attrs["product_hash"])
    assert sorted(p.name for p in version.iterdir()) == [
        *("SHA256SUMS", "figures", "fits", "product.zarr", "summary.json")
    ]
    assert (version / "figures" / "delta_xas.png").read_bytes()[:4] == b"\x89PNG"
    # the same product is not published twice, there or here
    job = load_job(tiny.out / "config.yaml", f"{s3}/shift-1", work=out)
    assert str(process(job).version) == str(version)
    assert process(load_job(tiny.out / "config.yaml", out)).version == expected


@pytest.mark.long
def test_every_reading_verb_takes_a_url(s3, ready, processed, tmp_path, monkeypatch, capsys):
    url = f"{s3}/verbs"
    publish.publish(Remote(url) / "products" / "tiny", *ready, draw=draw_nothing, work=tmp_path)
    monkeypatch.chdir(tmp_path)
    for arguments, text in (
        (["show", url, "--against", publish.resolve(processed[0])], "same arrays, bit for bit"),
        (["show", f"{url}/products/tiny/v0001"], "tau1"),
        (["validate", url], "valid"),
        (["plan", url], "tau1 = "),
        (["export", url, "--format", "nexus"], "tiny.nxs"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        printed = capsys.readouterr()
        assert (ended.value.code, printed.err) == (0, "")
        assert text in printed.out


def test_a_bucket_that_is_not_there_is_told_before_anything_is_computed(s3, tiny, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["process", str(tiny.out / "config.yaml"), "--out", "s3://no-such-bucket/a", "--work", str(tmp_path)])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["trxas: s3://no-such-bucket/a: there is no such bucket or container"]
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_publishers_at_once_do_not_mix_and_readers_never_see_half(s3, ready, tmp_path):
    tree, summary = ready
    folder = Remote(f"{s3}/race/products/tiny")
    n, barrier, done = 2, threading.Barrier(3), threading.Event()

    def write(k):
        changed = tree.copy(deep=True)
        for variable in ("delta_xas", "od_pumped"):
            changed["spectra"][variable][...] = k
        changed["delay_scan"]["delta_xas"][...] = k
        barrier.wait()
        return publish.publish(folder, changed, {**summary, "warnings": [str(k)]}, draw=draw_nothing, work=tmp_path)

    def read():
        seen = []
        barrier.wait()
        while True:
            last = done.is_set()
            version = publish.latest(folder)
            if version is not None:
                opened = xr.open_datatree(f"{version}/product.zarr", engine="zarr")
                arrays = (opened["spectra/delta_xas"], opened["spectra/od_pumped"], opened["delay_scan/delta_xas"])
                content = {float(v) for a in arrays for v in np.unique(a.values)}
                assert content == {float(publish.read_summary(version)["warnings"][0]["text"])}
                assert publish.check(version) == []
                seen.append(int(version.name[1:]))
            if last:
                return seen
            done.wait(0.3)

    with ThreadPoolExecutor(n + 1) as pool:
        reader = pool.submit(read)
        writers = [pool.submit(write, k) for k in range(n)]
        published = [w.result() for w in writers]
        done.set()
        seen = reader.result()
    assert len({v.name for v in published}) == n
    assert [v.name for v in publish.versions(folder)] == sorted(v.name for v in published)
    newest = publish.latest(folder)
    assert newest.name == max(v.name for v in published)
    assert seen[-1] == int(newest.name[1:])
    for k, version in enumerate(published):
        assert publish.read_summary(version)["version"] == version.name
        assert set(np.unique(open_product(version).tree["spectra/delta_xas"])) == {float(k)}
        assert not [p for p in version.iterdir() if p.name.startswith("claim")]


def test_a_version_that_was_never_finished_is_nobodys(ready, tmp_path):
    tree, summary = ready
    folder = Remote("memory://broken/products/tiny")
    first = publish.publish(folder, tree, summary, draw=draw_nothing, work=tmp_path)
    # killed while it put its objects: a mark and a part of the product, no summary
    dead = owners.this_process() | {"started": "1"}
    (folder / "v0002" / "claim-dead").write_text(json.dumps(dead))
    (folder / "v0002" / "product.zarr" / "zarr.json").write_text("{}")
    assert [v.name for v in publish.versions(folder)] == ["v0001"]
    assert publish.resolve("memory://broken").name == first.name
    second = publish.publish(folder, tree, summary, draw=draw_nothing, work=tmp_path)
    assert second.name == "v0003"
    assert {p.name for p in (folder / "v0002").iterdir()} == {"abandoned", "claim-dead"}
    assert publish.resolve("memory://broken/products/tiny/latest.json").name == "v0003"
    assert open_product("memory://broken").summary["version"] == "v0003"
    folder.remove()


def test_a_publisher_that_was_taken_for_dead_publishes_nothing(ready, tmp_path, monkeypatch):
    folder = Remote("memory://slow/products/tiny")
    upload = Remote.upload

    def slowly(version, files):
        upload(version, files)
        # meanwhile another machine takes it for dead
        with monkeypatch.context() as patch:
            patch.setattr(owners, "is_alive", lambda _: False)
            leftovers.sweep_versions([version])

    monkeypatch.setattr(Remote, "upload", slowly)
    with pytest.raises(ProductError, match="others gave it up; process again"):
        publish.publish(folder, *ready, draw=draw_nothing, work=tmp_path)
    assert publish.latest(folder) is None
    assert publish.versions(folder) == []
    assert not list(tmp_path.iterdir())


def test_the_pointer_never_goes_back(ready, tmp_path):
    tree, summary = ready
    versions = [publish.publish(tmp_path / "d", tree, summary, draw=draw_nothing) for _ in range(2)]
    # the publisher of the first was slow: its pointer comes after that of the second
    publish._point(tmp_path / "d", versions[0])
    assert publish.latest(tmp_path / "d") == versions[1]


def test_working_stores_stay_on_a_file_system(tiny, tmp_path):
    with pytest.raises(ConfigError, match="--work"):
        load_job(tiny.out / "config.yaml", tmp_path, work="s3://bucket/a")
    job = load_job(tiny.out / "config.yaml", "memory://there")
    assert job.out == tiny.out / "out"
    assert str(job.product_dir) == "memory://there/products/tiny"

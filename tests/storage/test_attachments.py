"""Files that stand beside the arrays of a version: there with it, and no part of its hash."""

import fsspec
import pytest

from pipeline.storage import versions
from pipeline.storage.places import place
from tests import synthetic


def published(folder, work, **options):
    tree, summary = synthetic.fitted("attached")
    return versions.publish(folder, tree, summary, draw=lambda *_: None, work=work, **options)


@pytest.mark.parametrize("where", ["folder", "memory://attached"])
def test_attachments_are_published_and_change_no_hash(tmp_path, where):
    folder = tmp_path / "out" if where == "folder" else place(where)
    files = {"fits/kinetics_8mJcm2.json": "{}\n", "fits/α.txt": "τ".encode()}
    plain = published(folder, tmp_path / "work")
    attached = published(folder, tmp_path / "work", attachments=files)
    assert versions.check(attached) == []
    assert not (plain / "fits").is_dir()
    assert (attached / "fits" / "kinetics_8mJcm2.json").read_text(encoding="utf-8") == "{}\n"
    assert (attached / "fits" / "α.txt").read_text(encoding="utf-8") == "τ"
    hashes = {versions.read_summary(version)["product_hash"] for version in (plain, attached)}
    assert len(hashes) == 1
    assert sorted(p.name for p in folder.iterdir()) == ["latest.json", "v0001", "v0002"]
    if where != "folder":
        fsspec.filesystem("memory").rm("/attached", recursive=True)

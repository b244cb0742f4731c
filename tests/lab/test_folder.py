"""Result folders: nothing that was there is lost."""

import pytest

from jaxsde.lab.folder import (
    MANIFEST,
    StoreError,
    new_folder,
    read_manifest,
    whole_file,
    write_manifest,
)


def make(out, text, force=False):
    with new_folder(out, force) as folder:
        (folder / "data").mkdir()
        (folder / "data" / "a.txt").write_text(text)
        write_manifest(folder, {"seed": 1})


def leftovers(out):
    return [path.name for path in out.parent.iterdir() if path.name.startswith(".")]


def test_a_folder_appears_when_it_is_complete(tmp_path):
    out = tmp_path / "deep" / "result"
    make(out, "one")
    manifest = read_manifest(out)
    assert manifest["seed"] == 1
    assert manifest["files"]["data/a.txt"]["bytes"] == 3
    assert leftovers(out) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_replacement_leaves_the_old_result(tmp_path, stop):
    out = tmp_path / "result"
    make(out, "old")
    with pytest.raises(stop), new_folder(out, True) as folder:
        (folder / "half").write_text("new")
        raise stop
    assert (out / "data" / "a.txt").read_text() == "old"
    read_manifest(out)
    assert leftovers(out) == []


def test_force_replaces_the_whole_result(tmp_path):
    out = tmp_path / "result"
    make(out, "old")
    (out / "calibration").mkdir()
    (out / "calibration" / "calibration.json").write_text("{}")
    (out / "notes.txt").write_text("the good one")
    with pytest.raises(StoreError, match="exists already; add --force"):
        make(out, "new")
    make(out, "new", force=True)
    assert (out / "data" / "a.txt").read_text() == "new"
    assert (out / "notes.txt").read_text() == "the good one"
    assert (out / "calibration" / "calibration.json").exists()
    assert leftovers(out) == []


def test_a_link_is_followed(tmp_path):
    make(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    make(tmp_path / "link", "new", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "data" / "a.txt").read_text() == "new"
    assert leftovers(tmp_path / "real") == []


def test_an_empty_folder_may_be_used(tmp_path):
    out = tmp_path / "result"
    out.mkdir()
    make(out, "one")
    assert (out / "data" / "a.txt").read_text() == "one"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: (out / "data" / "a.txt").write_text("onE"), "checksum fails"),
        (lambda out: (out / "data" / "a.txt").write_text("on"), "truncated or changed"),
        (lambda out: (out / "data" / "a.txt").unlink(), "missing, the result is truncated"),
        (lambda out: (out / MANIFEST).write_text("{"), "cannot be read"),
        (
            lambda out: (out / MANIFEST).write_text('{"schema": 99, "files": {}}'),
            "schema 1, got 99",
        ),
        (lambda out: (out / MANIFEST).unlink(), f"without {MANIFEST}"),
    ],
)
def test_damage_is_found_and_named(tmp_path, damage, message):
    out = tmp_path / "result"
    make(out, "one")
    damage(out)
    with pytest.raises(StoreError, match=message):
        read_manifest(out)


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "kept.txt"
    with whole_file(path) as partial:
        partial.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(RuntimeError, match="stopped"), whole_file(path) as partial:
        partial.write_text("tw")
        raise RuntimeError("stopped")
    assert path.read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]

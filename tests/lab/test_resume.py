"""Resume: configurations that agree or not, and what a new start removes."""

import json

import pytest

import streams
from jaxsde.lab.folder import MANIFEST, StoreError
from jaxsde.lab.resume import check_same, clear, flat, is_empty, is_streamed, write_whole


def test_a_document_is_flattened_by_its_names():
    document = {"a": {"b": 1}, "s": [{"name": "x", "n": 2}, {"m": 3}], "l": [1, 2]}
    assert flat(document) == {"a.b": 1, "s.x.name": "x", "s.x.n": 2, "s.1.m": 3, "l": [1, 2]}


def test_every_difference_is_shown(tmp_path):
    config = {"params.g_m": "2pi * 26 kHz", "keep": "records", "jax": "0.10.2"}
    begun = dict(config=config, block_shots=1024)
    check_same(tmp_path, begun, dict(config), None)
    check_same(tmp_path, begun, dict(config), 1024)
    with pytest.raises(StoreError) as caught:
        check_same(tmp_path, begun, config | {"params.g_m": "2pi * 27 kHz", "new": 1}, 2048)
    assert "--block-shots was 1024, now 2048; new was 'not given', now 1; params.g_m was" in str(
        caught.value
    )
    assert "'2pi * 26 kHz', now '2pi * 27 kHz'" in str(caught.value)


def test_a_new_start_removes_what_is_its_own(tmp_path):
    files = {"estimates.json": {}, "figures/gain.png": {}}
    (tmp_path / "figures").mkdir()
    (tmp_path / "blocks.zarr").mkdir()
    for name in (*files, "notes.txt", "blocks.jsonl"):
        (tmp_path / name).write_text("x")
    assert not is_streamed(tmp_path) and not is_empty(tmp_path)
    with pytest.raises(StoreError, match="it is not touched"):
        clear(tmp_path)
    write_whole(tmp_path / MANIFEST, {"files": files, "stream": {}})
    assert is_streamed(tmp_path)
    clear(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_manifest_is_written_whole_or_not_at_all(tmp_path):
    write_whole(tmp_path / "a", {"x": 1})
    assert json.loads((tmp_path / "a").read_text()) == {"x": 1}
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "in_the_way").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        write_whole(tmp_path / "b", {"x": 1})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_the_experiment_of_a_run_is_part_of_its_configuration():
    assert streams.text() != streams.text(seed=4)

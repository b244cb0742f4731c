"""Chunks: zarr reads what was written, and nothing that is torn, lost or flipped is trusted."""

import json

import numpy as np
import pytest
import zarr

import streams
from jaxsde.lab.blocks import Outcome, array_shapes, make_block
from jaxsde.lab.chunks import (
    JOURNAL,
    ZARR,
    Store,
    create_arrays,
    mend_journal,
    missing,
    read_journal,
    read_rows,
    save,
    sound,
)
from jaxsde.lab.folder import StoreError
from jaxsde.lab.parts import blocks_of, parts_of

E = streams.experiment(shots=2500)
TEXT = streams.text(shots=2500)


@pytest.fixture(scope="module")
def outcomes():
    shapes = {"main": array_shapes(TEXT, "main", "records")}
    blocks = blocks_of(parts_of(E)[0], 1024)
    return shapes, [make_block(TEXT, block, "records") for block in blocks]


@pytest.fixture
def store(tmp_path, outcomes):
    made = Store(folder=tmp_path, parts=parts_of(E), block_shots=1024, shapes=outcomes[0])
    create_arrays(made, {"record": "W"})
    for outcome in outcomes[1]:
        save(made, outcome)
    return made


def numbers(store):
    return [block.number for block in missing(store, read_journal(store.folder))]


def test_zarr_reads_what_was_written_one_chunk_for_each_block(store, outcomes):
    group = zarr.open_group(store.folder / ZARR / "main", mode="r")
    for name, (shape, dtype) in outcomes[0]["main"].items():
        whole = [outcome.arrays[name] for outcome in outcomes[1]]
        wanted = np.stack(whole) if name == "sums" else np.concatenate(whole)
        found = np.asarray(group[name])
        assert np.array_equal(found, wanted), name
        assert found.dtype == dtype and found.shape[1:] == shape
        assert len(list((store.folder / ZARR / "main" / name / "c").iterdir())) == 3
    assert group["record"].attrs["units"] == "W" and group["omega_m"].attrs["units"] == "rad/s"
    assert group.attrs["shots"] == 2500
    files = [p for p in (store.folder / ZARR).rglob("*") if p.is_file() and "c" in p.parts]
    assert sum(p.stat().st_size for p in files) == store.total_bytes()


def test_a_complete_store_lacks_nothing(store):
    entries = read_journal(store.folder)
    assert numbers(store) == []
    assert all(sound(store, b, entries["main", b.number]) for b in store.blocks())
    rows = list(read_rows(store, "main", "sums", entries))
    assert len(rows) == 3 and rows[0].shape == store.shapes["main"]["sums"][0]


def test_a_flipped_bit_is_found_by_its_checksum_alone(store):
    path, entries = store.path("main", "record", 1), read_journal(store.folder)
    data = bytearray(path.read_bytes())
    data[1234] ^= 4
    path.write_bytes(data)
    assert numbers(store) == []  # its size is right
    assert [sound(store, b, entries["main", b.number]) for b in store.blocks()] == [
        True,
        False,
        True,
    ]


def test_torn_and_lost_chunks_are_missing(store):
    path = store.path("main", "filters", 0)
    path.write_bytes(path.read_bytes()[:-1])
    store.path("main", "sums", 2).unlink()
    assert numbers(store) == [0, 2]


@pytest.mark.parametrize("lost", range(1, 60, 7))
def test_a_torn_line_costs_its_block_alone(store, lost):
    journal = store.folder / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-lost])
    assert numbers(store) == ([] if lost == 1 else [2])
    mend_journal(store.folder)
    with journal.open("a") as file:
        file.write('{"part": "main", "block": 9}\n')
    assert ("main", 9) in read_journal(store.folder)
    assert numbers(store) == ([] if lost == 1 else [2])


def test_lines_that_vouch_for_something_else_do_not_count(store):
    line = read_journal(store.folder)["main", 1]
    for change in (dict(state="failed"), dict(shots=[0, 5]), dict(sha256={}), dict(sha256=3)):
        with (store.folder / JOURNAL).open("a") as file:
            file.write(json.dumps(line | change) + "\n")
        assert numbers(store) == [1]


def test_a_failed_block_is_told_and_stays_missing(store):
    block = next(iter(store.blocks()))
    save(store, Outcome(block=block, arrays={}, why="it overflowed", bad=(7,), n_bad=1))
    entry = read_journal(store.folder)["main", 0]
    assert (entry["state"], entry["why"], entry["bad"]) == ("failed", "it overflowed", [7])
    assert numbers(store) == [0]
    assert len(list(read_rows(store, "main", "sums", read_journal(store.folder)))) == 2


def test_sums_that_change_while_they_are_read_are_not_used(store):
    entries = read_journal(store.folder)
    store.path("main", "sums", 1).write_bytes(b"nothing")
    with pytest.raises(StoreError, match="changed while it was read"):
        list(read_rows(store, "main", "sums", entries))


def test_what_cannot_be_written_leaves_nothing_half_done(store, outcomes):
    outcome = outcomes[1][0]
    path = store.path("main", "sums", 0)
    path.unlink()
    path.mkdir()  # in the way of the chunk
    (path / "x").touch()
    with pytest.raises(StoreError, match=r"cannot be written: .* --resume"):
        save(store, outcome)
    assert not list((store.folder / ZARR).rglob("*.partial"))
    assert numbers(store) == [0]

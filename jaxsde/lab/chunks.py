"""Chunks: an ensemble in a folder as zarr, one chunk per block, with a journal of checksums.

    blocks.zarr/PART/NAME    arrays of every part: sums (of each block), or one row for each shot
    blocks.jsonl             one line for each block that is done or failed; the last line counts

A chunk is written beside its place and renamed, and its line follows, so that a process may die at
any time.  What a line does not vouch for, or no longer matches, is made again.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from jaxsde.lab.blocks import PER_BLOCK, Outcome
from jaxsde.lab.folder import StoreError
from jaxsde.lab.parts import Block, Part, blocks_of

ZARR, JOURNAL = "blocks.zarr", "blocks.jsonl"
DONE, FAILED = "done", "failed"
UNITS = dict(omega_m="rad/s", omega_s="rad/s", filters="rad", state="1", clipped="1", sums="SI")

Key = tuple[str, int]
# (shape of one row, type), by part and array.
Shapes = dict[str, dict[str, tuple[tuple[int, ...], str]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Store:
    """Hold where the blocks of a run lie, and what they look like."""

    folder: Path
    parts: tuple[Part, ...]
    block_shots: int
    shapes: Shapes

    def blocks(self) -> Iterator[Block]:
        """Yield every block of the run, part by part."""
        for part in self.parts:
            yield from blocks_of(part, self.block_shots)

    def chunk_shape(self, part: str, name: str) -> tuple[int, ...]:
        """Return the shape of a chunk, the same for every block."""
        rows = 1 if name in PER_BLOCK else self.block_shots
        shots = next(p.shots for p in self.parts if p.name == part)
        return (min(rows, shots), *self.shapes[part][name][0])

    def chunk_bytes(self, part: str, name: str) -> int:
        """Return the size of a chunk's file."""
        size = int(np.prod(self.chunk_shape(part, name)))
        return size * np.dtype(self.shapes[part][name][1]).itemsize

    def total_bytes(self) -> int:
        """Return the size of all chunks when the run is complete."""
        return sum(
            self.chunk_bytes(part.name, name) * -(-part.shots // self.block_shots)
            for part in self.parts
            for name in self.shapes[part.name]
        )

    def path(self, part: str, name: str, number: int) -> Path:
        """Return the file of a chunk."""
        rest = ["0"] * len(self.shapes[part][name][0])
        return self.folder.joinpath(ZARR, part, name, "c", str(number), *rest)


def create_arrays(store: Store, units: dict[str, str]) -> None:
    """Write the metadata of every array; chunks come block by block.

    Raises StoreError if the disk is full.
    """
    with _disk_errors(store):
        root = zarr.open_group(store.folder / ZARR, mode="a", zarr_format=3)
        for part in store.parts:
            group = root.require_group(part.name)
            sequence = part.sequence
            group.attrs.update(
                shots=part.shots,
                sample_interval_s=sequence.sample_interval,
                stages=[stage.name for stage in sequence.stages],
                delta_rad_per_s=part.delta,
            )
            for name, (shape, dtype) in store.shapes[part.name].items():
                rows = -(-part.shots // store.block_shots) if name in PER_BLOCK else part.shots
                if name in group:
                    continue
                group.create_array(
                    name,
                    shape=(rows, *shape),
                    chunks=store.chunk_shape(part.name, name),
                    dtype=dtype,
                    compressors=None,
                    fill_value=0,
                    attributes=dict(units=(UNITS | units).get(name, "")),
                    dimension_names=["block" if name in PER_BLOCK else "shot"]
                    + [f"{name}_{i}" for i in range(len(shape))],
                )


def save(store: Store, outcome: Outcome) -> dict[str, Any]:
    """Write the chunks of a block and its line in the journal; return the line.

    Raises StoreError if the disk is full, after removing what could not be completed.
    """
    block = outcome.block
    line: dict[str, Any] = dict(part=block.part, block=block.number, shots=[block.first, block.end])
    if outcome.why:
        line |= dict(state=FAILED, why=outcome.why, bad=list(outcome.bad), n_bad=outcome.n_bad)
    else:
        digests = {}
        for name, (_, dtype) in store.shapes[block.part].items():
            data = _chunk(store, block.part, name, outcome.arrays[name], dtype)
            _put(store, store.path(block.part, name, block.number), data)
            digests[name] = hashlib.sha256(data).hexdigest()
        line |= dict(state=DONE, sha256=digests)
    with _disk_errors(store), (store.folder / JOURNAL).open("ab", buffering=0) as file:
        text = (json.dumps(line) + "\n").encode()
        if file.write(text) != len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return line


def _chunk(store: Store, part: str, name: str, value: Any, dtype: str) -> memoryview:
    """Return the bytes of a chunk: little-endian, in C order, its last one filled with zeros."""
    shape = store.chunk_shape(part, name)
    data: Any = np.ascontiguousarray(value, np.dtype(dtype).newbyteorder("<"))
    if name in PER_BLOCK:
        data = data.reshape(shape)
    if data.shape != shape:
        whole = np.zeros(shape, data.dtype)
        whole[: data.shape[0]] = data
        data = whole
    return memoryview(data).cast("B") if data.size else memoryview(b"")


def _put(store: Store, path: Path, data: memoryview) -> None:
    partial = path.with_name(path.name + ".partial")
    with _disk_errors(store):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb", buffering=0) as file:
                at = 0
                while at < len(data):
                    at += file.write(data[at : at + 2**30]) or 0
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _disk_errors(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{store.folder}: cannot be written: {error.strerror}; blocks written so far are "
            "safe: make room, and run the same command with --resume"
        ) from None


def read_journal(folder: Path) -> dict[Key, dict[str, Any]]:
    """Return the last line of every block; lines that were torn are passed over."""
    entries: dict[Key, dict[str, Any]] = {}
    try:
        text = (folder / JOURNAL).read_bytes()
    except FileNotFoundError:
        return entries
    for line in text.split(b"\n"):
        try:
            entry = json.loads(line)
            entries[entry["part"], entry["block"]] = entry
        except (ValueError, KeyError, TypeError):
            continue
    return entries


def mend_journal(folder: Path) -> None:
    """End the journal with a line's end, so that a torn last line spoils no other."""
    path = folder / JOURNAL
    if path.is_file() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")


def missing(store: Store, entries: dict[Key, dict[str, Any]]) -> list[Block]:
    """Return the blocks that are not done, or whose files are not there in full.

    Sizes alone are looked at, so that a run of many blocks finds its place at once.
    """
    sizes = {
        (part, name): store.chunk_bytes(part, name)
        for part, arrays in store.shapes.items()
        for name in arrays
    }
    out = []
    for block in store.blocks():
        entry = entries.get((block.part, block.number))
        if not _vouched(store, block, entry) or any(
            _size(store.path(block.part, name, block.number)) != sizes[block.part, name]
            for name in store.shapes[block.part]
        ):
            out.append(block)
    return out


def _vouched(store: Store, block: Block, entry: dict[str, Any] | None) -> bool:
    return (
        entry is not None
        and entry.get("state") == DONE
        and entry.get("shots") == [block.first, block.end]
        and isinstance(entry.get("sha256"), dict)
        and entry["sha256"].keys() == store.shapes[block.part].keys()
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def sound(store: Store, block: Block, entry: dict[str, Any]) -> bool:
    """Tell whether every chunk of a block matches its checksum."""
    return all(
        read_chunk(store, block, name, entry) is not None for name in store.shapes[block.part]
    )


def read_chunk(store: Store, block: Block, name: str, entry: dict[str, Any]) -> bytes | None:
    """Return the bytes of a chunk, or None if they do not match their checksum."""
    try:
        data = store.path(block.part, name, block.number).read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == entry["sha256"][name] else None


def read_rows(
    store: Store, part: str, name: str, entries: dict[Key, dict[str, Any]]
) -> Iterable[np.ndarray]:
    """Yield the sums of a part's blocks that are done, in order.

    Raises StoreError for one that does not match its checksum.
    """
    dtype = np.dtype(store.shapes[part][name][1]).newbyteorder("<")
    for block in store.blocks():
        entry = entries.get((block.part, block.number))
        if block.part != part or entry is None or entry.get("state") != DONE:
            continue
        data = read_chunk(store, block, name, entry)
        if data is None:
            raise StoreError(
                f"{store.path(part, name, block.number)}: changed while it was read; run the same "
                "command with --resume"
            )
        yield np.frombuffer(data, dtype)

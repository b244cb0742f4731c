"""Blocks: one block of shots made on the devices of this process, and what may fail in it."""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxsde.analysis.cells import Production, make_cells, make_moments
from jaxsde.analysis.sums import CELL, layout, tree_sum
from jaxsde.engine.outputs import GROUP
from jaxsde.engine.sharding import shot_mesh
from jaxsde.lab.folder import StoreError
from jaxsde.lab.jobs import environment
from jaxsde.lab.parts import Block, open_experiment, production

# Copies of a record that making and filtering it holds at a time (measured: 7).
COPIES = 8
# Cells that a GPU takes at a time at most, and the share of its memory that they may fill.
MOST_CELLS, SHARE = 256, 0.5
# Memory of the host that all cells of a wave may fill, where devices are its cores.
HOST_BYTES = 2**29
# Indices of shots that a report of a failed block names.
NAMED = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """Hold what became of a block.

    arrays: by name: sums, and what is kept of every shot.  why: it failed, else empty.
    bad: indices of its first shots that are not finite.  n_bad: how many there are.
    cells: on each device at a time; fewer than asked for after a shortage of memory.
    """

    block: Block
    arrays: dict[str, np.ndarray]
    why: str = ""
    bad: tuple[int, ...] = ()
    n_bad: int = 0
    cells: int = 0


def signature(text: str, keep: str, backend: str = "auto") -> dict[str, Any]:
    """Return what must agree between processes for results to be equal to the last bit."""
    made = production(text, "main", keep, backend)
    versions = environment()["versions"]
    return dict(
        engine=made.backend.name,
        platform=jax.default_backend(),
        flags=list(made.backend.build.flags) if made.backend.build is not None else [],
    ) | {name: versions[name] for name in ("jaxsde", "jax", "jaxlib")}


def bytes_per_shot(made: Production) -> int:
    """Return the size of a shot's record."""
    samples, quadratures = made.sequence.n_samples, len(made.detector.quadratures)
    return samples * quadratures * np.dtype(made.dtype).itemsize


def cells_at_once(made: Production, mesh: Any) -> int:
    """Return how many cells a device takes at a time: one per core of a CPU, many on a GPU."""
    device = mesh.devices.flat[0]
    if device.platform == "cpu":
        return 1
    limit = (device.memory_stats() or {}).get("bytes_limit", 2**32)
    fit = int(SHARE * limit / (CELL * COPIES * max(bytes_per_shot(made), 1)))
    return min(max(1 << max(fit, 1).bit_length() - 1, 1), MOST_CELLS)


def host_devices(record_bytes: int) -> int:
    """Return on how many CPU devices shots are made: one per core, while their cells fit."""
    fit = HOST_BYTES // (CELL * COPIES * record_bytes)
    return max(1, min(cores(), fit))


def cores() -> int:
    """Return how many cores XLA takes."""
    if os.environ.get("NPROC", "").isdigit():  # XLA's own word for it
        return int(os.environ["NPROC"])
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.lru_cache(maxsize=4)
def local_mesh(devices: int | None) -> Mesh:
    """Return the mesh of this many devices of this process, or of all.

    Raises StoreError for more than there are.
    """
    found = jax.local_devices()
    if devices is not None and not 1 <= devices <= len(found):
        raise StoreError(
            f"--devices: wanted from 1 to {len(found)}, the devices of this process, got {devices}"
        )
    return shot_mesh(found[:devices])


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory, the device's or the host's, did not suffice."""
    return isinstance(error, MemoryError) or (
        isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    )


def make_block(
    text: str,
    block: Block,
    keep: str,
    *,
    devices: int | None = None,
    backend: str = "auto",
    expected: dict[str, Any] | None = None,
    on_shots: Callable[[int], None] | None = None,
) -> Outcome:
    """Make one block; after a shortage of memory with half as many cells at a time, and so on.

    text: the experiment.  expected: the signature of the process that asks.
    A block with a shot that is not finite, or too large for the memory, fails: its Outcome says
    why.  Raises StoreError where this process would compute other digits than the one that asks.
    """
    if expected is not None and (mine := signature(text, keep, backend)) != expected:
        differ = [f"{k} {mine[k]} instead of {v}" for k, v in expected.items() if mine.get(k) != v]
        raise StoreError(
            f"worker: wanted the engine and versions of the run, got {', '.join(differ)}; give "
            "every worker the same environment"
        )
    mesh, made = local_mesh(devices), production(text, block.part, keep, backend)
    cells = cells_at_once(made, mesh)
    most = -(-block.shots // (CELL * mesh.size))
    cells = min(cells, 1 << (most - 1).bit_length())
    while True:
        try:
            return _make(text, made, block, mesh, cells, on_shots)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not out_of_memory(error):
                raise
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no word"
        if cells == 1:
            why = f"out of memory with {CELL} shots on each device ({reason})"
            return Outcome(block=block, arrays={}, why=why, cells=1)
        cells //= 2


def _make(
    text: str,
    made: Production,
    block: Block,
    mesh: Mesh,
    cells: int,
    on_shots: Callable[[int], None] | None,
) -> Outcome:
    size = cells * mesh.size * CELL
    arrays: dict[str, np.ndarray] = {}
    ahead = None
    for first in [*range(block.first, block.end, size), None]:
        # The next wave computes while this one is fetched.
        current, ahead = ahead, None
        if first is not None:
            ahead = first, make_cells(made, first, block.end, mesh=mesh, cells=cells)
        if current is not None:
            _fetch(current[1], arrays, current[0] - block.first, block.shots)
            if on_shots is not None:
                on_shots(min(current[0] + size, block.end) - block.first)
    bad = np.flatnonzero(arrays.pop("bad"))
    arrays["sums"] = tree_sum(arrays["sums"])
    if bad.size:
        named = tuple(int(i) + block.first for i in bad[:NAMED])
        why = f"{bad.size} of {block.shots} shots are not finite (first is shot {named[0]})"
        return Outcome(block=block, arrays={}, why=why, bad=named, n_bad=int(bad.size), cells=cells)
    if not np.isfinite(arrays["sums"]).all():
        return Outcome(block=block, arrays={}, why="its sums overflow", cells=cells)
    if made.keep == "moments":
        arrays["moments"] = tree_sum(
            make_moments(
                made, block.first, block.end, mesh=mesh, groups=max(1, size // GROUP // mesh.size)
            )
        ).reshape(-1)
    return Outcome(block=block, arrays=arrays, cells=cells)


def _fetch(wave: dict[str, Any], arrays: dict[str, np.ndarray], at: int, shots: int) -> None:
    """Copy a wave, whose first shot is the block's `at`, from each device to its place.

    Shots and cells beyond the end of the block are left out.
    """
    for name, value in wave.items():
        each = CELL if name == "sums" else 1
        rows, first = -(-shots // each), at // each
        if name not in arrays:
            arrays[name] = np.empty((rows, *value.shape[1:]), value.dtype)
        for shard in value.addressable_shards:
            start = first + (shard.index[0].start or 0)
            count = min(shard.data.shape[0], rows - start)
            if count > 0:
                arrays[name][start : start + count] = np.asarray(shard.data)[:count]


def array_shapes(text: str, part: str, keep: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return (shape, type) of what a block yields, of one block or of one shot: see PER_BLOCK."""
    experiment, parts = open_experiment(text)
    made, samples = production(text, part, keep), parts[part].sequence.n_samples
    size = sum(int(np.prod(shape)) for shape in layout(made.reduction).values())
    out: dict[str, tuple[tuple[int, ...], str]] = dict(sums=((size,), "float64"))
    if keep == "moments":
        out["moments"] = ((samples * 23,), "float64")
    if keep in ("filters", "records"):
        out |= dict(omega_m=((), "float64"), omega_s=((), "float64"))
        if parts[part].filtered:
            out["filters"] = ((4,), "float64")
    if keep == "records":
        out |= dict(
            record=((samples, len(made.detector.quadratures)), experiment.dtype),
            state=((len(parts[part].sequence.stages), 6), experiment.dtype),
            clipped=((), "int32"),
        )
    return out


PER_BLOCK = ("sums", "moments")

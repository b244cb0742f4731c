"""Blocks: shots cut into blocks, which on the cores of a CPU run side by side."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

from jaxsde.physics.params import is_concrete

# Shots of a block of the scan come in whole vectors of a CPU, several at a time: compilers round
# the odd ones at the end of a loop differently, and unroll one of 16 in its own way, so that a
# shot would depend on its block.
LANES = 32
# Shots of a block of the scan on a CPU: what a core's cache holds, and as many as XLA still leaves
# to one thread.  On other devices a step costs the same whatever its width.
CPU_BLOCK, DEVICE_BLOCK = 512, 65536
# Shots between two reports of the fused kernel.
KERNEL_BLOCK = 16384


def cut(
    n_shots: int, block_shots: int | None, *, native: bool, told: bool
) -> list[tuple[int, int]]:
    """Return the first shot and the number of shots of every block.

    The scan's are of one size, so that ensembles share compiled programs, and may be longer than
    the rest; the kernel's are as they come, all at once if nobody waits to be told.
    """
    if native:
        size = block_shots or (KERNEL_BLOCK if told else n_shots)
        return [(i, min(size, n_shots - i)) for i in range(0, n_shots, size)]
    if block_shots is not None:
        size = -(-block_shots // LANES) * LANES
    else:
        size = CPU_BLOCK if jax.default_backend() == "cpu" else DEVICE_BLOCK
        size = min(size, max(CPU_BLOCK // 2, 1 << (n_shots - 1).bit_length()))
    return [(i, size) for i in range(0, n_shots, size)]


def run_blocks(
    work: Callable[[int, int], Any],
    blocks: list[tuple[int, int]],
    n_shots: int,
    *,
    threads: bool,
    on_block: Callable[[int], None] | None = None,
) -> Any:
    """Return the trees that work(first shot, shots) makes of every block, joined along shots.

    threads: deal the blocks to as many threads as there are cores.  The first is dispatched here,
        so that what it compiles is there for the others.
    on_block: called with the number of shots done after each block, in order.
    """

    def cropped(block: tuple[int, int]) -> Any:
        first, size = block
        return jax.tree.map(lambda leaf: leaf[: n_shots - first], work(first, size))

    def computed(block: tuple[int, int]) -> Any:
        # A thread that only dispatches takes all blocks before another has begun.
        return jax.block_until_ready(cropped(block))

    def told(number: int, part: Any) -> Any:
        if on_block is not None:
            jax.block_until_ready(part)
            on_block(min(sum(blocks[number]), n_shots))
        return part

    parts = [cropped(blocks[0])]
    rest = blocks[1:]
    if not (threads and rest and _threads_agree()):
        told(0, parts[0])
        parts += [told(number, cropped(block)) for number, block in enumerate(rest, 1)]
    else:
        with ThreadPoolExecutor(max_workers=min(_cores(), len(rest))) as pool:
            futures = [pool.submit(computed, block) for block in rest]
            told(0, parts[0])
            parts += [told(number, f.result()) for number, f in enumerate(futures, 1)]
    return jax.tree.map(_join, *parts)


def may_thread(*inputs: Any) -> bool:
    """Tell whether blocks of the scan that read these trees may run in threads.

    On a CPU the scan keeps one core busy.  Tracers of a JAX transformation belong to the thread
    that made them.
    """
    return jax.default_backend() == "cpu" and all(map(is_concrete, jax.tree.leaves(inputs)))


def _join(*blocks: jax.Array) -> jax.Array:
    return blocks[0] if len(blocks) == 1 else jnp.concatenate(blocks)


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _threads_agree() -> bool:
    """Tell whether another thread sees JAX's settings as this one does.

    `with jax.enable_x64(True):` and its kind hold in their own thread alone.  A function is traced
    once for all threads that agree.
    """
    traces = []

    @jax.jit
    def probe(x):
        traces.append(x)
        return x

    probe.trace(0.0)
    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(probe.trace, 0.0).result()
    return len(traces) == 1

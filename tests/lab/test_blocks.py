"""Blocks: what they hold, what fails in them, and how a shortage of memory is met."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import streams
from jaxsde.lab import blocks
from jaxsde.lab.blocks import (
    array_shapes,
    cells_at_once,
    host_devices,
    local_mesh,
    make_block,
    out_of_memory,
    signature,
)
from jaxsde.lab.folder import StoreError
from jaxsde.lab.parts import Block, production

BLOCK = Block(part="main", number=1, first=1024, end=1800)


def shortage(most):
    """Return make_cells as it would be on a device that holds `most` cells."""
    sizes = []

    def make_cells(made, first, end, *, mesh, cells):
        sizes.append(cells)
        if cells > most:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 TB")
        return KEPT(made, first, end, mesh=mesh, cells=cells)

    return make_cells, sizes


KEPT = blocks.make_cells


@pytest.mark.parametrize("keep", ["estimates", "moments", "filters", "records"])
def test_a_block_holds_what_its_arrays_say(keep):
    text, block = streams.text(), dataclasses.replace(BLOCK, first=4096, end=4800)
    outcome = make_block(text, block, keep)
    assert not outcome.why
    shapes = array_shapes(text, "main", keep)
    assert outcome.arrays.keys() == shapes.keys()
    for name, (shape, dtype) in shapes.items():
        rows = () if name in ("sums", "moments") else (704,)
        assert (outcome.arrays[name].shape, outcome.arrays[name].dtype) == (rows + shape, dtype)


def test_real_shortages_of_memory_are_told_from_other_errors():
    with pytest.raises((jax.errors.JaxRuntimeError, MemoryError)) as caught:
        jnp.zeros(1 << 46).block_until_ready()
    assert out_of_memory(caught.value) and out_of_memory(MemoryError())
    assert not out_of_memory(jax.errors.JaxRuntimeError("INTERNAL: other"))
    assert not out_of_memory(ValueError("RESOURCE_EXHAUSTED"))


def test_after_a_shortage_smaller_waves_make_the_same_bits(monkeypatch):
    text = streams.text()
    whole = make_block(text, BLOCK, "filters")
    monkeypatch.setattr(blocks, "cells_at_once", lambda made, mesh: 8)
    fake, sizes = shortage(most=1)
    monkeypatch.setattr(blocks, "make_cells", fake)
    seen = []
    made = make_block(text, BLOCK, "filters", on_shots=seen.append)
    assert sizes == [2, 1, 1] and made.cells == 1 and seen[-1] == BLOCK.shots
    for name, value in whole.arrays.items():
        assert np.array_equal(made.arrays[name], value), name


def test_what_fits_nowhere_fails_alone(monkeypatch):
    fake, _ = shortage(most=0)
    monkeypatch.setattr(blocks, "make_cells", fake)
    made = make_block(streams.text(), BLOCK, "estimates")
    assert made.why.startswith("out of memory with 512 shots") and not made.arrays


def test_shots_that_are_not_finite_are_named(monkeypatch):
    def spoiled(made, first, end, *, mesh, cells):
        found = dict(KEPT(made, first, end, mesh=mesh, cells=cells))
        found["bad"] = found["bad"].at[jnp.array([3, 40])].set(1)
        return found

    monkeypatch.setattr(blocks, "make_cells", spoiled)
    made = make_block(streams.text(), BLOCK, "estimates")
    assert made.bad[:2] == (1027, 1064) and made.n_bad == 4  # two in each wave of 512
    assert made.why == "4 of 776 shots are not finite (first is shot 1027)" and not made.arrays


def test_sums_that_overflow_fail(monkeypatch):
    text = streams.text()
    made = production(text, "main", "estimates")
    hot = dataclasses.replace(made.prepared, start=made.prepared.start * 1e165)
    monkeypatch.setattr(blocks, "production", lambda *args: dataclasses.replace(made, prepared=hot))
    assert make_block(text, BLOCK, "estimates").why == "its sums overflow"


def test_a_worker_of_other_versions_is_refused():
    mine = signature(streams.text(), "estimates")
    assert make_block(streams.text(), BLOCK, "estimates", expected=mine).arrays
    with pytest.raises(StoreError, match=r"got jax .* instead of 0\.1;"):
        make_block(streams.text(), BLOCK, "estimates", expected=mine | {"jax": "0.1"})


def test_devices_are_counted():
    with pytest.raises(StoreError, match="--devices: wanted from 1 to"):
        local_mesh(10_000)
    assert cells_at_once(production(streams.text(), "main", "estimates"), local_mesh(1)) == 1
    assert host_devices(10**9) == 1 and host_devices(1) >= 1


def test_cells_of_a_gpu_fill_half_of_its_memory():
    class Card:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": 2**30}

    class Mesh:
        devices = np.array([Card()])

    made = production(streams.text(), "main", "estimates")  # 1440 bytes a shot
    cells = cells_at_once(made, Mesh)
    assert cells == 64 and cells * 512 * 8 * 1440 <= 2**29 < 2 * cells * 512 * 8 * 1440

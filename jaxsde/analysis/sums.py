"""Sums: what is left of a cell of shots when the shots themselves are not kept.

An ensemble is cut into cells of CELL shots.  Sums over a cell, and over cells, are made in one
fixed order, a binary tree over the shots' indices, so that they are the same to the last bit
however the cells are spread over blocks, devices and machines.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxsde.analysis.displacement import (
    DisplacementFilter,
    MeanSquaredDisplacement,
    Scatter,
    displacement_filter,
    shot_displacement,
)
from jaxsde.analysis.inversion import COLUMNS, ROWS, check_bank, invert
from jaxsde.analysis.matched import FilterBank
from jaxsde.analysis.moments import Moments, moments_of_products
from jaxsde.engine.detect import Detector
from jaxsde.engine.resolution import Resolution
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence

# Shots whose sums are made together.  Large enough to fill the vectors of a CPU's cores, small
# enough that the records of a few hundred microseconds stay in its caches.
CELL = 512
# Shots whose products are summed by one matrix product, too few to be divided among threads.
_RUN = 64


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Reduction:
    """Say what of an ensemble is summed.

    displacement: the filter of S11.  first, width: samples whose scatter is kept, for the errors of
    a fit; a width of 0 keeps none.  products: whether those of four matched filters are.
    """

    displacement: DisplacementFilter
    first: int = dataclasses.field(metadata=dict(static=True))
    width: int = dataclasses.field(metadata=dict(static=True))
    products: bool = dataclasses.field(metadata=dict(static=True))


def make_reduction(
    params: Params,
    sequence: Sequence,
    detector: Detector,
    *,
    band: tuple[float, float],
    cycle_average: float,
    window: tuple[float, float] | None,
    products: bool,
) -> Reduction:
    """Return the Reduction of an ensemble; window: s, within which a fit will need scatter."""
    first, width = 0, 0
    if window is not None:
        inside = (sequence.time >= window[0]) & (sequence.time <= window[1])
        first, width = int(np.argmax(inside)), int(inside.sum())
    made = displacement_filter(params, sequence, detector, band=band, cycle_average=cycle_average)
    return Reduction(displacement=made, first=first, width=width, products=products)


def layout(reduction: Reduction) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of an ensemble's sums, in the order in which they are stored.

    shots, clipped (samples of the digitiser); displacement, displacement_square of every sample;
    scatter, of the products of two samples in the window; products q_i q_j, and theirs.
    """
    n, w = reduction.displacement.bias.shape[0], reduction.width
    shapes: dict[str, tuple[int, ...]] = dict(shots=(), clipped=())
    shapes |= dict(displacement=(n,), displacement_square=(n,))
    if w:
        shapes |= dict(scatter=(w, w))
    if reduction.products:
        shapes |= dict(products=(len(ROWS),), products_square=(len(ROWS), len(ROWS)))
    return shapes


def ordered_sum(x: Float[Array, "n *rest"]) -> Float[Array, "*rest"]:
    """Return the sum over the first axis, a power of two, by halves.

    Sums of XLA's own are added in an order that depends on the number of the machine's cores.
    """
    while x.shape[0] > 1:
        half = x.shape[0] // 2
        x = x[:half] + x[half:]
    return x[0]


def cell_sums(
    reduction: Reduction,
    record: Float[Array, "cell samples quadratures"],
    filters: Float[Array, "cell filters"] | None,
    clipped: Int[Array, "cell"],
    live: Bool[Array, "cell"],
) -> Float[Array, "features"]:
    """Return the sums over the live shots of one cell, one after another as `layout` has them."""
    each = jnp.where(live[:, None], shot_displacement(reduction.displacement, record), 0.0)
    dtype = each.dtype
    parts = [
        ordered_sum(live.astype(dtype)),
        ordered_sum(jnp.where(live, clipped, 0).astype(dtype)),
        ordered_sum(each),
        ordered_sum(each * each),
    ]
    if reduction.width:
        runs = each[:, reduction.first : reduction.first + reduction.width]
        runs = runs.reshape(-1, min(_RUN, runs.shape[0]), reduction.width)
        parts.append(ordered_sum(jnp.einsum("cni,cnj->cij", runs, runs)))
    if reduction.products:
        assert filters is not None
        q = jnp.where(live[:, None], filters, 0).astype(dtype)
        products = q[:, ROWS] * q[:, COLUMNS]
        parts += [
            ordered_sum(products),
            ordered_sum(products[:, :, None] * products[:, None, :]),
        ]
    return jnp.concatenate([part.reshape(-1) for part in parts])


def filter_outputs(
    record: Float[Array, "cell samples quadratures"],
    weights: Float[Array, "filters samples quadratures"],
) -> Float[Array, "cell filters"]:
    """Return sum_t weights_t y_t as matched filters do, added in a fixed order."""
    samples = record.shape[1]
    size = 1 << (samples - 1).bit_length()
    terms = record.astype(weights.dtype)[:, None] * weights[None]
    flat = jnp.moveaxis(jnp.sum(terms, axis=-1), 2, 0)
    return ordered_sum(jnp.pad(flat, ((0, size - samples), (0, 0), (0, 0))))


def tree_sum(vectors: Iterable[np.ndarray]) -> np.ndarray:
    """Return the sum of vectors in the order of a binary tree over their numbers.

    Neighbours are added, then neighbouring sums, and so on; one without a neighbour waits.  The sum
    of aligned runs of 2^k vectors that were each summed so is then the same to the last bit.
    Raises ValueError if there is no vector.
    """
    stack: list[tuple[int, np.ndarray]] = []  # (level, sum), of falling level
    for vector in vectors:
        level, total = 0, np.array(vector, float)
        while stack and stack[-1][0] == level:
            total = stack.pop()[1] + total
            level += 1
        stack.append((level, total))
    if not stack:
        raise ValueError("vectors: wanted at least one to add up, got none")
    total = stack[-1][1]
    for _, before in reversed(stack[:-1]):
        total = before + total
    return total


def unpack(reduction: Reduction, vector: np.ndarray) -> dict[str, np.ndarray]:
    """Return the sums of a vector by their names."""
    out, at = {}, 0
    for name, shape in layout(reduction).items():
        size = int(np.prod(shape))
        out[name] = vector[at : at + size].reshape(shape)
        at += size
    return out


def summed_displacement(
    reduction: Reduction, sums: dict[str, np.ndarray], time: np.ndarray
) -> MeanSquaredDisplacement:
    """Return <D^2>_cyc(t) of an ensemble from its sums, with its standard error and scatter."""
    n = int(sums["shots"])
    mean = sums["displacement"] / n
    square = sums["displacement_square"] - n * mean**2
    spread = np.sqrt(np.maximum(square, 0.0) / (n - 1)) if n > 1 else np.full(mean.shape, np.nan)
    part = slice(reduction.first, reduction.first + reduction.width)
    products = sums.get("scatter", np.zeros((0, 0)))
    return MeanSquaredDisplacement(
        time=time,
        mean=jnp.asarray(mean),
        stderr=jnp.asarray(spread / np.sqrt(n)),
        each=jnp.zeros((0, mean.size)),
        noise_bias=reduction.displacement.bias,
        scatter=Scatter(
            products=products - n * mean[part, None] * mean[None, part],
            n_shots=n,
            first=reduction.first,
        ),
    )


def summed_moments(
    sums: dict[str, np.ndarray],
    bank: FilterBank,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    resolution: Resolution,
) -> Moments:
    """Return the Moments (S16) of an ensemble from its sums.

    Raises ValueError for fewer than two shots.
    """
    n = int(sums["shots"])
    if n < 2:
        raise ValueError(f"shots: wanted at least 2 for an error, got {n}")
    raw = sums["products"] / n
    scatter: Any = (sums["products_square"] / n - raw[:, None] * raw[None]) / (n - 1)
    check_bank(bank)
    inversion = invert(params, sequence, detector, bank, resolution=resolution)
    return moments_of_products(jnp.asarray(raw), jnp.asarray(scatter), n, inversion)

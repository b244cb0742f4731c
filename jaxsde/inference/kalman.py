"""Kalman: the square-root filter of a Step, with one covariance for all shots of a node.

Nodes are points of the quadrature over jitter; shots that lack the same samples share a pattern.
Covariances differ with node and pattern and have them on their minor axes; they give one matrix a
sample, which moves the means of all shots of a node and pattern by one product.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsde.engine.step import Step


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Update:
    """Hold what a sample does to the means, and the size of its prediction error.

    move: takes (x, y, 1) to (r, x'), r = R^-1 (y - prediction) white under the model.
    log_scale: log diag R, R R^T the covariance of the prediction error; 0 where y is missing.
    Derivatives of an Update have the parameters on a first axis.
    """

    move: Float[Array, "*parameters nodes patterns m z"]
    log_scale: Float[Array, "*parameters k nodes patterns"]


def triangular_root(m: Float[Array, "i j *batch"]) -> Float[Array, "i i *batch"]:
    """Return the lower-triangular R of non-negative diagonal with R R^T = m m^T, for i <= j.

    Modified Gram-Schmidt on the rows, whose R is backward stable (Bjorck, BIT 7, 1 (1967)); m m^T,
    which would square the condition, is never formed.  A row that others span to rounding
    has a zero on the diagonal, and no derivative there.
    """
    n = m.shape[0]
    rounding = (8 * jnp.finfo(m.dtype).eps) ** 2
    whole, rest, columns = jnp.sum(m * m, axis=1), m, []
    for j in range(n):
        row, rest = rest[0], rest[1:]
        square = jnp.sum(row * row, axis=0)
        live = square > rounding * whole[j]
        root = jnp.sqrt(jnp.where(live, square, 1.0))
        unit = jnp.where(live[None], row / root[None], 0.0)
        below = jnp.sum(rest * unit[None], axis=1)
        above = jnp.zeros((j, *below.shape[1:]), m.dtype)
        columns.append(jnp.concatenate([above, jnp.where(live, root, 0.0)[None], below]))
        rest = rest - below[:, None] * unit[None]
    return jnp.stack(columns, axis=1)


def condition(
    step: Step,
    root: Float[Array, "n n nodes patterns"],
    seen: Bool[Array, "k patterns"] | None = None,
) -> tuple[Float[Array, "n n nodes patterns"], Update]:
    """Return the root of the state's covariance before the next sample, and the means' Update.

    From x' = A x + b + L xi, y = C x + d + N xi, xi shared, and the root P of the covariance:
        [C P  N]              [R  0 ]
        [A P  L] = triangular [G  P'] x orthogonal,   r = R^-1 (y - C x - d),  x' = A x + b + G r
    (Morf and Kailath, IEEE Trans. Autom. Control 20, 487 (1975), with correlated noise).
    step: with nodes on its last axis.  seen: False where an output is missing, which then tells
    nothing and must be given as 0; None is nowhere.
    """
    n, k = root.shape[0], step.C.shape[0]
    patterns = root.shape[-1]
    a, b, low, c, d, noise = (
        jnp.broadcast_to(m[..., None], (*m.shape, patterns))
        for m in (step.A, step.b, step.L, step.C, step.d, step.N)
    )
    if seen is not None:
        # A missing output is replaced by noise of its own of variance 1, expected to be 0.
        there = seen[:, None]
        c, d, noise = (jnp.where(there[:, None], m, 0.0) for m in (c, d[:, None], noise))
        d = d[:, 0]
        own = jnp.eye(k, dtype=c.dtype)[..., None, None] * jnp.where(there, 0.0, 1.0)[None]
        own = jnp.broadcast_to(own, (k, k, *c.shape[2:]))
        noise = jnp.concatenate([noise, own], axis=1)
        low = jnp.concatenate([low, jnp.zeros((n, *own.shape[1:]), low.dtype)], axis=1)
    top = jnp.concatenate([_through(c, root), noise], axis=1)
    bottom = jnp.concatenate([_through(a, root), low], axis=1)
    made = triangular_root(jnp.concatenate([top, bottom]))
    eye = jnp.broadcast_to(jnp.eye(k, dtype=c.dtype)[..., None, None], (k, k, *c.shape[2:]))
    right = jnp.concatenate([-c, eye, -d[:, None]], axis=1)
    whiten: list[Array] = []
    for i in range(k):
        left = right[i]
        for j, done in enumerate(whiten):
            left = left - made[i, j][None] * done
        whiten.append(left / made[i, i][None])
    w = jnp.stack(whiten)
    after = jnp.concatenate([a, jnp.zeros((n, k, *a.shape[2:]), a.dtype), b[:, None]], axis=1)
    for j in range(k):
        after = after + made[k:, j, None] * w[None, j]
    move = jnp.moveaxis(jnp.concatenate([w, after]), (0, 1), (-2, -1))
    log_scale = jnp.log(jnp.stack([made[i, i] for i in range(k)]))
    return made[k:, k:], Update(move=move, log_scale=log_scale)


def move_means(
    update: Update,
    mean: Float[Array, "nodes patterns n shots"],
    y: Float[Array, "k patterns shots"],
) -> tuple[Float[Array, "nodes patterns n shots"], Float[Array, "nodes patterns k shots"]]:
    """Return the means before the next sample, having seen y, and the white innovations r."""
    k, (nodes, patterns, _, shots) = y.shape[0], mean.shape
    seen = jnp.broadcast_to(jnp.moveaxis(y, 0, 1)[None], (nodes, patterns, k, shots))
    one = jnp.ones((nodes, patterns, 1, shots), mean.dtype)
    moved = update.move @ jnp.concatenate([mean, seen, one], axis=2)
    return moved[:, :, k:], moved[:, :, :k]


def _through(
    m: Float[Array, "i n nodes patterns"], root: Float[Array, "n n nodes patterns"]
) -> Float[Array, "i n nodes patterns"]:
    """Return m root, which is lower triangular: column j needs rows j and below alone."""
    columns = [jnp.sum(m[:, j:] * root[None, j:, j], axis=1) for j in range(root.shape[0])]
    return jnp.stack(columns, axis=1)


def level(update: Update, seen: Bool[Array, "k patterns"] | None) -> Array:
    """Return log of a sample's density at its prediction, to which -r^2/2 is added."""
    count = update.log_scale.shape[0] if seen is None else jnp.sum(seen, axis=0, dtype=float)[None]
    return -jnp.sum(update.log_scale, axis=0) - jnp.log(2 * jnp.pi) / 2 * count


# Nodes filtered together: enough to fill vectors, few enough to stay in a core's cache; of nodes
# (3, 3), (5, 5), (7, 7) ... few are left over.
CHUNK = 5


def split_nodes(basis: Float[Array, "terms nodes"]) -> Float[Array, "parts terms size"]:
    """Return the nodes in parts of equal size, at most CHUNK; the last repeats its last node."""
    nodes = basis.shape[1]
    count = -(-nodes // CHUNK)
    size = -(-nodes // count)
    padded = jnp.pad(basis, ((0, 0), (0, count * size - nodes)), mode="edge")
    return jnp.moveaxis(padded.reshape(-1, count, size), 1, 0)


def join_nodes(parts: Array, nodes: int, axis: int) -> Array:
    """Return what was made of `split_nodes`, with the nodes, that lie along `axis` of each part."""
    x = jnp.moveaxis(parts, 0, axis)
    x = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
    return jax.lax.slice_in_dim(x, 0, nodes, axis=axis)


def pushforward(f: Callable, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    """Return f's value and its tangents along each leading entry of `tangents` (forward mode)."""
    return jax.vmap(lambda t: jax.jvp(f, primals, t), out_axes=(None, 0))(tangents)

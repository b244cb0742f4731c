"""Step and Transition: one sample interval of a linear system as an affine-Gaussian map.

    x' = A x + b + L xi,    y = C x + d + N xi,    xi ~ N(0, 1), shared by state and record

Matrices may carry trailing axes (shots or quadrature nodes on the minor axis), so that small
products are broadcasts: batched 6 x 6 products of a BLAS are slow on every device.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsde.physics.params import Leaf


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """Hold one affine-Gaussian map of n states, k outputs and m normals.

        x' = A x + b + L xi,    y = C x + d + N xi,    xi ~ N(0, 1), shared by state and record

    Matrices may carry trailing axes, of shots or quadrature nodes.
    """

    A: Float[Array, "n n *batch"]
    b: Float[Array, "n *batch"]
    L: Float[Array, "n m *batch"]
    C: Float[Array, "k n *batch"]
    d: Float[Array, "k *batch"]
    N: Float[Array, "k m *batch"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Transition:
    """Hold the map z' ~ N(A z, Q) of z = (x, s), s the integrals of a receiver's signals.

    s starts each interval at zero, so that A needs no columns for it; the box-averaged signals
    are s / dt.
    """

    A: Float[Array, "*batch z n"]
    Q: Float[Array, "*batch z z"]


def matvec(matrix: Array, vector: Array) -> Array:
    """Return matrix @ vector for (i, j, *batch) and (j, *batch), summed in a fixed order."""
    total = matrix[:, 0] * vector[None, 0]
    for j in range(1, matrix.shape[1]):
        total = total + matrix[:, j] * vector[None, j]
    return total


def matmul(left: Array, right: Array) -> Array:
    """Return left @ right for (i, j, *batch) and (j, k, *batch), summed in a fixed order."""
    total = left[:, 0, None] * right[None, 0]
    for j in range(1, left.shape[1]):
        total = total + left[:, j, None] * right[None, j]
    return total


def psd_cholesky(
    q: Float[Array, "n n *batch"], live: Bool[Array, "n"] | None = None
) -> Float[Array, "n n *batch"]:
    """Return lower-triangular L with L L^T = q for a positive semidefinite q of small size.

    A pivot below rounding, relative to its own variance, is a direction without noise: its
    column is zero, and so is its derivative.  (LAPACK's factor would be NaN there.)
    live: the directions that have noise, where another member of a family has decided them.
    """
    n = q.shape[0]
    tolerance = jnp.sqrt(jnp.finfo(q.dtype).eps) * 1e-2
    known = None if live is None else live.reshape(n, *[1] * (q.ndim - 2))
    columns: list[Array] = []
    for j in range(n):
        rest = q[:, j]
        for done in columns:
            rest = rest - done * done[None, j]
        sound = rest[j] > tolerance * q[j, j] if known is None else known[j] & (rest[j] > 0)
        root = jnp.sqrt(jnp.where(sound, rest[j], 1.0))
        column = jnp.where(sound[None], rest / root[None], 0.0)
        columns.append(
            jnp.where((jnp.arange(n) >= j).reshape(-1, *[1] * (q.ndim - 2)), column, 0.0)
        )
    return jnp.stack(columns, axis=1)


def output_maps(
    a: Float[Array, "z n *batch"],
    q: Float[Array, "z z *batch"],
    readout: Float[Array, "k signals"],
    noise: Float[Array, ""],
    dt: Leaf,
) -> tuple[Array, Array, Array]:
    """Return (A, C, Q) of state and record together, Q the (n + k) square joint noise covariance.

    y = readout s/dt + white noise of variance `noise` in each output.
    a, q: a Transition with its batch axes last.
    """
    n, k, tail = a.shape[1], readout.shape[0], (1,) * (a.ndim - 2)
    u = (readout / dt).reshape(*readout.shape, *tail)
    cross = matmul(u, q[n:])
    floor = noise * jnp.eye(k, dtype=q.dtype).reshape(k, k, *tail)
    outputs = matmul(cross[:, n:], jnp.swapaxes(u, 0, 1)) + floor
    top = jnp.concatenate([q[:n, :n], jnp.swapaxes(cross[:, :n], 0, 1)], axis=1)
    bottom = jnp.concatenate([cross[:, :n], outputs], axis=1)
    return a[:n, :n], matmul(u, a[n:, :n]), jnp.concatenate([top, bottom], axis=0)


def make_step(a: Array, q: Array, readout: Array, noise: Array, dt: Leaf, dtype: jnp.dtype) -> Step:
    """Return the Step of a Transition (batch axes last) under a receiver, cast to dtype."""
    state, c, joint = output_maps(a, q, readout, noise, dt)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), from_covariance(state, c, joint))


def from_covariance(
    a: Float[Array, "n n *batch"], c: Float[Array, "k n *batch"], joint: Float[Array, "m m *batch"]
) -> Step:
    """Return the Step whose noise in (x', y) has the covariance joint, m = n + k."""
    n, k, batch = a.shape[0], c.shape[0], a.shape[2:]
    root = psd_cholesky(joint)
    b, d = jnp.zeros((n, *batch), joint.dtype), jnp.zeros((k, *batch), joint.dtype)
    return Step(A=a, b=b, L=root[:n], C=c, d=d, N=root[n:])


def compose_steps(first: Step, second: Step) -> Step:
    """Return the Step of two intervals whose record is the sum of both: y = y1 + y2.

    x'' = A2 A1 x + A2 b1 + b2 + noise,  y = (C1 + C2 A1) x + d1 + d2 + C2 b1 + noise; the normals
    of both are merged into one triangular factor, with the same law.
    """
    a, c = matmul(second.A, first.A), first.C + matmul(second.C, first.A)
    early = jnp.concatenate([matmul(second.A, first.L), first.N + matmul(second.C, first.L)])
    late = jnp.concatenate([second.L, second.N])
    roots = jnp.concatenate([early, late], axis=1)
    made = from_covariance(a, c, matmul(roots, jnp.swapaxes(roots, 0, 1)))
    b = matvec(second.A, first.b) + second.b
    return dataclasses.replace(made, b=b, d=first.d + second.d + matvec(second.C, first.b))


def decimate(step: Step, count: int) -> Step:
    """Return the Step over `count` intervals whose record is the mean of theirs.

    The record of a digitiser that is `count` times slower, with exactly the law of averaging.
    Raises ValueError unless count is an integer of at least 1.
    """
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"count: wanted an integer of at least 1, got {count!r}")
    total, base, left = None, step, count
    while left:
        if left % 2:
            total = base if total is None else compose_steps(total, base)
        left //= 2
        if left:
            base = compose_steps(base, base)
    assert total is not None
    return dataclasses.replace(total, C=total.C / count, d=total.d / count, N=total.N / count)


def apply(step: Step, x: Array, xi: Array) -> tuple[Array, Array]:
    """Return (x', y) for a state (n, *batch) and normals (m, *batch)."""
    after = matvec(step.A, x) + step.b + matvec(step.L, xi)
    return after, matvec(step.C, x) + step.d + matvec(step.N, xi)

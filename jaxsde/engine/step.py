"""Step and Transition: one sample interval of a linear system as an affine-Gaussian map.

    x' = A x + b + L xi,    y = C x + d + N xi,    xi ~ N(0, 1), shared by state and record

Matrices may carry trailing axes (shots or quadrature nodes on the minor axis), so that small
products are broadcasts: batched 6 x 6 products of a BLAS are slow on every device.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsde.physics.params import Leaf


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """Hold one affine-Gaussian map of n states, k outputs and m normals; see the module."""

    A: Float[Array, "n n *batch"]
    b: Float[Array, "n *batch"]
    L: Float[Array, "n m *batch"]
    C: Float[Array, "k n *batch"]
    d: Float[Array, "k *batch"]
    N: Float[Array, "k m *batch"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Transition:
    """Hold the map z' ~ N(A z, Q) of z = (x, s), s the integral of D over the interval (rad).

    s starts each interval at zero; the box-averaged sample is s / dt.
    """

    A: Float[Array, "*batch z z"]
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


def psd_cholesky(q: Float[Array, "n n *batch"]) -> Float[Array, "n n *batch"]:
    """Return lower-triangular L with L L^T = q for a positive semidefinite q of small size.

    A pivot below rounding, relative to its own variance, is a direction without noise: its
    column is zero, and so is its derivative.  (LAPACK's factor would be NaN there.)
    """
    n = q.shape[0]
    tolerance = jnp.sqrt(jnp.finfo(q.dtype).eps) * 1e-2
    columns: list[Array] = []
    for j in range(n):
        rest = q[:, j]
        for done in columns:
            rest = rest - done * done[None, j]
        live = rest[j] > tolerance * q[j, j]
        root = jnp.sqrt(jnp.where(live, rest[j], 1.0))
        column = jnp.where(live[None], rest / root[None], 0.0)
        columns.append(
            jnp.where((jnp.arange(n) >= j).reshape(-1, *[1] * (q.ndim - 2)), column, 0.0)
        )
    return jnp.stack(columns, axis=1)


def output_maps(
    a: Float[Array, "z z *batch"],
    q: Float[Array, "z z *batch"],
    gains: Float[Array, "k"],
    noise: Float[Array, ""],
    dt: Leaf,
) -> tuple[Array, Array, Array]:
    """Return (A, C, Q) of state and record together, Q the (n + k) square joint noise covariance.

    y = gains s/dt + white noise of variance `noise` in each quadrature (S10).
    a, q: a Transition with its batch axes last.
    """
    n, tail = a.shape[0] - 1, (1,) * (a.ndim - 2)
    u = (gains / dt).reshape(-1, *tail)
    c = u[:, None] * a[n, :n][None]
    cross = q[:n, n][:, None] * u[None]
    floor = noise * jnp.eye(u.shape[0], dtype=q.dtype).reshape(*(u.shape[0],) * 2, *tail)
    outputs = u[:, None] * u[None] * q[None, None, n, n] + floor
    top = jnp.concatenate([q[:n, :n], cross], axis=1)
    bottom = jnp.concatenate([jnp.swapaxes(cross, 0, 1), outputs], axis=1)
    return a[:n, :n], c, jnp.concatenate([top, bottom], axis=0)


def make_step(a: Array, q: Array, gains: Array, noise: Array, dt: Leaf, dtype: jnp.dtype) -> Step:
    """Return the Step of a Transition (batch axes last) under a receiver, cast to dtype."""
    n, k, batch = a.shape[0] - 1, gains.shape[0], a.shape[2:]
    state, c, joint = output_maps(a, q, gains, noise, dt)
    root = psd_cholesky(joint)
    step = Step(
        A=state,
        b=jnp.zeros((n, *batch), q.dtype),
        L=root[:n],
        C=c,
        d=jnp.zeros((k, *batch), q.dtype),
        N=root[n:],
    )
    return jax.tree.map(lambda leaf: leaf.astype(dtype), step)


def apply(step: Step, x: Array, xi: Array) -> tuple[Array, Array]:
    """Return (x', y) for a state (n, *batch) and normals (m, *batch)."""
    after = matvec(step.A, x) + step.b + matvec(step.L, xi)
    return after, matvec(step.C, x) + step.d + matvec(step.N, xi)

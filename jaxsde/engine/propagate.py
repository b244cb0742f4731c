"""Three ways to fill a Transition: exact (doubling), interaction-picture and laboratory Euler.

All work on the augmented state z = (x, s), s the integrals of the signals a receiver sees, so that
sample, state and their correlated noise come from one map (Van Loan, IEEE Trans. Autom. Control
23, 395 (1978)).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsde.engine.step import Transition
from jaxsde.physics.params import Leaf

# Terms of the two Taylor series over the smallest sub-step, whose norm is at most MAX_NORM:
# the first neglected term is below 1e-16 even after 2^20 doublings.
TAYLOR_TERMS = 10
MAX_NORM = 0.05

Matrix = Float[Array, "z z"]


def augment(m: Float[Array, "n n"], rows: Float[Array, "signals n"]) -> Matrix:
    """Return the generator of z = (x, s): m for x, ds/dt = rows x."""
    n, total = m.shape[0], m.shape[0] + rows.shape[0]
    return jnp.zeros((total, total), m.dtype).at[:n, :n].set(m).at[n:, :n].set(rows)


def augment_diffusion(
    d: Float[Array, "n n"], cross: Float[Array, "n signals"], own: Float[Array, "signals signals"]
) -> Matrix:
    """Return the diffusion of z = (x, s): d for x, own for s, cross between them."""
    return jnp.block([[d, cross], [cross.T, own]])


def exact(m: Matrix, d: Matrix, h: Leaf, doublings: int) -> Transition:
    """Return the exact map of dz = m z dt + noise of diffusion d, over h (s).

    From a sub-step of h/2^doublings by Taylor series, then E <- 2 E + E^2 and Q <- Q + A Q A^T,
    A = 1 + E.  Keeping E instead of A spares the rounding that squaring would amplify, and no
    matrix ever grows that the result does not hold (an expm of the doubled matrix overflows).
    """
    small = h / 2**doublings
    scaled = m * small
    e = term = scaled
    q = source = d * small
    for k in range(2, TAYLOR_TERMS + 1):
        term = scaled @ term / k
        e = e + term
        source = (scaled @ source + source @ scaled.T) / k
        q = q + source

    def double(_, carry):
        e, q = carry
        spread = q + e @ q
        return 2 * e + e @ e, q + spread + spread @ e.T

    e, q = jax.lax.fori_loop(0, doublings, double, (e, q))
    return Transition(A=jnp.eye(m.shape[0], dtype=m.dtype) + e, Q=(q + q.T) / 2)


def euler_maruyama(m: Matrix, d: Matrix, h: Leaf) -> Transition:
    """Return the explicit Euler-Maruyama step z' = (1 + m h) z + sqrt(d h) xi.

    It adds a spurious gain omega^2 h to every oscillator (docs/accuracy.md).
    """
    return Transition(A=jnp.eye(m.shape[0], dtype=m.dtype) + m * h, Q=d * h)


def interaction_euler(
    free: Matrix, coupling: Matrix, d: Matrix, h: Leaf, doublings: int
) -> Transition:
    """Return the exponential Euler step z' = e^{free h} (1 + coupling h) z + noise.

    Rotation, damping and their noise are exact; the couplings enter by Euler's rule in the
    frame that the free evolution defines.
    """
    alone = exact(free, d, h, doublings)
    kick = jnp.eye(free.shape[0], dtype=free.dtype) + coupling * h
    return Transition(A=alone.A @ kick, Q=alone.Q)


def compose(first: Transition, second: Transition) -> Transition:
    """Return the map of first, then second: A = A2 A1, Q = A2 Q1 A2^T + Q2."""
    a2t = jnp.swapaxes(second.A, -1, -2)
    return Transition(A=second.A @ first.A, Q=second.A @ first.Q @ a2t + second.Q)


def repeat(step: Transition, count: int) -> Transition:
    """Return count applications of step, by binary powers: the same law as stepping count times."""
    if count == 1:
        return step
    half = repeat(compose(step, step), count // 2)
    return compose(half, step) if count % 2 else half


def magnus(m1: Matrix, m2: Matrix, d: Matrix, h: Leaf) -> tuple[Matrix, Matrix]:
    """Return the constant generator and diffusion that act over h as moving ones do, to order h^5.

    m1, m2: at the two Gauss-Legendre points.  Fourth-order Magnus of the linear flow of (M, d):
    M~ = (M1 + M2)/2 + sqrt3 h/12 [M2, M1],
    d~ = d + sqrt3 h/12 ((M2 - M1) d + d (M2 - M1)^T).
    """
    k, change = 3**0.5 / 12 * h, m2 - m1
    return (m1 + m2) / 2 + k * (m2 @ m1 - m1 @ m2), d + k * (change @ d + d @ change.T)


def moving_transition(
    generator: Callable[[Array, Array | None], tuple[Matrix, Matrix]],
    d: Matrix,
    dt: Leaf,
    at: Float[Array, "substeps points"],
    field: Float[Array, "substeps points 2"] | None,
    *,
    method: str,
    doublings: int,
) -> Transition:
    """Return the Transition over one sample while the generator moves.

    generator: gives (free, coupling) at a fraction of the stage, under a mean field.
    at, field: these at the points of every sub-step: two of Gauss for "exact", whose steps are
        fourth-order Magnus; its start for the Euler methods.
    """
    h = dt / at.shape[0]

    def part(point) -> Transition:
        at, field = point
        made = [generator(at[k], None if field is None else field[k]) for k in range(at.shape[0])]
        if method == "exact":
            (free1, coupling1), (free2, coupling2) = made
            m, noise = magnus(free1 + coupling1, free2 + coupling2, d, h)
            return exact(m, noise, h, doublings)
        ((free, coupling),) = made
        if method == "euler_maruyama":
            return euler_maruyama(free + coupling, d, h)
        return interaction_euler(free, coupling, d, h, doublings)

    def body(carry, point):
        return compose(carry, part(point)), None

    first, rest = (jax.tree.map(lambda x, s=s: x[s], (at, field)) for s in (0, slice(1, None)))
    return jax.lax.scan(body, part(first), rest)[0]


def constant_transition(
    free: Matrix,
    coupling: Matrix,
    d: Matrix,
    dt: Leaf,
    *,
    method: str,
    substeps: int,
    doublings: int,
) -> Transition:
    """Return the Transition over one sample of a stage whose generator stands still."""
    if method == "exact":
        return exact(free + coupling, d, dt, doublings)
    h = dt / substeps
    if method == "interaction_euler":
        return repeat(interaction_euler(free, coupling, d, h, doublings), substeps)
    return repeat(euler_maruyama(free + coupling, d, h), substeps)

"""Three ways to fill a Transition: exact (doubling), interaction-picture and laboratory Euler.

All work on the augmented state z = (x, s), ds/dt = D, so that sample, state and their correlated
noise come from one map (Van Loan, IEEE Trans. Autom. Control 23, 395 (1978)).
"""

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


def augment(m: Float[Array, "n n"], row: Float[Array, "n"]) -> Matrix:
    """Return the generator of z = (x, s): m for x, ds/dt = row x."""
    n = m.shape[0]
    return jnp.zeros((n + 1, n + 1), m.dtype).at[:n, :n].set(m).at[n, :n].set(row)


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

    It adds a spurious gain omega^2 h to every oscillator (docs/physics.md).
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


def sample_transition(
    start: Matrix,
    end: Matrix,
    coupling: Matrix,
    d: Matrix,
    dt: Leaf,
    *,
    method: str,
    substeps: int,
    doublings: int,
) -> Transition:
    """Return the Transition over one sample while the free generator moves from start to end.

    "exact": each of `substeps` parts by fourth-order Magnus.  With M the middle generator, D the
    change over a part and h its length, the linear Hamiltonian flow of (M, d) has the effective
    M~ = M + h/12 [D, M],  d~ = d + h/12 (D d + d D^T).
    The Euler methods take the generator at each part's start.
    """
    h = dt / substeps
    change = (end - start) / substeps

    def part(index):
        at_start = start + change * index
        if method == "euler_maruyama":
            return euler_maruyama(at_start + coupling, d, h)
        if method == "interaction_euler":
            return interaction_euler(at_start, coupling, d, h, doublings)
        m = at_start + change / 2 + coupling
        m = m + h / 12 * (change @ m - m @ change)
        return exact(m, d + h / 12 * (change @ d + d @ change.T), h, doublings)

    def body(carry, index):
        return compose(carry, part(index)), None

    rest = jnp.arange(1, substeps, dtype=start.dtype)
    return jax.lax.scan(body, part(0), rest)[0]


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

"""Bootstrap: errors of second moments and of what is derived from them, by drawing shots again."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.analysis.inversion import COLUMNS, ROWS, Inversion
from jaxsde.analysis.moments import QUANTITIES, derived_quantities

PHASES = np.array([name.startswith("arg") for name in QUANTITIES])


def bootstrap_moments(
    key: Array, q: Float[Array, "shots 4"], inversion: Inversion, *, draws: int = 2000
) -> Float[Array, "draws 10"]:
    """Return upper triangles of C, each from as many shots drawn with replacement (Efron).

    q: outputs of the filters, rad.  Raises ValueError for fewer than two shots or draws.
    """
    for name, count in (("q", q.shape[0]), ("draws", draws)):
        if count < 2:
            raise ValueError(f"{name}: wanted at least 2 to tell a spread, got {count}")
    return _bootstrap(key, q, inversion, draws)


@functools.partial(jax.jit, static_argnums=(3,))
def _bootstrap(key, q, inversion: Inversion, draws: int):
    n = q.shape[0]
    products = q[:, ROWS] * q[:, COLUMNS]

    def one(key):
        again = jax.random.randint(key, (n,), 0, n)
        counts = jnp.zeros(n, products.dtype).at[again].add(1.0)
        return counts @ products / n

    # A few draws at a time: memory does not grow with their number.
    raw = jax.lax.map(one, jax.random.split(key, draws), batch_size=64)
    return jnp.linalg.solve(inversion.mixing, (raw - inversion.bias[None]).T).T


def central_intervals(
    upper: Float[Array, "draws 10"], level: float = 0.6827
) -> dict[str, tuple[float, float]]:
    """Return {name: (low, high)} of the central share `level` of draws of C.

    Names: those of `derived`.  Phases (rad) are unwrapped around that of the mean draw, so that
    an interval may leave [-pi, pi].
    """
    values = np.asarray(jax.vmap(derived_quantities)(upper))
    centre = np.asarray(derived_quantities(upper.mean(axis=0)))
    apart = values - centre
    apart[:, PHASES] = np.angle(np.exp(1j * apart[:, PHASES]))
    low, high = np.quantile(apart, [(1 - level) / 2, (1 + level) / 2], axis=0) + centre
    return {n: (float(a), float(b)) for n, a, b in zip(QUANTITIES, low, high, strict=True)}

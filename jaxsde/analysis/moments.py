"""Second moments of the two-mode state from matched-filter outputs (S16), with their errors.

Two oscillators are given by C, the 4 x 4 symmetrised covariance of X = (Z_m, P_m, Z_s, P_s).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsde.analysis.matched import FilterBank, apply_filters
from jaxsde.engine.covariance import choose_nodes, gauss_hermite, state_at
from jaxsde.engine.detect import Detector
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.engine.response import filter_response
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence

ROWS, COLUMNS = np.triu_indices(4)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
    """Hold an estimate of C when a stage begins.

    C: (4, 4).  C_cov: covariance of its upper triangle (row by row), from the scatter of shots.
    raw, bias: second moments of the outputs, and what was subtracted, rad^2.
    mixing: the linear map from the upper triangle of C to that of raw - bias.
    """

    C: Float[Array, "4 4"]
    C_cov: Float[Array, "10 10"]
    raw: Float[Array, "4 4"]
    bias: Float[Array, "4 4"]
    mixing: Float[Array, "10 10"]
    n_shots: int = dataclasses.field(metadata=dict(static=True))


def occupations(c: Float[Array, "*batch 4 4"]) -> tuple[Array, Array]:
    """Return (<a^dag a>, <b^dag b>) of C:  n = (<Z^2> + <P^2>)/4 - 1/2."""
    n_m = (c[..., 0, 0] + c[..., 1, 1]) / 4 - 0.5
    return n_m, (c[..., 2, 2] + c[..., 3, 3]) / 4 - 0.5


def pair_correlation(c: Float[Array, "*batch 4 4"]) -> Complex[Array, "*batch"]:
    """Return <a b> = (<Z_m Z_s> - <P_m P_s> + i <Z_m P_s> + i <P_m Z_s>)/4 of C."""
    return jax.lax.complex(c[..., 0, 2] - c[..., 1, 3], c[..., 0, 3] + c[..., 1, 2]) / 4


def exchange_correlation(c: Float[Array, "*batch 4 4"]) -> Complex[Array, "*batch"]:
    """Return <a^dag b> = (<Z_m Z_s> + <P_m P_s> + i <Z_m P_s> - i <P_m Z_s>)/4 of C."""
    return jax.lax.complex(c[..., 0, 2] + c[..., 1, 3], c[..., 0, 3] - c[..., 1, 2]) / 4


def _quantities(upper: Float[Array, "10"]) -> Float[Array, "6"]:
    """Return the derived quantities of the upper triangle of C, in the order of QUANTITIES."""
    c = symmetric(upper)
    n_m, n_s = occupations(c)
    ab, adag_b = pair_correlation(c), exchange_correlation(c)
    parts = [n_m, n_s]
    for z in (ab, adag_b):
        parts += [jnp.abs(z), jnp.angle(z)]
    return jnp.stack(parts)


QUANTITIES = ("n_m", "n_s", "abs_ab", "arg_ab", "abs_adag_b", "arg_adag_b")


def derived(
    c: Float[Array, "4 4"], c_cov: Float[Array, "10 10"] | None = None
) -> dict[str, tuple[float, float | None]]:
    """Return {name: (value, standard error)} of occupations and correlations (phases in rad).

    n_m, n_s, abs_ab, arg_ab, abs_adag_b, arg_adag_b; errors to first order in c_cov, else None.
    """
    upper = c[ROWS, COLUMNS]
    values = np.asarray(_quantities(upper))
    if c_cov is None:
        return {name: (float(v), None) for name, v in zip(QUANTITIES, values, strict=True)}
    slope = np.asarray(jax.jacfwd(_quantities)(upper))
    errors = np.sqrt(np.einsum("qi,ij,qj->q", slope, np.asarray(c_cov), slope))
    return {n: (float(v), float(e)) for n, v, e in zip(QUANTITIES, values, errors, strict=True)}


def symmetric(upper: Float[Array, "10"]) -> Float[Array, "4 4"]:
    """Return the symmetric matrix of an upper triangle, given row by row."""
    c = jnp.zeros((4, 4), upper.dtype).at[ROWS, COLUMNS].set(upper)
    return c + jnp.triu(c, 1).T


def estimate_moments(
    record: Float[Array, "shots samples quadratures"],
    bank: FilterBank,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    *,
    resolution: Resolution | None = None,
    nodes: tuple[int, int] | None = None,
) -> Moments:
    """Estimate C when the filters' stage begins, from second moments of their outputs (S16).

    With H the response of q to the state and N the noise added later, for given frequencies,
        <q q^T> = E[H P H^T] + E[N],     E over jitter by Gauss-Hermite quadrature.
    The average of products, not the product of averages, is inverted for E[P]; subtracted as bias
    are thermal noise, common back-action and shot noise (E[N]), the cavity's own fluctuations, and
    the covariance over jitter of P with the response (the pulse's phases depend on the same
    frequencies as the ringdown's), all from theory with params and sequence.
    record: W; bank: one window, four filters.  Errors are those of the sample mean over shots.
    Raises ValueError for a bank of several windows or fewer than two shots.
    """
    q = apply_filters(record, bank)
    if q.shape[1] != 4:
        raise ValueError(
            f"bank: wanted one window of 4 filters, got {q.shape[1]} filters; windows=1"
        )
    if q.shape[0] < 2:
        raise ValueError(f"record: wanted at least 2 shots for an error, got {q.shape[0]}")
    products = q[:, ROWS] * q[:, COLUMNS]
    n = q.shape[0]
    return moments_of_products(
        products.mean(axis=0),
        jnp.cov(products, rowvar=False) / n,
        n,
        bank,
        params,
        sequence,
        detector,
        resolution=resolution,
        nodes=nodes,
    )


def moments_of_products(
    raw: Float[Any, "10"],
    scatter: Float[Any, "10 10"],
    n: int,
    bank: FilterBank,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    *,
    resolution: Resolution | None = None,
    nodes: tuple[int, int] | None = None,
) -> Moments:
    """Return the Moments of n shots from the means of the products q_i q_j (upper triangle).

    scatter: covariance of these means.  The rest as of `estimate_moments`.
    """
    resolution = choose_resolution(params, sequence) if resolution is None else resolution
    nodes = choose_nodes(params, sequence) if nodes is None else nodes
    mixing, bias = _mixing_and_bias(params, sequence, detector, bank, resolution, nodes)
    inverse = jnp.linalg.inv(mixing)
    return Moments(
        C=symmetric(inverse @ (raw - bias)),
        C_cov=inverse @ scatter @ inverse.T,
        raw=symmetric(raw),
        bias=symmetric(bias),
        mixing=mixing,
        n_shots=n,
    )


def _mixing_and_bias(params, sequence, detector, bank, resolution, nodes):
    """Return the (10, 10) map from C to <q q^T> and the bias, both as upper triangles."""
    z, w = gauss_hermite(nodes)
    h, noise = filter_response(params, sequence, detector, bank.weights, bank.stage, z, resolution)
    p = state_at(params, sequence, bank.stage, z, resolution)
    mean = jnp.einsum("k,kij->ij", w, p)[:4, :4]
    beyond = p.at[:, :4, :4].add(-mean)
    bias = jnp.einsum("k,kij->ij", w, h @ beyond @ jnp.swapaxes(h, 1, 2) + noise)
    x = h[:, :, :4]
    # q_i q_j responds to C_kl as E[x_ik x_jl], symmetrised for k != l.
    full = jnp.einsum("n,nik,njl->ijkl", w, x, x)[ROWS, COLUMNS]
    mixing = full[:, ROWS, COLUMNS] + full[:, COLUMNS, ROWS]
    return mixing * np.where(ROWS == COLUMNS, 0.5, 1.0)[None], bias[ROWS, COLUMNS]


def true_moments(
    params: Params,
    sequence: Sequence,
    stage: int,
    *,
    resolution: Resolution | None = None,
    nodes: tuple[int, int] | None = None,
) -> Float[Array, "4 4"]:
    """Return the exact C when stage number `stage` begins, averaged over jitter."""
    resolution = choose_resolution(params, sequence) if resolution is None else resolution
    nodes = choose_nodes(params, sequence) if nodes is None else nodes
    z, w = gauss_hermite(nodes)
    p = state_at(params, sequence, stage, z, resolution)
    return jnp.einsum("k,kij->ij", w, p)[:4, :4]

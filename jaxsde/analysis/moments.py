"""Second moments of the two-mode state from matched-filter outputs (S16), with their errors.

Two oscillators are given by C, the 4 x 4 symmetrised covariance of X = (Z_m, P_m, Z_s, P_s).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsde.analysis.inversion import COLUMNS, ROWS, Inversion, check_bank, invert, symmetric
from jaxsde.analysis.matched import FilterBank, apply_filters
from jaxsde.engine.covariance import choose_nodes, gauss_hermite, state_at
from jaxsde.engine.detect import Detector
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence


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


def derived_quantities(upper: Float[Array, "10"]) -> Float[Array, "6"]:
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
    values = np.asarray(derived_quantities(upper))
    if c_cov is None:
        return {name: (float(v), None) for name, v in zip(QUANTITIES, values, strict=True)}
    slope = np.asarray(jax.jacfwd(derived_quantities)(upper))
    errors = np.sqrt(np.einsum("qi,ij,qj->q", slope, np.asarray(c_cov), slope))
    return {n: (float(v), float(e)) for n, v, e in zip(QUANTITIES, values, errors, strict=True)}


def estimate_moments(
    record: Float[Array, "shots samples quadratures"],
    bank: FilterBank,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    *,
    responses: str = "exact",
    shot_noise: Float[Array, "empty samples quadratures"] | None = None,
    resolution: Resolution | None = None,
    nodes: tuple[int, int] | None = None,
) -> Moments:
    """Estimate C when the filters' stage begins, from second moments of their outputs (S16).

    Subtracted as bias are thermal noise, common back-action and shot noise, the cavity's own
    fluctuations, and what jitter does to pulse and ringdown alike, from theory with params and
    sequence (`invert`).
    record: W; bank: one window, four filters.  Errors are those of the sample mean over shots.
    responses: "exact" or "average", the paper's; see `invert`.
    shot_noise: records of an empty cavity, W, whose outputs' second moments take the place of the
        theory's shot noise; the error of that enters C_cov.
    Raises ValueError for a bank of several windows or fewer than two shots.
    """
    q = apply_filters(record, bank)
    check_bank(bank)
    inversion = invert(
        params, sequence, detector, bank, responses=responses, resolution=resolution, nodes=nodes
    )
    empty = None if shot_noise is None else apply_filters(shot_noise, bank)
    return moments_of_outputs(q, inversion, shot_noise=empty)


def moments_of_outputs(
    q: Float[Array, "shots 4"],
    inversion: Inversion,
    *,
    shot_noise: Float[Array, "empty 4"] | None = None,
) -> Moments:
    """Estimate C from the filters' outputs (rad), which the kernel can make without records.

    shot_noise: outputs of shots with an empty cavity, rad.
    Raises ValueError for fewer than two shots.
    """
    for name, x in (("record", q), ("shot_noise", shot_noise)):
        if x is not None and x.shape[0] < 2:
            raise ValueError(f"{name}: wanted at least 2 shots for an error, got {x.shape[0]}")
    raw, scatter = _mean_products(q)
    bias = inversion.bias
    if shot_noise is not None:
        found, error = _mean_products(shot_noise)
        bias, scatter = bias - inversion.shot + found, scatter + error
    inverse = jnp.linalg.inv(inversion.mixing)
    return Moments(
        C=symmetric(inverse @ (raw - bias)),
        C_cov=inverse @ scatter @ inverse.T,
        raw=symmetric(raw),
        bias=symmetric(bias),
        mixing=inversion.mixing,
        n_shots=q.shape[0],
    )


def _mean_products(q: Float[Array, "shots 4"]) -> tuple[Array, Array]:
    """Return the mean of q_i q_j over shots, and its covariance (upper triangles)."""
    products = q[:, ROWS] * q[:, COLUMNS]
    return products.mean(axis=0), jnp.cov(products, rowvar=False) / q.shape[0]


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

"""Initial state: what a record says of X = (Z_m, P_m, Z_s, P_s) when a stage begins, shot by shot.

Given a shot's two frequencies the record is y = H X + v.  The square-root Kalman filter whitens it
to r = r_0 + S X, r_0 the innovations as if X = 0 and S those of H with their sign, so that

    F = S^T S = R_F R_F^T,   s = -S^T r_0,   X_est = (F + P^-1)^-1 s,   cov = (F + P^-1)^-1

is the fixed-point smoother: where Rauch, Tung and Striebel's backward sweep arrives, without the
sweep.  With a flat prior it is generalised least squares, cov = F^-1.  Unknown frequencies are
nodes of Gauss-Hermite quadrature, weighted by how well each explains the shot: with the right
prior the mean over them is the best estimate there is, linear or not.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.engine.covariance import gauss_hermite
from jaxsde.engine.detect import Detector, check_detector
from jaxsde.engine.plan import jitter_basis
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.engine.simulate import Shots
from jaxsde.engine.step import Step
from jaxsde.inference.evidence import Evidence, arrange, check_record
from jaxsde.inference.kalman import condition, move_means, triangular_root
from jaxsde.inference.tables import Tables, interval_of, start_root, step_fields, tabulate
from jaxsde.physics.params import Params, check_params
from jaxsde.physics.sequence import Sequence, check_sequence

N_UNKNOWN = 4  # motion and spin; the cavity is in vacuum


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class InitialState:
    """Hold estimates of X when a stage begins, and the covariance of each.

    covariance: of mean - X; with jitter, of the mixture over the nodes.
    weights: of the nodes, given the shot.
    """

    mean: Float[Array, "shots 4"]
    covariance: Float[Array, "shots 4 4"]
    weights: Float[Array, "shots nodes"]


def initial_state(
    data: Shots | Any,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    *,
    stage: str = "ringdown",
    prior: Float[Any, "4 4"] | None = None,
    nodes: tuple[int, int] = (5, 5),
    resolution: Resolution | None = None,
) -> InitialState:
    """Estimate every shot's X from its record since a stage began: Kalman filter and smoother.

    data: Shots or their record (shots, samples, outputs), W, of the whole sequence; a sample that
        is NaN is missing.
    prior: covariance of X, mean 0: the least mean squared error.  None: no prior, unbiased.
    nodes: of the quadrature over (omega_m, omega_s); (1, 1) takes the mean frequencies for true.
    The cavity is taken in vacuum, which it forgets within 1/kappa.
    Raises ValueError for records that do not fit, without float64, or where samples are too few.
    """
    check_params(params)
    check_sequence(sequence)
    check_detector(detector)
    detector = dataclasses.replace(detector, technical=None)
    record = check_record(data.record if isinstance(data, Shots) else data, sequence, detector)
    span = sequence.span(stage)
    index = [s.name for s in sequence.stages].index(stage)
    # The stages that are left, as a shot of its own.
    rest = dataclasses.replace(sequence, stages=sequence.stages[index:])
    resolution = choose_resolution(params, sequence) if resolution is None else resolution
    z, w = gauss_hermite(nodes)
    basis = jitter_basis(z, resolution.jitter_nodes)
    tables = tabulate(params, rest, detector, resolution)
    spread = tables.spread.at[:N_UNKNOWN].set(0.0).at[N_UNKNOWN:].set(np.sqrt(0.5))
    tables = dataclasses.replace(tables, spread=spread)
    which = jnp.asarray(interval_of(rest, resolution))
    inverse_root = _inverse_root(prior)
    n, k = len(record), basis.shape[1]
    mean, covariance = jnp.zeros((n, 4)), jnp.zeros((n, 4, 4))
    weights = jnp.zeros((n, k))
    for part in arrange(record[:, span.start :]):
        held = _estimates(tables, basis, w, which, part, inverse_root, rest.sample_interval)
        if not bool(jnp.isfinite(held[1]).all()):
            raise ValueError(
                f"record: wanted samples after the beginning of stage {stage!r} that tell all of "
                "X, got shots with too few; give a prior, or leave those shots out"
            )
        mean = mean.at[part.shots].set(held[0])
        covariance = covariance.at[part.shots].set(held[1])
        weights = weights.at[part.shots].set(held[2])
    return InitialState(mean=mean, covariance=covariance, weights=weights)


def _inverse_root(prior: Float[Any, "4 4"] | None) -> Float[Array, "4 4"]:
    """Return M with M M^T = P^-1; 0 without a prior."""
    if prior is None:
        return jnp.zeros((N_UNKNOWN, N_UNKNOWN))
    p = np.asarray(prior, float)
    if p.shape != (4, 4) or not np.allclose(p, p.T) or np.linalg.eigvalsh(p).min() <= 0:
        raise ValueError(
            "prior: wanted a symmetric, positive definite (4, 4) covariance of (Z_m, P_m, Z_s, "
            f"P_s), got shape {p.shape} with eigenvalues {np.linalg.eigvals(p)}"
        )
    return jnp.asarray(np.linalg.inv(np.linalg.cholesky(p)).T)


@functools.partial(jax.jit, static_argnames=("dt",))
def _estimates(
    tables: Tables,
    basis: Array,
    w: Array,
    which: Array,
    evidence: Evidence,
    prior: Array,
    dt: float,
):
    """Return means, covariances and weights of the nodes: (patterns, shots, ...)."""
    level, root, information = _information(tables, basis, which, evidence, dt)
    nodes, patterns = root.shape[2:]
    own = jnp.broadcast_to(prior[..., None, None], (4, 4, nodes, patterns))
    # R R^T = F + P^-1
    r = jnp.moveaxis(triangular_root(jnp.concatenate([root, own], axis=1)), (0, 1), (-2, -1))
    half = jax.scipy.linalg.solve_triangular(r, information, lower=True)
    each = jax.scipy.linalg.solve_triangular(r, half, lower=True, trans=1)
    size = jnp.sum(jnp.log(jnp.diagonal(r, axis1=-2, axis2=-1)), axis=-1)
    level = level + jnp.sum(half**2, axis=2) / 2 - size[..., None]
    weight = jax.nn.softmax(level + jnp.log(w)[:, None, None], axis=0)
    mean = jnp.einsum("jps,jpis->psi", weight, each)
    eye = jnp.broadcast_to(jnp.eye(4), r.shape)
    inverse = jax.scipy.linalg.solve_triangular(r, eye, lower=True)
    v = jnp.swapaxes(inverse, -1, -2) @ inverse
    apart = jnp.moveaxis(each, 3, 2) - mean[None]
    covariance = jnp.einsum("jps,jpab->psab", weight, v)
    covariance = covariance + jnp.einsum("jps,jpsa,jpsb->psab", weight, apart, apart)
    return mean, covariance, jnp.moveaxis(weight, 0, -1)


def _information(tables: Tables, basis: Array, which: Array, evidence: Evidence, dt: float):
    """Return log p(y | X = 0) less constants, R_F, and s, by node and pattern."""
    _, _, patterns, shots = evidence.record.shape
    nodes, n = basis.shape[1], tables.spread.shape[0]
    steps = step_fields(tables, basis, dt)
    # Four further columns of means start at the unit vectors of X and see no record.
    unit = jnp.broadcast_to(jnp.eye(n)[:, :N_UNKNOWN], (nodes, patterns, n, N_UNKNOWN))
    means = jnp.concatenate([jnp.zeros((nodes, patterns, n, shots)), unit], axis=3)

    def body(carry, inputs):
        root, mean, level, f_root, s = carry
        at, y, seen = inputs
        step = Step(**{name: leaf[at] for name, leaf in steps.items()})
        root, update = condition(step, root, seen)
        none = jnp.zeros((*y.shape[:-1], N_UNKNOWN), y.dtype)
        mean, r = move_means(update, mean, jnp.concatenate([y, none], axis=-1))
        r_0, slope = r[..., :shots], r[..., shots:]
        level = level - jnp.sum(update.log_scale, axis=0)[..., None] - jnp.sum(r_0**2, axis=2) / 2
        s = s - jnp.einsum("jpki,jpks->jpis", slope, r_0)
        f_root = triangular_root(jnp.concatenate([f_root, jnp.moveaxis(slope, (3, 2), (0, 1))], 1))
        return (root, mean, level, f_root, s), None

    carry = (
        start_root(tables, nodes, patterns),
        means,
        jnp.zeros((nodes, patterns, shots)),
        jnp.zeros((N_UNKNOWN, N_UNKNOWN, nodes, patterns)),
        jnp.zeros((nodes, patterns, N_UNKNOWN, shots)),
    )
    xs = which, evidence.record, evidence.seen
    _, _, level, f_root, s = jax.lax.scan(body, carry, xs)[0]
    return level, f_root, s

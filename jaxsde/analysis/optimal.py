"""Optimal linear estimates of the state X when a stage begins, and what any filter's are worth.

Of a record y = H X + v, with H the mean response over jitter and v everything else: thermal noise,
back-action, shot noise, and the part (H_z - H) X of the response that a shot's own frequencies
make.  X is taken as independent of the frequencies, with a given covariance C.  By Gauss and
Markov no linear unbiased estimate of X has a smaller covariance than generalised least squares,

    X_gls = (H^T R^-1 H)^-1 H^T R^-1 y,   R = cov(v),   cov(X_gls - X) = (H^T R^-1 H)^-1.
"""

import dataclasses

import jax
import jax.numpy as jnp
import jax.scipy.linalg as linalg
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsde.analysis.entanglement import symplectic_eigenvalues
from jaxsde.analysis.inversion import check_bank
from jaxsde.analysis.matched import FilterBank
from jaxsde.engine.covariance import choose_nodes, gauss_hermite, segment_transition
from jaxsde.engine.detect import Detector, independent_noise
from jaxsde.engine.plan import segment_readout, segments
from jaxsde.engine.records import record_covariance
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.engine.response import filter_response
from jaxsde.engine.step import Transition, output_maps
from jaxsde.physics.model import N_STATE
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence

NAMES = ("Z_m", "P_m", "Z_s", "P_s")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordModel:
    """Hold the linear model y = H X + v of records from the beginning of a stage.

    response: H.  covariance: R of v.  first: sample of the shot with which it begins.
    """

    response: Float[Array, "samples quadratures 4"]
    covariance: Float[Array, "samples quadratures samples quadratures"]
    stage: int = dataclasses.field(metadata=dict(static=True))
    first: int = dataclasses.field(metadata=dict(static=True))


def starting_covariance(c: Float[Array, "4 4"]) -> Float[Array, "6 6"]:
    """Return the covariance of x for motion and spin with covariance C, and a cavity in vacuum."""
    return jnp.zeros((N_STATE, N_STATE)).at[:4, :4].set(c).at[4, 4].set(0.5).at[5, 5].set(0.5)


def record_model(
    params: Params,
    sequence: Sequence,
    detector: Detector,
    *,
    stage: str = "ringdown",
    c: Float[Array, "4 4"] | None = None,
    resolution: Resolution | None = None,
    nodes: tuple[int, int] | None = None,
) -> RecordModel:
    """Return the model of records from the beginning of a stage to the end of the shot.

    c: covariance of X, by which jitter of the response is weighted; None leaves that part of v
        out, and R is the noise alone.
    Raises ValueError for an unknown stage.
    """
    first = sequence.span(stage).start
    index = [s.name for s in sequence.stages].index(stage)
    resolution = choose_resolution(params, sequence) if resolution is None else resolution
    nodes = choose_nodes(params, sequence) if nodes is None else nodes
    detector = dataclasses.replace(detector, technical=None)
    h = mean_response(params, sequence, detector, index, resolution, nodes)
    state = jnp.zeros((4, 4)) if c is None else jnp.asarray(c)
    r = record_covariance(
        params,
        sequence,
        detector,
        resolution,
        nodes=nodes,
        first_stage=index,
        start=starting_covariance(state),
    )
    known = jnp.einsum("tki,ij,ulj->tkul", h, state, h)
    return RecordModel(response=h, covariance=r - known, stage=index, first=first)


def mean_response(
    params: Params,
    sequence: Sequence,
    detector: Detector,
    stage: int,
    resolution: Resolution,
    nodes: tuple[int, int],
) -> Float[Array, "samples quadratures 4"]:
    """Return the mean over jitter of the record for given X when stage number `stage` begins."""
    z, w = gauss_hermite(nodes)
    dt, made = sequence.sample_interval, []
    reach = jnp.broadcast_to(jnp.eye(N_STATE)[:, :4], (z.shape[1], N_STATE, 4))
    for part in segments(params, sequence, resolution):
        if part.stage < stage:
            continue
        step = segment_transition(params, part, z, dt, resolution, detector.model)
        gains = segment_readout(params, part, detector)
        floor = independent_noise(detector)
        reach, rows = _segment_rows(reach, w, step, gains, floor, dt, np.arange(part.n_samples))
        made.append(rows)
    return jnp.concatenate(made)


@jax.jit
def _segment_rows(reach, w, step: Transition, gains, floor, dt, samples):
    moves = step.A.ndim == 4

    def maps(step: Transition, gains: Array):
        a, q = jnp.moveaxis(step.A, 0, -1), jnp.moveaxis(step.Q, 0, -1)
        return tuple(jnp.moveaxis(m, -1, 0) for m in output_maps(a, q, gains, floor, dt)[:2])

    still = None if moves else maps(step, gains)

    def body(reach, moving):
        a, c = maps(*moving[1]) if still is None else still
        return a @ reach, jnp.einsum("n,nks,nsi->ki", w, c, reach)

    return jax.lax.scan(body, reach, (samples, (step, gains) if moves else None))


def best_filter(
    model: RecordModel,
    sequence: Sequence,
    *,
    start: int = 0,
    stop: int | None = None,
    seen: Bool[np.ndarray, "samples quadratures"] | None = None,
) -> tuple[FilterBank, Float[Array, "4 4"]]:
    """Return the filters of generalised least squares, q = X_gls, and their covariance under R.

    With a model of the noise alone (c=None) these are the paper's matched filters, whitened; with
    C they are the best linear unbiased estimate (Gauss, Markov).  By Cholesky and QR: H^T R^-1 H is
    never formed.
    start, stop: samples after the beginning of the model that are used.  seen: False where a
        sample is missing in every shot.
    Raises ValueError for a window that does not fit, or too few samples to tell X.
    """
    n, k, _ = model.response.shape
    end = n if stop is None else stop
    if not 0 <= start < end <= n:
        raise ValueError(
            f"filter window: wanted 0 <= start < stop <= {n}, the samples from the stage's "
            f"beginning, got start {start}, stop {end}; shorten the window"
        )
    used = np.zeros((n, k), bool)
    used[start:end] = True if seen is None else np.asarray(seen, bool)[start:end]
    index = np.flatnonzero(used.reshape(-1))
    if len(index) < 4:
        raise ValueError(f"seen: wanted at least 4 samples to tell 4 quadratures, got {len(index)}")
    weights, v = _least_squares(model.response, model.covariance, jnp.asarray(index))
    whole = jnp.zeros((4, sequence.n_samples * k)).at[:, model.first * k + index].set(weights)
    bank = FilterBank(
        weights=whole.reshape(4, sequence.n_samples, k), names=NAMES, stage=model.stage
    )
    return bank, v


@jax.jit
def _least_squares(response, covariance, index):
    n = response.shape[0] * response.shape[1]
    h, r = response.reshape(n, 4)[index], covariance.reshape(n, n)[index][:, index]
    # Record units are far from 1.
    scale = jnp.sqrt(jnp.diagonal(r))
    root = jnp.linalg.cholesky(r / scale[:, None] / scale[None])
    white = linalg.solve_triangular(root, h / scale[:, None], lower=True)
    q, upper = jnp.linalg.qr(white)
    inverse = linalg.solve_triangular(upper, jnp.eye(4))
    weights = inverse @ linalg.solve_triangular(root, q, lower=True, trans=1).T / scale[None]
    return weights, inverse @ inverse.T


def cumulative_information(model: RecordModel) -> Float[Array, "samples 4 4"]:
    """Return H^T R^-1 H of the first 1, 2, ... samples: every window that begins at once.

    One Cholesky factor serves all, since its leading rows are those of shorter records.
    """
    n, k, _ = model.response.shape
    r = model.covariance.reshape(n * k, n * k)
    scale = jnp.sqrt(jnp.diagonal(r))
    root = jnp.linalg.cholesky(r / scale[:, None] / scale[None])
    h = model.response.reshape(n * k, 4) / scale[:, None]
    white = linalg.solve_triangular(root, h, lower=True).reshape(n, k, 4)
    return jnp.cumsum(jnp.einsum("tki,tkj->tij", white, white), axis=0)


def estimate_covariance(
    bank: FilterBank,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    c: Float[Array, "4 4"],
    *,
    resolution: Resolution | None = None,
    nodes: tuple[int, int] | None = None,
) -> Float[Array, "4 4"]:
    """Return the covariance of the unbiased estimate of X that four filters give (S16).

    X_est = E[H]^-1 q, for X independent of the frequencies and of covariance C:
        cov(X_est - X) = E[H]^-1 (E[H C H^T + N] - E[H] C E[H]^T) E[H]^-T.
    """
    check_bank(bank)
    resolution = choose_resolution(params, sequence) if resolution is None else resolution
    nodes = choose_nodes(params, sequence) if nodes is None else nodes
    z, w = gauss_hermite(nodes)
    h, noise = filter_response(params, sequence, detector, bank.weights, bank.stage, z, resolution)
    start = starting_covariance(jnp.asarray(c))
    second = jnp.einsum("k,kij->ij", w, h @ start @ jnp.swapaxes(h, 1, 2) + noise)
    mean = jnp.einsum("k,kij->ij", w, h)[:, :4]
    rest = second - mean @ c @ mean.T
    return jnp.linalg.solve(mean, jnp.linalg.solve(mean, rest).T)


def added_noise(v: Float[Array, "*batch 4 4"]) -> tuple[Array, Array]:
    """Return (motion, spin): quanta that an estimate of covariance V adds to an occupation.

    (V_ZZ + V_PP)/4; an estimate of both quadratures at once adds at least half a quantum.
    """
    return (v[..., 0, 0] + v[..., 1, 1]) / 4, (v[..., 2, 2] + v[..., 3, 3]) / 4


def quantum_limit(v: Float[Array, "*batch 4 4"]) -> Float[Array, "*batch"]:
    """Return how many times V exceeds the quantum limit of simultaneous estimates; at least 1.

    Estimates are numbers and commute, so that their errors have minus the commutators of X and V +
    i sigma/2 >= 0 (Arthurs and Kelly, Bell Syst. Tech. J. 44, 725 (1965)): the smaller symplectic
    eigenvalue of V, 1 for half a quantum added to each of two oscillators.
    """
    return symplectic_eigenvalues(v)[..., 0]


def efficiency(
    best: Float[Array, "*batch 4 4"], v: Float[Array, "*batch 4 4"]
) -> Float[Array, "*batch 2"]:
    """Return (motion, spin): sqrt of det(V_best)/det(V), as a ratio of variances; at most 1."""
    made = []
    for span in (slice(0, 2), slice(2, 4)):
        ratio = jnp.linalg.det(best[..., span, span]) / jnp.linalg.det(v[..., span, span])
        made.append(jnp.sqrt(ratio))
    return jnp.stack(made, axis=-1)

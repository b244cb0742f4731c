"""Exact covariance of whole records, averaged over jitter, and the spectra expected of them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsde.engine.covariance import (
    advance,
    gauss_hermite,
    segment_transition,
    state_at,
    states_alone,
)
from jaxsde.engine.detect import Detector, independent_noise
from jaxsde.engine.plan import segment_readout, segments
from jaxsde.engine.resolution import Resolution
from jaxsde.engine.step import Transition
from jaxsde.physics.model import N_STATE, SIGNALS, measured
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence


def signal_covariance(
    params: Params,
    sequence: Sequence,
    resolution: Resolution,
    model: str = "adiabatic",
    nodes: tuple[int, int] = (9, 7),
    first_stage: int = 0,
    start: Float[Array, "6 6"] | None = None,
) -> tuple[Float[Array, "samples signals samples signals"], Float[Array, "samples"]]:
    """Return the covariance of box-averaged signals at every two samples, and <D^2> at their ends.

    Averaged over jitter; signals: of `model`, D (rad/s) or the output field (1/sqrt(s)).  For
    s < t, R_ts = c A_{t-1} ... A_{s+1} K_s with K_s = A P_s c^T + cov(noise of x, noise of y).
    first_stage: number of the stage with which the samples begin.
    start: covariance of x then, whatever the offsets; by default what the stages before it make.
    """
    z, w = gauss_hermite(nodes)
    dt, n_signals, row = sequence.sample_interval, len(SIGNALS[model]), measured(params)
    before = sum(stage.n_samples for stage in sequence.stages[:first_stage])
    total = sequence.n_samples - before
    if start is None:
        p = state_at(params, sequence, first_stage, z, resolution)
    else:
        p = jnp.broadcast_to(start, (z.shape[1], N_STATE, N_STATE))
    ahead = jnp.zeros((z.shape[1], N_STATE, total * n_signals))
    rows, squares = [], []
    for part in segments(params, sequence, resolution):
        if part.stage < first_stage:
            continue
        step = segment_transition(params, part, z, dt, resolution, model)
        index = jnp.arange(part.span.start, part.span.stop) - before
        p, ahead, lines, square = _segment_signals(p, ahead, index, step, w, row, dt)
        rows.append(lines)
        squares.append(square)
    lower = jnp.concatenate(rows).reshape(total * n_signals, -1)
    # Rows hold s <= t: later columns were still zero when a row was read.  Within one sample
    # the block of signals is whole, so that its upper part is there twice.
    sample = jnp.arange(total * n_signals) // n_signals
    full = lower + jnp.where(sample[:, None] == sample[None], 0.0, lower).T
    return full.reshape(total, n_signals, total, n_signals), jnp.concatenate(squares)


@jax.jit
def _segment_signals(p, ahead, index, step: Transition, w, row, dt):
    """Return signal_covariance's recursion taken through one segment, with its rows."""
    moves, n = step.A.ndim == 4, N_STATE
    n_signals = step.A.shape[-2] - n

    def body(carry, inputs):
        p, ahead = carry
        t, moving = inputs
        now = moving if moves else step
        a, c = now.A[:, :n, :n], now.A[:, n:, :n] / dt
        lines = jnp.einsum("k,ksi,kit->st", w, c, ahead)
        pc = p @ jnp.swapaxes(c, 1, 2)
        own = jnp.einsum("k,kij->ij", w, c @ pc + now.Q[:, n:, n:] / dt**2)
        column = a @ pc + now.Q[:, :n, n:] / dt
        at = t * n_signals
        ahead = jax.lax.dynamic_update_slice(a @ ahead, column, (0, 0, at))
        lines = jax.lax.dynamic_update_slice(lines, own, (0, at))
        p = advance(states_alone(now), p)
        square = jnp.einsum("k,i,kij,j->", w, row, p, row)
        return (p, ahead), (lines, square)

    (p, ahead), (lines, square) = jax.lax.scan(body, (p, ahead), (index, step if moves else None))
    return p, ahead, lines, square


def readout_of_samples(
    params: Params, sequence: Sequence, detector: Detector, resolution: Resolution
) -> Float[Array, "samples quadratures signals"]:
    """Return the receiver's map of every sample of a sequence."""
    rows = []
    for part in segments(params, sequence, resolution):
        gains = segment_readout(params, part, detector)
        rows.append(gains if gains.ndim == 3 else jnp.tile(gains, (part.n_samples, 1, 1)))
    return jnp.concatenate(rows)


def record_covariance(
    params: Params,
    sequence: Sequence,
    detector: Detector,
    resolution: Resolution,
    *,
    nodes: tuple[int, int] = (9, 7),
    first_stage: int = 0,
    start: Float[Array, "6 6"] | None = None,
) -> Float[Array, "samples quadratures samples quadratures"]:
    """Return the exact covariance of a receiver's record, averaged over jitter.

    y = G s/dt + independent noise, W^2 (or (rad/s)^2).
    first_stage: number of the stage with which the samples begin.
    start: covariance of x then, whatever the offsets; by default what the stages before it make.
    """
    r, _ = signal_covariance(
        params, sequence, resolution, detector.model, nodes, first_stage, start
    )
    gains = readout_of_samples(params, sequence, detector, resolution)[-r.shape[0] :]
    made = jnp.einsum("tks,tsur,ulr->tkul", gains, r, gains)
    samples = jnp.arange(gains.shape[0])
    white = independent_noise(detector) * jnp.eye(gains.shape[1])
    return made.at[samples, :, samples, :].add(white[None])

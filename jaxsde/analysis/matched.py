"""Matched filters: single-shot estimates of the state when the ringdown begins (S13-S15)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.engine.detect import Detector, quadrature_gains
from jaxsde.physics.params import Leaf, Params, is_concrete
from jaxsde.physics.sequence import Sequence


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class FilterBank:
    """Hold linear filters over a whole record, q = sum_t weights_t y_t (rad).

    weights: zero outside the stage they belong to.  names: of the filters.  stage: index of that
    stage, at whose beginning the state is estimated.
    """

    weights: Float[Array, "filters samples quadratures"]
    names: tuple[str, ...] = dataclasses.field(metadata=dict(static=True))
    stage: int = dataclasses.field(metadata=dict(static=True))


def average_response(
    omega: Leaf, epsilon: Leaf, gamma: Leaf, sigma: Leaf, t: Float[Array, "times"]
) -> tuple[Array, Array]:
    """Return (Re, Im) of the jitter-averaged impulse response of an oscillator (below S15).

    rho(t) = exp(-i eps omega t - Gamma t/2 - sigma^2 t^2/2), t in s.
    """
    envelope = jnp.exp(-gamma * t / 2 - (sigma * t) ** 2 / 2)
    return envelope * jnp.cos(epsilon * omega * t), -envelope * jnp.sin(epsilon * omega * t)


def matched_filter(
    params: Params,
    sequence: Sequence,
    detector: Detector,
    *,
    stage: str = "ringdown",
    start: int = 0,
    stop: int | None = None,
    windows: int = 1,
) -> FilterBank:
    """Return filters matched to the free response of motion and spin in a stage (S13-S15).

    m(t) = (Re rho_m, -Im rho_m, Re rho_s, -Im rho_s) with average responses, divided by the
    gain A so that q = integral of D m dt (rad).  The record's two quadratures are first projected
    on the direction phi_q of the signal.
    start, stop: samples of the stage to use, all of it by default.
    windows: equal parts that this span is cut into, four filters each; several windows tell
        diffusion during the stage from the state at its beginning.
    Raises ValueError for an unknown stage, a ramp, a dark stage or a span that does not fit.
    """
    span = sequence.span(stage)
    length = span.stop - span.start
    end: int = length if stop is None else stop
    if not 0 <= start < end <= length:
        raise ValueError(
            f"filter window: wanted 0 <= start < stop <= {length}, the samples of stage "
            f"{stage!r}, got start {start}, stop {end}; shorten the window"
        )
    if not 1 <= windows <= (end - start) // 4:
        raise ValueError(
            f"windows: wanted from 1 to {(end - start) // 4} for {end - start} samples, "
            f"got {windows}"
        )
    index = [s.name for s in sequence.stages].index(stage)
    controls = sequence.stages[index].controls
    if controls.is_ramp:
        raise ValueError(
            f"stage {stage!r}: wanted constant controls for matched filters, got a ramp"
        )
    if is_concrete(controls.nbar) and not np.all(np.asarray(controls.nbar) > 0):
        raise ValueError(
            f"stage {stage!r}: nbar: wanted light to measure with, a positive number, "
            f"got {controls.nbar}"
        )
    gains = quadrature_gains(params, controls, detector)
    if is_concrete(gains) and not np.any(np.asarray(gains)):
        raise ValueError(
            f"detector.quadratures: wanted one that holds a signal in stage {stage!r}, got "
            f"{detector.quadratures}; at delta_pc = 0 all of it is in 'Q'"
        )
    rest = params.omega_m if controls.omega_m is None else controls.omega_m
    t = jnp.asarray((np.arange(length) + 0.5) * sequence.sample_interval)
    re_m, im_m = average_response(rest, 1.0, params.gamma_m, params.sigma_m, t)
    re_s, im_s = average_response(params.omega_s, params.epsilon, 0.0, params.sigma_s, t)
    shapes = jnp.stack([re_m, -im_m, re_s, -im_s]) * sequence.sample_interval
    edges = np.linspace(start, end, windows + 1).round().astype(int)
    inside = np.zeros((windows, length))
    for w in range(windows):
        inside[w, edges[w] : edges[w + 1]] = 1.0
    cut = (shapes[None] * inside[:, None]).reshape(4 * windows, length)
    projected = cut[..., None] * (gains / jnp.sum(gains**2))[None, None]
    weights = jnp.zeros((4 * windows, sequence.n_samples, gains.shape[0]))
    base = ("Z_m", "P_m", "Z_s", "P_s")
    names = base if windows == 1 else tuple(f"{n}[{w}]" for w in range(windows) for n in base)
    return FilterBank(weights=weights.at[:, span].set(projected), names=names, stage=index)


def apply_filters(
    record: Float[Array, "shots samples quadratures"], bank: FilterBank
) -> Float[Array, "shots filters"]:
    """Return the filters' outputs q (S15) of every shot, rad.

    Raises ValueError if the record is not as long as the filters.
    """
    if record.ndim != 3 or record.shape[1:] != bank.weights.shape[1:]:
        raise ValueError(
            f"record: wanted (shots, {bank.weights.shape[1]}, {bank.weights.shape[2]}) for these "
            f"filters, got {record.shape}"
        )
    return jnp.einsum("ntk,ptk->np", record.astype(bank.weights.dtype), bank.weights)

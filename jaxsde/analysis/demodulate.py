"""Demodulation of a raw heterodyne trace into its quadratures I and Q."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def demodulate(
    raw: Float[Array, "*batch raw"],
    carrier: float,
    raw_interval: float,
    decimation: int,
    phase: float = 0.0,
) -> Float[Array, "*batch samples 2"]:
    """Return I and Q of y = I cos(theta) - Q sin(theta), averaged over `decimation` raw samples.

    theta(t) = 2 pi carrier t + phase, t from the beginning of the trace, raw samples in the middles
    of their intervals; I = <2 y cos>, Q = -<2 y sin> over every interval of the result.  These are
    the samples of S10: averages over their intervals.  That is y = Re[a exp(-i theta)], a = I - iQ,
    of a probe above the local oscillator; give a negative carrier for one below it.
    carrier: Hz.  raw_interval: s.  phase: rad.  Raw samples beyond the last whole interval are left
    out.  White noise of two-sided density S in y gives 2 S in each quadrature.
    Raises ValueError for a carrier that is not sampled, or intervals that are no whole number of
    its cycles, whose image at twice the carrier would not average out.
    """
    weights = quadrature_weights(carrier, raw_interval, decimation, phase)
    n = raw.shape[-1] // decimation
    if n == 0:
        raise ValueError(
            f"raw: wanted at least the {decimation} samples of one interval, got {raw.shape[-1]}"
        )
    blocks = raw[..., : n * decimation].reshape(*raw.shape[:-1], n, decimation)
    return jnp.matmul(blocks, jnp.asarray(weights, raw.dtype))


def quadrature_weights(
    carrier: float, raw_interval: float, decimation: int, phase: float = 0.0
) -> Float[np.ndarray, "decimation 2"]:
    """Return the weights of raw samples in I and Q; the same in every interval (see demodulate)."""
    if not (np.isfinite(raw_interval) and raw_interval > 0):
        raise ValueError(f"raw_interval: wanted a positive time in s, got {raw_interval}")
    if decimation < 1:
        raise ValueError(f"decimation: wanted at least one raw sample, got {decimation}")
    rate = 1 / raw_interval
    if not 0 < abs(carrier) < rate / 2:
        raise ValueError(
            f"carrier: wanted a frequency below {rate / 2:g} Hz, half the sampling rate, and not "
            f"0, got {carrier:g} Hz; digitise faster"
        )
    cycles = abs(carrier) * raw_interval * decimation
    # Digitisers write their intervals as rounded floats: a part in a million is no error of theirs.
    if abs(cycles - round(cycles)) > 1e-6 * cycles or round(cycles) == 0:
        raise ValueError(
            f"decimation: wanted intervals of whole cycles of the {abs(carrier):g} Hz carrier, got "
            f"{cycles:.6g} cycles in {decimation} raw samples of {raw_interval:g} s; "
            f"choose a multiple of {1 / abs(carrier):g} s"
        )
    turn = 2 * np.pi * np.sign(carrier) * round(cycles)
    theta = turn * (np.arange(decimation) + 0.5) / decimation + phase
    return np.stack([np.cos(theta), -np.sin(theta)], axis=1) * 2 / decimation

"""Zero-phase IIR filters on the device: coefficients by SciPy, recursion in blocks of samples."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal
from jaxtyping import Array, Float

# Coefficients as nested tuples hash by value, so that compiled functions can be keyed by them.
Sections = tuple[tuple[float, ...], ...]


def hashable(sos: np.ndarray) -> Sections:
    """Return second-order sections as nested tuples."""
    return tuple(tuple(float(c) for c in row) for row in sos)


def band_pass(band: tuple[float, float], sample_interval: float, order: int = 4) -> np.ndarray:
    """Return second-order sections of a Butterworth band-pass between two frequencies (Hz).

    Raises ValueError unless 0 < low < high < half the sampling rate.
    """
    low, high = band
    nyquist = 0.5 / sample_interval
    if not 0 < low < high < nyquist:
        raise ValueError(
            f"band: wanted 0 < low < high < {nyquist:g} Hz, half the sampling rate, "
            f"got ({low:g}, {high:g}) Hz"
        )
    rate = 1 / sample_interval
    return np.asarray(scipy.signal.butter(order, band, "bandpass", fs=rate, output="sos"))


def low_pass(cutoff: float, sample_interval: float, order: int = 2) -> np.ndarray:
    """Return second-order sections of a Butterworth low-pass (Hz).

    Raises ValueError unless 0 < cutoff < half the sampling rate.
    """
    nyquist = 0.5 / sample_interval
    if not 0 < cutoff < nyquist:
        raise ValueError(
            f"cycle_average: wanted a frequency above 0 and below {nyquist:g} Hz, half the "
            f"sampling rate, got {cutoff:g} Hz"
        )
    rate = 1 / sample_interval
    return np.asarray(scipy.signal.butter(order, cutoff, "lowpass", fs=rate, output="sos"))


_PADDINGS = ("odd", "even", "constant", None)
# Samples that one matrix product filters; 48 to 64 are fastest (bench/signal_chain.py).
BLOCK = 64


@functools.lru_cache(maxsize=64)
def _block_maps(sections: Sections, length: int) -> tuple[np.ndarray, ...]:
    """Return (H, O, C, A) of a cascade over `length` samples,  y = H x + O z,  z' = C x + A z.

    z: both states of every section (direct form II transposed).  Made by SciPy's own recursion
    from unit inputs and unit states, so that no power of a matrix loses digits.
    """
    sos = np.array(sections)
    states = 2 * len(sos)
    zi = np.moveaxis(np.eye(states).reshape(states, len(sos), 2), 0, 1)
    forced, driven = scipy.signal.sosfilt(sos, np.eye(length), zi=np.zeros((len(sos), length, 2)))
    free, kept = scipy.signal.sosfilt(sos, np.zeros((states, length)), zi=zi)
    driven, kept = (np.moveaxis(z, 1, 0).reshape(-1, states) for z in (driven, kept))
    return forced.T, free.T, driven.T, kept.T


def sosfilt(
    sos: np.ndarray,
    x: Float[Array, "*batch samples"],
    zi: Float[Array, "..."] | None = None,
):
    """Filter along the last axis, as scipy.signal.sosfilt: y, or with zi given (y, zf).

    Each section is  y = b0 x + z1,  z1 = b1 x - a1 y + z2,  z2 = b2 x - a2 y  (direct form II
    transposed).  The cascade is one linear system of states z; BLOCK samples at a time go through
    it in one matrix product, and only z passes from block to block.
    sos: concrete coefficients.  zi: (sections, *batch, 2), before the first sample; zero if None.
    """
    batch, n = x.shape[:-1], x.shape[-1]
    key, states = hashable(sos), 2 * len(sos)
    flat = x.reshape(math.prod(batch), n)
    if zi is None:
        z = jnp.zeros((flat.shape[0], states), x.dtype)
    else:
        wanted = (len(sos), *batch, 2)
        if zi.shape != wanted:
            raise ValueError(
                f"zi: wanted shape {wanted}, two states for each section and signal, got {zi.shape}"
            )
        z = jnp.moveaxis(zi.astype(x.dtype), 0, -2).reshape(flat.shape[0], states)
    whole = n - n % BLOCK
    parts = []
    if whole:
        y, z = _whole_blocks(key, flat[:, :whole], z)
        parts.append(y)
    if n > whole:
        h, o, c, a = _maps(key, n - whole, x.dtype)
        rest = flat[:, whole:]
        parts.append(_times(rest, h) + _times(z, o))
        z = _times(rest, c) + _times(z, a)
    out = (jnp.concatenate(parts, axis=1) if parts else flat).reshape(x.shape)
    if zi is None:
        return out
    return out, jnp.moveaxis(z.reshape(*batch, len(sos), 2), -2, 0)


def _maps(key: Sections, length: int, dtype) -> list[Array]:
    return [jnp.asarray(m, dtype) for m in _block_maps(key, length)]


def _times(x: Array, matrix: Array) -> Array:
    return jnp.matmul(x, matrix.T, precision=jax.lax.Precision.HIGHEST)


def _whole_blocks(key: Sections, x: Array, z: Array) -> tuple[Array, Array]:
    h, o, c, a = _maps(key, BLOCK, x.dtype)
    blocks = x.reshape(x.shape[0], -1, BLOCK)

    def body(z, drive):
        return drive + _times(z, a), z

    z, before = jax.lax.scan(body, z, jnp.moveaxis(_times(blocks, c), 1, 0))
    y = _times(blocks, h) + _times(jnp.moveaxis(before, 0, 1), o)
    return y.reshape(x.shape), z


def padding_length(sos: np.ndarray) -> int:
    """Return the samples that sosfiltfilt adds at each end, SciPy's rule."""
    trailing = min(int((sos[:, 2] == 0).sum()), int((sos[:, 5] == 0).sum()))
    return 3 * (2 * len(sos) + 1 - trailing)


def sosfiltfilt(
    sos: np.ndarray,
    x: Float[Array, "*batch samples"],
    *,
    padtype: str | None = "odd",
    padlen: int | None = None,
) -> Float[Array, "*batch samples"]:
    """Filter forwards and backwards, with no phase, as scipy.signal.sosfiltfilt.

    Both passes start from the steady state of their first sample.
    padtype: how a record goes on at its ends: "odd", "even", "constant" or None, not at all.
    padlen: samples added at each end; SciPy's rule unless given.
    Raises ValueError if a record is no longer than the padding, or for another padtype.
    """
    if padtype not in _PADDINGS:
        raise ValueError(f"padtype: wanted one of {_PADDINGS}, got {padtype!r}")
    pad = padding_length(sos) if padlen is None else padlen
    pad, n = (0 if padtype is None else pad), x.shape[-1]
    if pad < 0 or n <= pad:
        raise ValueError(f"record: wanted more than {pad} samples for this filter, got {n}")
    wide = _extended(x, pad, padtype)
    steady = jnp.asarray(scipy.signal.sosfilt_zi(sos), x.dtype)
    steady = steady.reshape(len(sos), *[1] * (x.ndim - 1), 2)

    def once(signal):
        return sosfilt(sos, signal, steady * signal[None, ..., :1])[0]

    there = once(wide)
    back = once(there[..., ::-1])[..., ::-1]
    return back[..., pad : pad + n]


def _extended(x: Array, pad: int, padtype: str | None) -> Array:
    if pad == 0:
        return x
    left, right = x[..., pad:0:-1], x[..., -2 : -pad - 2 : -1]
    if padtype == "odd":
        left, right = 2 * x[..., :1] - left, 2 * x[..., -1:] - right
    elif padtype == "constant":
        left = jnp.broadcast_to(x[..., :1], left.shape)
        right = jnp.broadcast_to(x[..., -1:], right.shape)
    return jnp.concatenate([left, x, right], axis=-1)


def filter_matrix(sos: np.ndarray, n: int) -> np.ndarray:
    """Return the matrix F of sosfiltfilt on n samples, y = F x: it is linear, padding and all."""
    return scipy.signal.sosfiltfilt(sos, np.eye(n), axis=0)


def noise_bandwidth(sos: np.ndarray, sample_interval: float, *, undo_box: bool = False) -> float:
    """Return the bandwidth (Hz) of white noise that passes sosfiltfilt:  int_0^(1/2dt) |H|^4 df.

    White noise of two-sided density S leaves with the variance 2 S f_BW, far from a record's ends.
    undo_box: with the correction of `undo_box_average` before it, as S11 is applied here.
    """
    rate = 1 / sample_interval
    frequency = np.linspace(0.0, rate / 2, 2**15 + 1)
    points: Any = frequency  # the stubs know only a number of points
    _, h = scipy.signal.freqz_sos(sos, points, fs=rate)
    power = np.abs(h) ** 4
    if undo_box:
        power = power * (1 + (1 - np.cos(2 * np.pi * frequency / rate)) / 12) ** 2
    return float(np.trapezoid(power, frequency))


def undo_box_average(x: Float[Array, "*batch samples"]) -> Float[Array, "*batch samples"]:
    """Undo the loss 1 - (omega dt)^2/24 that averaging over a sample does to a slow signal.

    y_t = x_t - (x_{t-1} - 2 x_t + x_{t+1})/24; within 0.3 % of exact up to omega dt = 0.9.
    """
    wide = jnp.concatenate([x[..., :1], x, x[..., -1:]], axis=-1)
    return x - (wide[..., 2:] - 2 * x + wide[..., :-2]) / 24

"""Zero-phase IIR filters on the device: coefficients by SciPy, recursion by a scan over time."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal
from jaxtyping import Array, Float


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


def sosfilt(
    sos: np.ndarray, x: Float[Array, "*batch samples"], zi: Float[Array, "sections 2 *batch"]
) -> Float[Array, "*batch samples"]:
    """Filter along the last axis, starting from the sections' states zi, as scipy.signal.sosfilt.

    Direct form II transposed:  y = b0 x + z1,  z1 = b1 x - a1 y + z2,  z2 = b2 x - a2 y.
    """
    coefficients = [[float(c) for c in section] for section in sos]

    def body(state, value):
        after = []
        for (b0, b1, b2, _, a1, a2), (z1, z2) in zip(coefficients, state, strict=True):
            out = b0 * value + z1
            after.append((b1 * value - a1 * out + z2, b2 * value - a2 * out))
            value = out
        return tuple(after), value

    # States apart: stacked into one array they would be copied at every sample.
    start = tuple((z[0], z[1]) for z in zi)
    _, y = jax.lax.scan(body, start, jnp.moveaxis(x, -1, 0))
    return jnp.moveaxis(y, 0, -1)


def padding_length(sos: np.ndarray) -> int:
    """Return the samples that sosfiltfilt adds at each end, SciPy's rule."""
    trailing = min(int((sos[:, 2] == 0).sum()), int((sos[:, 5] == 0).sum()))
    return 3 * (2 * len(sos) + 1 - trailing)


def sosfiltfilt(
    sos: np.ndarray, x: Float[Array, "*batch samples"]
) -> Float[Array, "*batch samples"]:
    """Filter forwards and backwards, with no phase, as scipy.signal.sosfiltfilt (odd padding).

    Raises ValueError if a record is no longer than the padding.
    """
    pad, n = padding_length(sos), x.shape[-1]
    if n <= pad:
        raise ValueError(f"record: wanted more than {pad} samples for this filter, got {n}")
    left = 2 * x[..., :1] - x[..., pad:0:-1]
    right = 2 * x[..., -1:] - x[..., -2 : -pad - 2 : -1]
    wide = jnp.concatenate([left, x, right], axis=-1)
    steady = jnp.asarray(scipy.signal.sosfilt_zi(sos), x.dtype)
    steady = steady.reshape(*steady.shape, *[1] * (x.ndim - 1))

    def once(signal):
        return sosfilt(sos, signal, steady * signal[..., 0][None, None])

    there = once(wide)
    back = once(there[..., ::-1])[..., ::-1]
    return back[..., pad : pad + n]


def filter_matrix(sos: np.ndarray, n: int) -> np.ndarray:
    """Return the matrix F of sosfiltfilt on n samples, y = F x: it is linear, padding and all."""
    return scipy.signal.sosfiltfilt(sos, np.eye(n), axis=0)


def undo_box_average(x: Float[Array, "*batch samples"]) -> Float[Array, "*batch samples"]:
    """Undo the loss 1 - (omega dt)^2/24 that averaging over a sample does to a slow signal.

    y_t = x_t - (x_{t-1} - 2 x_t + x_{t+1})/24; within 0.3 % of exact up to omega dt = 0.9.
    """
    wide = jnp.concatenate([x[..., :1], x, x[..., -1:]], axis=-1)
    return x - (wide[..., 2:] - 2 * x + wide[..., :-2]) / 24

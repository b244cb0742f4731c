"""Power spectra of records: Welch's averaged periodograms shot by shot, and spectrograms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def hann(length: int) -> Float[Array, "length"]:
    """Return the periodic Hann window."""
    return jnp.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length))


def frequencies(length: int, dt: float) -> Float[np.ndarray, "frequencies"]:
    """Return the frequencies (Hz) of `welch` for windows of length samples of dt (s)."""
    return np.fft.rfftfreq(length, dt)


def welch(
    record: Float[Array, "shots samples quadratures"],
    window: Float[Array, "length"],
    hop: int,
    dt: float,
) -> Float[Array, "shots frequencies quadratures"]:
    """Return the two-sided spectral density of every shot, at f = 0 ... 1/(2 dt).

    S(f) = dt/sum w^2 |sum_t w_t y_t exp(-2 pi i f t)|^2, the mean over windows that start every
    `hop` samples; record unit^2/Hz.  No mean is removed.
    Raises ValueError if the record is shorter than the window or hop is below 1.
    """
    length = window.shape[0]
    if not (isinstance(hop, int) and hop >= 1):
        raise ValueError(f"hop: wanted an integer of at least 1, got {hop!r}")
    if record.shape[1] < length:
        raise ValueError(
            f"record: wanted at least the {length} samples of the window, got {record.shape[1]}; "
            "shorten the window"
        )
    return _welch(record, window, hop, dt)


@functools.partial(jax.jit, static_argnames=("hop",))
def _welch(record, window, hop, dt):
    length = window.shape[0]
    starts = range(0, record.shape[1] - length + 1, hop)
    scale = window.astype(record.dtype)[None, :, None]
    total = 0.0
    for start in starts:
        spectrum = jnp.fft.rfft(record[:, start : start + length] * scale, axis=1)
        total = total + jnp.abs(spectrum) ** 2
    return total * (dt / (len(starts) * jnp.sum(window**2))).astype(record.dtype)


def spectrogram(
    record: Float[Array, "shots samples quadratures"],
    window: Float[Array, "length"],
    hop: int,
    dt: float,
) -> Float[Array, "frames frequencies quadratures"]:
    """Return the mean over shots of the periodogram of every window (Fig. 2a), two-sided.

    Frame k is centred on (k hop + length/2) dt; densities as in `welch`, record unit^2/Hz.
    Raises ValueError as `welch`.
    """
    length = window.shape[0]
    if not (isinstance(hop, int) and hop >= 1):
        raise ValueError(f"hop: wanted an integer of at least 1, got {hop!r}")
    if record.shape[1] < length:
        raise ValueError(
            f"record: wanted at least the {length} samples of the window, got {record.shape[1]}; "
            "shorten the window"
        )
    return _spectrogram(record, window.astype(record.dtype), hop, dt)


@functools.partial(jax.jit, static_argnames=("hop",))
def _spectrogram(record, window, hop, dt):
    length = window.shape[0]
    starts = jnp.arange(0, record.shape[1] - length + 1, hop)

    def frame(start):
        part = jax.lax.dynamic_slice_in_dim(record, start, length, axis=1)
        power = jnp.abs(jnp.fft.rfft(part * window[None, :, None], axis=1)) ** 2
        return power.mean(axis=0)

    scale = dt / jnp.sum(window**2)
    return jax.lax.map(frame, starts) * jnp.asarray(scale, record.dtype)

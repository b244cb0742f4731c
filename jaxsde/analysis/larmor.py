"""Frequency of a line in every shot, and its spread from shot to shot without estimation noise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.analysis.spectra import hann
from jaxsde.physics.params import TWO_PI

# Points of the grid for each width of a window's line; Newton's steps after it.
GRID, STEPS = 6, 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrequencySpread:
    """Hold the spread of a line's frequency, sigma_s for the spin.

    mean, mean_stderr: rad/s.  variance, variance_stderr: of the frequency itself, (rad/s)^2; an
    unbiased estimate, which may be negative where sigma is not resolved.  noise: variance that
    estimation adds to `each`, the frequency of every shot over its whole length, rad/s.
    """

    mean: float
    mean_stderr: float
    variance: float
    variance_stderr: float
    noise: float
    each: Float[np.ndarray, "shots"]

    @property
    def sigma(self) -> float:
        """Standard deviation, rad/s; 0 where the variance is not positive."""
        return float(np.sqrt(max(self.variance, 0.0)))

    @property
    def sigma_stderr(self) -> float:
        """Standard error of sigma, rad/s, to first order; infinite where sigma is 0."""
        return self.variance_stderr / (2 * self.sigma) if self.sigma > 0 else float("inf")


@jax.jit
def _peak(signal, t, window, omegas):
    """Return (frequency of the largest power, that power) of every shot, by Newton's steps."""
    weighted = signal * window[None]

    def transform(omega):
        """Return X = sum w y exp(-i omega t) of every shot, and two derivatives along omega."""
        turn = omega[:, None] * t[None]
        cos, sin = weighted * jnp.cos(turn), -weighted * jnp.sin(turn)
        # (real, imaginary) of X;  X' = -i sum t ..., X'' = -sum t^2 ...
        x0 = cos.sum(axis=1), sin.sum(axis=1)
        x1 = sin @ t, -(cos @ t)
        x2 = -(cos @ t**2), -(sin @ t**2)
        return x0, x1, x2

    def dot(a, b):
        return a[0] * b[0] + a[1] * b[1]

    phases = t[:, None] * omegas[None]
    power = (weighted @ jnp.cos(phases)) ** 2 + (weighted @ jnp.sin(phases)) ** 2
    start = omegas[jnp.argmax(power, axis=1)]
    spacing = omegas[1] - omegas[0]

    def body(_, omega):
        x0, x1, x2 = transform(omega)
        slope, curvature = dot(x0, x1), dot(x1, x1) + dot(x0, x2)
        step = jnp.where(curvature < 0, -slope / curvature, 0.0)
        return jnp.clip(omega + step, start - spacing, start + spacing)

    omega = jax.lax.fori_loop(0, STEPS, body, start)
    x0, _, _ = transform(omega)
    return omega, dot(x0, x0)


def line_frequencies(
    signal: Float[Array, "shots samples"], dt: float, omega: float, reach: float
) -> tuple[Float[np.ndarray, "shots"], Float[np.ndarray, "shots"]]:
    """Return (frequency, power) of the largest peak of each shot within omega +- reach (rad/s).

    Peak of |sum_t w_t y_t exp(-i omega t)|^2 with a Hann window, which keeps other lines out; in
    white noise of density S, Var omega = 28.1 S/(T^3 <y^2>) for a line of mean square <y^2>.
    dt: s.  power: the peak's, unit^2.
    Raises ValueError for a reach of less than the resolution 2 pi/T, or beyond the sampling.
    """
    n = signal.shape[1]
    resolution = TWO_PI / (n * dt)
    if not resolution <= reach < min(omega, np.pi / dt - omega):
        raise ValueError(
            f"reach: wanted from {resolution:.4g} rad/s, the resolution of {n * dt:g} s, to below "
            f"{min(omega, np.pi / dt - omega):.4g}, got {reach:.4g}; take longer records or "
            "another reach"
        )
    points = 2 * int(np.ceil(GRID * reach / resolution)) + 1
    omegas = jnp.asarray(np.linspace(omega - reach, omega + reach, points))
    t = jnp.asarray((np.arange(n) - (n - 1) / 2) * dt)
    found, power = _peak(signal, t, hann(n).astype(signal.dtype), omegas)
    return np.asarray(found), np.asarray(power)


def frequency_spread(
    signal: Float[Array, "shots samples"],
    dt: float,
    omega: float,
    reach: float,
    *,
    still: Float[Array, "others samples"] | None = None,
) -> FrequencySpread:
    """Return the spread of a line's frequency over shots, with the noise of estimation removed.

    Without `still`: the covariance over shots of the frequencies in the first and the second half.
    Noise and diffusion in one half know nothing of the other's, so that only what is constant
    within a shot remains.  Shots are weighted by the power that they show.
    still: shots whose frequency does not vary (simulated with sigma = 0, or locked), alike in all
        else: what their frequencies scatter is subtracted.  Whole lengths are used, whose
        estimation noise is 8 times smaller.
    Raises ValueError for fewer than 8 shots, or a reach that `line_frequencies` refuses.
    """
    if signal.shape[0] < 8:
        raise ValueError(f"signal: wanted at least 8 shots for a spread, got {signal.shape[0]}")
    each, _ = line_frequencies(signal, dt, omega, reach)
    if still is not None:
        return _less(each, line_frequencies(still, dt, omega, reach)[0])
    first, second = halves(signal, dt, omega, reach)
    return spread_of_halves(each, first, second)


def halves(signal: Float[Array, "shots samples"], dt: float, omega: float, reach: float):
    """Return (frequency, power) of every shot's first half, and of its second (see above)."""
    half = signal.shape[1] // 2
    parts = signal[:, :half], signal[:, -half:]
    return tuple(line_frequencies(part, dt, omega, reach) for part in parts)


def spread_of_halves(
    each: Float[np.ndarray, "shots"], first: tuple, second: tuple
) -> FrequencySpread:
    """Return the spread from the frequencies of whole shots and (frequency, power) of halves."""
    (f_1, p_1), (f_2, p_2) = first, second
    weights = p_1 * p_2 / (p_1 * p_2 + np.median(p_1 * p_2))
    weights = weights / weights.sum()
    a, b = f_1 - weights @ f_1, f_2 - weights @ f_2
    # Means of the same shots take away part of the covariance.
    lost = 1 - weights @ weights
    variance = float(weights @ (a * b) / lost)
    error = float(np.sqrt(weights**2 @ (a * b - weights @ (a * b)) ** 2) / lost)
    total = float(weights @ (each - weights @ each) ** 2 / lost)
    return FrequencySpread(
        mean=float(weights @ each),
        mean_stderr=float(np.sqrt(weights**2 @ (each - weights @ each) ** 2)),
        variance=variance,
        variance_stderr=error,
        noise=total - variance,
        each=each,
    )


def _less(each: np.ndarray, still: np.ndarray) -> FrequencySpread:
    """Return the spread from a difference of variances."""
    parts = []
    for x in (each, still):
        square = (x - x.mean()) ** 2
        parts.append((x.var(ddof=1), square.var(ddof=1) / len(x)))
    (total, error), (noise, noise_error) = parts
    return FrequencySpread(
        mean=float(each.mean()),
        mean_stderr=float(np.sqrt(total / len(each))),
        variance=float(total - noise),
        variance_stderr=float(np.sqrt(error + noise_error)),
        noise=float(noise),
        each=each,
    )

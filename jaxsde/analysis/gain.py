"""Fit of the instability gain to the growth of the mean squared displacement (S12)."""

import dataclasses
from collections.abc import Sequence as Series

import jax
import numpy as np
import scipy.optimize
from jaxtyping import Float

from jaxsde.analysis.displacement import MeanSquaredDisplacement

Vector = Float[np.ndarray, "traces"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GainFit:
    """Hold the fit of S12 to one or more traces that share D_0.

    gain: G_+, 1/s.  diffusion: growth rate of D^2, (rad/s)^2/s (S12's own B_s).  D_0: (rad/s)^2.
    at_bound: where the diffusion sits on its bound 0, so that the errors hold it there.
    *_stat: standard errors from the scatter of the shots.  gain_sys: half the range of G_+ over
    fit windows whose length is changed by +-10 %, as in the paper.
    chi2: weighted sum of squared residuals; neighbouring samples are correlated, so it has no
    chi-squared distribution.  start, stop: of the window, s.  converged: of the optimiser.
    """

    gain: Vector
    gain_stat: Vector
    gain_sys: Vector
    diffusion: Vector
    diffusion_stat: Vector
    at_bound: np.ndarray
    D_0: float
    D_0_stat: float
    chi2: float
    n_points: int
    start: float
    stop: float
    converged: bool

    @property
    def gain_error(self) -> Vector:
        """Statistical and systematic error of G_+, added in squares (1/s)."""
        return np.hypot(self.gain_stat, self.gain_sys)


def growth(t: np.ndarray, d_0: float, gain: float, diffusion: float) -> np.ndarray:
    """Return D_fit = D_0 e^{G t} + (b/G)(e^{G t} - 1) (S12), also at G = 0; t in s."""
    x = gain * t
    small = np.abs(x) < 1e-6
    safe = np.where(small, 1.0, x)
    ratio = np.where(small, 1 + x / 2, np.expm1(safe) / safe)
    return d_0 * np.exp(x) + diffusion * t * ratio


def fit_gain(
    traces: Series[MeanSquaredDisplacement],
    *,
    start: float,
    stop: float,
    origin: float | None = None,
) -> GainFit:
    """Fit S12 to traces with a common D_0 and each its own G_+ and diffusion.

    Least squares, weighted by each sample's standard error.  Neighbouring samples are strongly
    correlated, so the errors come from the scatter of whole shots: with W the weights and J the
    Jacobian, a shot moves the estimate by (J^T W J)^-1 J^T W (its trace - the mean).
    start, stop: window in s on the traces' time axis.  origin: where t = 0 of S12 lies; start
    unless given.  Raises ValueError for a window without enough samples or a single shot.
    """
    if not traces:
        raise ValueError("traces: wanted at least one MeanSquaredDisplacement, got none")
    origin = start if origin is None else origin
    best = _fit(traces, start, stop, origin)
    length = stop - start
    ends = [_window_end(traces, start, start + f * length) for f in (0.9, 1.1)]
    varied = [_fit(traces, start, end, origin, best["x"])["x"] for end in ends]
    gains = np.stack([v[1::2] for v in (best["x"], *varied)])
    error = best["error"]
    return GainFit(
        gain=best["x"][1::2],
        gain_stat=error[1::2],
        gain_sys=np.ptp(gains, axis=0) / 2,
        diffusion=best["x"][2::2],
        diffusion_stat=error[2::2],
        at_bound=best["at_bound"][2::2],
        D_0=float(best["x"][0]),
        D_0_stat=float(error[0]),
        chi2=best["chi2"],
        n_points=best["n_points"],
        start=start,
        stop=stop,
        converged=best["converged"],
    )


def _window_end(traces: Series[MeanSquaredDisplacement], start: float, end: float) -> float:
    """Return end, or the last sample's time where the record stops before it."""
    return min(end, min(float(trace.time[-1]) for trace in traces))


def _fit(
    traces: Series[MeanSquaredDisplacement],
    start: float,
    stop: float,
    origin: float,
    guess: np.ndarray | None = None,
) -> dict:
    """Return the minimum, its errors and its chi2; x = (D_0, G_1, b_1, G_2, b_2, ...)."""
    cut = [_cut(trace, start, stop) for trace in traces]
    times = [t - origin for t, *_ in cut]
    # Scaled unknowns: D_0 and b in units of the first trace's mean, G in units of 1/window.
    unit = max(float(np.mean([mean.mean() for _, mean, _, _ in cut])), 1e-300)
    rate = 1 / (stop - start)
    scale = np.array([unit] + [rate, unit * rate] * len(cut))

    def residuals(x):
        x = x * scale
        return np.concatenate(
            [
                (growth(t, x[0], x[1 + 2 * i], x[2 + 2 * i]) - mean) / sigma
                for i, (t, (_, mean, sigma, _)) in enumerate(zip(times, cut, strict=True))
            ]
        )

    if guess is None:
        starts = [np.array([0.3] + [g, 0.3] * len(cut)) for g in (0.5, 2.0, 4.0)]
    else:
        starts = [guess / scale]
    # D_0 and the diffusions are powers, so not negative; a gain may have either sign.
    lower = np.array([0.0] + [-np.inf, 0.0] * len(cut))
    fits = [
        scipy.optimize.least_squares(residuals, np.maximum(s, lower + 1e-9), bounds=(lower, np.inf))
        for s in starts
    ]
    best = min(fits, key=lambda fit: fit.cost)
    held = best.active_mask != 0
    return dict(
        x=best.x * scale,
        error=_errors(best.jac, held, [each / sigma for _, _, sigma, each in cut]) * scale,
        at_bound=held,
        chi2=2 * float(best.cost),
        n_points=best.fun.size,
        converged=bool(best.success),
    )


def _cut(trace: MeanSquaredDisplacement, start: float, stop: float):
    """Return (time, mean, stderr, each - mean) inside the window."""
    inside = (trace.time >= start) & (trace.time <= stop)
    if inside.sum() < 4 or trace.each.shape[0] < 2:
        raise ValueError(
            f"fit window {start * 1e6:g} to {stop * 1e6:g} us: wanted at least 4 samples and 2 "
            f"shots to fit, got {int(inside.sum())} samples and {trace.each.shape[0]} shots"
        )
    mean = np.asarray(trace.mean, float)[inside]
    each = np.asarray(trace.each, float)[:, inside] - mean
    sigma = np.asarray(trace.stderr, float)[inside]
    if not np.all(np.isfinite(mean)):
        raise ValueError("mean squared displacement: wanted finite numbers, got NaN or infinity")
    return trace.time[inside], mean, sigma, each


def _errors(jacobian: np.ndarray, held: np.ndarray, deviations: list[np.ndarray]) -> np.ndarray:
    """Return standard errors from each shot's influence; traces are independent ensembles.

    held: unknowns that sit on their bound; they have no error of this kind.
    """
    pull = np.zeros_like(jacobian.T)
    pull[~held] = np.linalg.pinv(jacobian[:, ~held])
    variance, first = np.zeros(len(pull)), 0
    for each in deviations:
        shots, width = each.shape
        moved = each @ pull[:, first : first + width].T
        variance += np.sum(moved**2, axis=0) / (shots * (shots - 1))
        first += width
    return np.sqrt(variance)

"""Fit of the instability gain to the growth of the mean squared displacement (S12)."""

import dataclasses
from collections.abc import Sequence as Series

import jax
import numpy as np
import scipy.optimize
from jaxtyping import Float

from jaxsde.analysis.displacement import MeanSquaredDisplacement, Scatter

Vector = Float[np.ndarray, "traces"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GainFit:
    """Hold the fit of S12 to one or more traces that share D_0.

    gain: G_+, 1/s.  diffusion: growth rate of D^2, (rad/s)^2/s (S12's own B_s).  D_0: (rad/s)^2.
    at_bound, D_0_at_bound: where a diffusion, or D_0, sits on its bound 0; the errors of the
        others then hold it there, and are too small by what it would have added.  Gains
        are bounded by 0 too, but keep their errors.
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
    D_0_at_bound: bool = False
    chi2: float
    n_points: int
    start: Vector
    stop: Vector
    converged: bool

    @property
    def gain_error(self) -> Vector:
        """Statistical and systematic error of G_+, added in squares (1/s)."""
        return np.hypot(self.gain_stat, self.gain_sys)


def growth(t: np.ndarray, d_0: float, gain: float, diffusion: float) -> np.ndarray:
    """Return D_fit = D_0 e^{G t} + (b/G)(e^{G t} - 1) (S12), also at G = 0; t in s."""
    x = gain * t
    return d_0 * np.exp(x) + diffusion * t * _phi(x)[0]


def _phi(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return phi(x) = (e^x - 1)/x and its derivative, by series near 0."""
    small = np.abs(x) < 1e-4
    safe = np.where(small, 1.0, x)
    phi = np.where(small, 1 + x / 2 + x**2 / 6, np.expm1(safe) / safe)
    slope = np.where(small, 0.5 + x / 3 + x**2 / 8, (np.exp(safe) - phi) / safe)
    return phi, slope


def _growth_slopes(t: np.ndarray, d_0: float, gain: float, diffusion: float) -> np.ndarray:
    """Return the derivatives of growth along D_0, G and b, shape (times, 3)."""
    x = gain * t
    phi, slope = _phi(x)
    e = np.exp(x)
    return np.stack([e, d_0 * t * e + diffusion * t**2 * slope, t * phi], axis=1)


def fit_gain(
    traces: Series[MeanSquaredDisplacement],
    *,
    start: float | Series[float],
    stop: float | Series[float],
    origin: float | Series[float] | None = None,
) -> GainFit:
    """Fit S12 to traces with a common D_0 and each its own G_+ and diffusion.

    Least squares, weighted by each sample's standard error.  Neighbouring samples are strongly
    correlated, so the errors come from the scatter of whole shots: with W the weights and J the
    Jacobian, a shot moves the estimate by (J^T W J)^-1 J^T W (its trace - the mean).
    start, stop: window in s on the traces' time axis, one for all or one for each.
    origin: where t = 0 of S12 lies; start unless given.
    Raises ValueError for a window without enough samples or a single shot.
    """
    n = len(traces)
    if n == 0:
        raise ValueError("traces: wanted at least one MeanSquaredDisplacement, got none")
    first, final, zero = (
        np.broadcast_to(np.asarray(v, float), (n,))
        for v in (start, stop, start if origin is None else origin)
    )
    best = _fit(traces, first, final, zero)
    last = np.array([float(trace.time[-1]) for trace in traces])
    varied = [
        _fit(traces, first, np.minimum(first + f * (final - first), last), zero, best["x"])["x"]
        for f in (0.9, 1.1)
    ]
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
        D_0_at_bound=bool(best["at_bound"][0]),
        chi2=best["chi2"],
        n_points=best["n_points"],
        start=first,
        stop=final,
        converged=best["converged"],
    )


def _fit(
    traces: Series[MeanSquaredDisplacement],
    start: Vector,
    stop: Vector,
    origin: Vector,
    guess: np.ndarray | None = None,
) -> dict:
    """Return the minimum, its errors and its chi2; x = (D_0, G_1, b_1, G_2, b_2, ...)."""
    cut = [_cut(trace, a, b) for trace, a, b in zip(traces, start, stop, strict=True)]
    times = [t - o for (t, *_), o in zip(cut, origin, strict=True)]
    # Scaled unknowns: D_0 and b in units of the traces' size, G in units of 1/window.  Noise can
    # make their mean negative, never their mean modulus.
    unit = float(np.mean([np.abs(mean).mean() for _, mean, _, _ in cut]))
    rate = 1 / float(np.mean(stop - start))
    scale = np.array([unit] + [rate, unit * rate] * len(cut))
    edges = np.cumsum([0] + [len(t) for t in times])

    def residuals(x):
        x = x * scale
        return np.concatenate(
            [
                (growth(t, x[0], x[1 + 2 * i], x[2 + 2 * i]) - mean) / sigma
                for i, (t, (_, mean, sigma, _)) in enumerate(zip(times, cut, strict=True))
            ]
        )

    def jacobian(x):
        x = x * scale
        j = np.zeros((edges[-1], x.size))
        for i, (t, (_, _, sigma, _)) in enumerate(zip(times, cut, strict=True)):
            slopes = _growth_slopes(t, x[0], x[1 + 2 * i], x[2 + 2 * i]) / sigma[:, None]
            j[edges[i] : edges[i + 1], [0, 1 + 2 * i, 2 + 2 * i]] = slopes
        return j * scale

    # Powers are not negative, nor is the gain of an amplified mode; without these bounds a trace
    # that does not grow is fitted by a decay of any speed.
    lower = np.zeros(scale.size)
    if guess is None:
        starts = [np.array([0.3] + [g, 0.3] * len(cut)) for g in (0.5, 2.0, 4.0)]
    else:
        starts = [guess / scale]
    fits = [
        scipy.optimize.least_squares(
            residuals,
            np.maximum(s, 1e-9),
            jac=jacobian,  # pyright: ignore[reportArgumentType]  (the stubs know only strings)
            bounds=(lower, np.inf),
        )
        for s in starts
    ]
    best = min(fits, key=lambda fit: fit.cost)
    held = best.active_mask != 0
    # A gain at its bound still gets the error it would have inside.
    held[1::2] = False
    return dict(
        x=best.x * scale,
        error=_errors(best.jac, held, [(one[3], one[2]) for one in cut]) * scale,
        at_bound=held,
        chi2=2 * float(best.cost),
        n_points=best.fun.size,
        converged=bool(best.success),
    )


def _cut(trace: MeanSquaredDisplacement, start: float, stop: float):
    """Return (time, mean, stderr, each - mean or the Scatter of it) inside the window."""
    inside = (trace.time >= start) & (trace.time <= stop)
    if inside.sum() < 4 or trace.n_shots < 2:
        raise ValueError(
            f"fit window {start * 1e6:g} to {stop * 1e6:g} us: wanted at least 4 samples and 2 "
            f"shots to fit, got {int(inside.sum())} samples and {trace.n_shots} shots"
        )
    mean = np.asarray(trace.mean, float)[inside]
    sigma = np.asarray(trace.stderr, float)[inside]
    if not np.all(np.isfinite(mean)):
        raise ValueError("mean squared displacement: wanted finite numbers, got NaN or infinity")
    if trace.scatter is None:
        return trace.time[inside], mean, sigma, np.asarray(trace.each, float)[:, inside] - mean
    first = int(np.argmax(inside)) - trace.scatter.first
    width, known = int(inside.sum()), trace.scatter.products.shape[0]
    if first < 0 or first + width > known:
        raise ValueError(
            f"fit window {start * 1e6:g} to {stop * 1e6:g} us: wanted samples whose scatter was "
            f"kept, {known} from sample {trace.scatter.first} on"
        )
    part = np.asarray(trace.scatter.products, float)[first : first + width, first : first + width]
    return trace.time[inside], mean, sigma, dataclasses.replace(trace.scatter, products=part)


def _errors(
    jacobian: np.ndarray,
    held: np.ndarray,
    deviations: list[tuple[np.ndarray | Scatter, np.ndarray]],
) -> np.ndarray:
    """Return standard errors from each shot's influence; traces are independent ensembles.

    held: unknowns that sit on their bound; they have no error of this kind.
    deviations: of the shots of each trace, or their Scatter, and the samples' standard errors.
    """
    pull = np.zeros_like(jacobian.T)
    pull[~held] = np.linalg.pinv(jacobian[:, ~held])
    variance, first = np.zeros(len(pull)), 0
    for each, sigma in deviations:
        weight = pull[:, first : first + sigma.size] / sigma
        if isinstance(each, Scatter):
            shots = each.n_shots
            square = np.sum((weight @ each.products) * weight, axis=1)
        else:
            shots = each.shape[0]
            square = np.sum((each @ weight.T) ** 2, axis=0)
        variance += np.maximum(square, 0.0) / (shots * (shots - 1))
        first += sigma.size
    return np.sqrt(variance)

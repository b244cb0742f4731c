"""Joint gain: S12 fitted to many traces at once on the device, with its contours and windows."""

import dataclasses
from collections.abc import Sequence as Series

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Bool, Float

from jaxsde.analysis.contours import profile_contours
from jaxsde.analysis.displacement import MeanSquaredDisplacement
from jaxsde.analysis.growth import (
    GrowthData,
    Minimum,
    bin_traces,
    correction,
    minimise,
    minimise_each,
)

Vector = Float[np.ndarray, "traces"]
# Lengths of the fit window that the systematic error is taken from (S.5).
VARIED = (0.9, 1.1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class JointGain:
    """Hold S12 fitted to traces, by generalised least squares on binned <D^2>_cyc.

    gain: G_+, 1/s.  diffusion: growth rate of D^2, (rad/s)^2/s.  D_0: (rad/s)^2, of each trace;
        the same in all if it is common.  None of them is bounded: each is without bias.
    *_stat: half the range of the contour of chi^2 = minimum + 1, all else at its best (S.5).
    *_range: (traces, 2), that contour's ends.  *_sys: half the range over windows whose length is
        changed by +-10 %.
    covariance: (traces, 2, 2) of (gain, diffusion), to first order.
    contours: (traces, angles, 2); closed: False where one is open, of a trace that does not tell.
    chi2, dof, p_value: of the fit; with a common D_0 of all traces together, in every entry.
    start, stop, origin: s.  data, minimum: what was fitted, in its own units.
    """

    gain: Vector
    gain_stat: Vector
    gain_range: Float[np.ndarray, "traces 2"]
    gain_sys: Vector
    diffusion: Vector
    diffusion_stat: Vector
    diffusion_range: Float[np.ndarray, "traces 2"]
    diffusion_sys: Vector
    D_0: Vector
    D_0_stat: Vector
    covariance: Float[np.ndarray, "traces 2 2"]
    contours: Float[np.ndarray, "traces angles 2"]
    closed: Bool[np.ndarray, "traces"]
    chi2: Vector
    dof: int
    p_value: Vector
    start: Vector
    stop: Vector
    origin: Vector
    converged: bool
    data: GrowthData
    minimum: Minimum

    @property
    def gain_error(self) -> Vector:
        """Statistical and systematic error of G_+, added in squares (1/s)."""
        return np.hypot(self.gain_stat, self.gain_sys)


def fit_gain_jointly(
    traces: Series[MeanSquaredDisplacement],
    *,
    start: float | Series[float],
    stop: float | Series[float],
    origin: float | Series[float] | None = None,
    bins: int = 8,
    common: bool = True,
    angles: int = 48,
) -> JointGain:
    """Fit S12 to traces with a common D_0, each with its own G_+ and diffusion (S.5).

    chi^2 is that of the means of `bins` parts of the window, weighted by the inverse of their
    covariance over shots; see `growth`.  All traces, windows and contours run as one program.
    start, stop, origin: as of `fit_gain`, s.
    common: False gives each trace a D_0 of its own.
    Raises ValueError for a window that does not fit, or fewer shots than bins + 6.
    """
    n = len(traces)
    if n == 0:
        raise ValueError("traces: wanted at least one MeanSquaredDisplacement, got none")
    first, final, zero = (
        np.broadcast_to(np.asarray(v, float), (n,))
        for v in (start, stop, start if origin is None else origin)
    )
    last = np.array([trace.time[-1] for trace in traces])
    windows = [final, *(np.minimum(first + f * (final - first), last) for f in VARIED)]
    room = _room(traces, max(float(np.max(end - first)) for end in windows))
    held = [bin_traces(traces, first, end, zero, bins, samples=room) for end in windows]
    held = held if common else [apart(data) for data in held]
    best, *varied = [_minimum(data) for data in held]
    contours = profile_contours(held[0], best, angles=angles)
    fits = [_si(data, m) for data, m in zip(held, (best, *varied), strict=True)]
    rates, diffusions = [x for x, _ in fits], [x for _, x in fits]
    scale = 1 / np.array([held[0].second, held[0].second / held[0].square]).reshape(2, -1)[:, 0]
    ends = np.stack([np.asarray(contours.low), np.asarray(contours.high)], -1)
    ends = ends.reshape(n, 2, 2) * scale[:, None]
    points = np.asarray(contours.points).reshape(n, -1, 2) * scale
    square = float(np.ravel(held[0].square)[0])
    shots = np.array([trace.each.shape[0] for trace in traces])
    chi2, dof, p_value = _goodness(best, shots, bins, common)
    return JointGain(
        gain=rates[0],
        gain_stat=np.ptp(ends[:, 0], axis=1) / 2,
        gain_range=ends[:, 0],
        gain_sys=np.ptp(np.stack(rates), axis=0) / 2,
        diffusion=diffusions[0],
        diffusion_stat=np.ptp(ends[:, 1], axis=1) / 2,
        diffusion_range=ends[:, 1],
        diffusion_sys=np.ptp(np.stack(diffusions), axis=0) / 2,
        D_0=np.broadcast_to(np.asarray(best.D_0) * square, (n,)),
        D_0_stat=np.broadcast_to(np.sqrt(np.asarray(best.D_0_variance)) * square, (n,)),
        covariance=np.asarray(best.covariance).reshape(n, 2, 2) * np.outer(scale, scale),
        contours=points,
        closed=np.asarray(contours.closed).reshape(n),
        chi2=chi2,
        dof=dof,
        p_value=p_value,
        start=first,
        stop=final,
        origin=zero,
        converged=bool(np.all(best.converged)),
        data=held[0],
        minimum=best,
    )


def _room(traces: Series[MeanSquaredDisplacement], longest: float) -> int:
    """Return how many samples a window of that length (s) may touch."""
    return 2 + int(np.ceil(longest / min(t.time[1] - t.time[0] for t in traces)))


def apart(data: GrowthData) -> GrowthData:
    """Return traces as fits of one trace each."""
    n = data.mean.shape[0]
    each = {f: getattr(data, f)[:, None] for f in ("time", "average", "mean", "offset", "whiten")}
    units = {f: jnp.broadcast_to(getattr(data, f), (n,)) for f in ("second", "square")}
    return GrowthData(**each, **units)


def _minimum(data: GrowthData) -> Minimum:
    return minimise(data) if data.mean.ndim == 2 else minimise_each(data)


def _si(data: GrowthData, best: Minimum) -> tuple[np.ndarray, np.ndarray]:
    """Return gains (1/s) and diffusions ((rad/s)^2/s)."""
    second, square = float(np.ravel(data.second)[0]), float(np.ravel(data.square)[0])
    gain, diffusion = np.ravel(best.gain), np.ravel(best.diffusion)
    return gain / second, diffusion * square / second


def _goodness(best: Minimum, shots: np.ndarray, bins: int, common: bool):
    """Return chi2, its degrees of freedom and p-values, by Hartlap's mean of a measured inverse."""
    widened = np.array([correction(int(s), bins, 3) for s in shots])
    hartlap = (shots - bins - 2) / (shots - 1)
    chi2 = np.ravel(best.chi2) * widened * hartlap
    n = len(chi2)
    dof = n * bins - 2 * n - 1 if common else bins - 3
    if common:
        chi2 = np.full(n, chi2.sum())
    return chi2, dof, scipy.stats.chi2.sf(chi2, dof)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowChoice:
    """Hold the window that was chosen for a fit, and what every candidate gave.

    start, stop: chosen, s.  starts, stops: candidates, s.  p_value, gain_stat: (starts, stops), of
        the fit to each, gain_stat the mean over traces (1/s); NaN where none was made.
    linear: of each stop, whether mean |D| stays below kappa/2 until then.
    """

    start: float
    stop: float
    starts: np.ndarray
    stops: np.ndarray
    p_value: np.ndarray
    gain_stat: np.ndarray
    linear: np.ndarray


def choose_window(
    traces: Series[MeanSquaredDisplacement],
    kappa: float,
    *,
    starts: Series[float],
    stops: Series[float],
    origin: float,
    bins: int = 8,
    level: float = 0.05,
) -> WindowChoice:
    """Return the longest window whose joint fit is not refused by chi^2 and stays linear (S.5).

    Short windows tell little, long ones leave S12: of those with a p-value of at least `level` and
    <|D|> < kappa/2 throughout, the one with the smallest error of G_+ is taken.  <|D|> is
    sqrt(2/pi <D^2>), that of a normal D.
    kappa: rad/s.  starts, stops, origin: s.
    Raises ValueError where no candidate is left.
    """
    n, zero = len(traces), np.full(len(traces), float(origin))
    a, b = np.asarray(starts, float), np.asarray(stops, float)
    p_value, error = (np.full((len(a), len(b)), np.nan) for _ in range(2))
    pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if a[i] < b[j]]
    shots = np.array([trace.each.shape[0] for trace in traces])
    room = _room(traces, float(b.max() - a.min()))
    for i, j in pairs:
        first, final = np.full(n, a[i]), np.full(n, b[j])
        data = bin_traces(traces, first, final, zero, bins, samples=room)
        best = minimise(data)
        p_value[i, j] = _goodness(best, shots, bins, True)[2][0]
        spread = np.sqrt(np.asarray(best.covariance)[:, 0, 0]) / float(data.second)
        error[i, j] = spread.mean()
    linear = np.array([_is_linear(traces, float(origin), stop, kappa) for stop in b])
    allowed = (p_value >= level) & linear[None]
    if not allowed.any():
        raise ValueError(
            f"fit window: wanted one with a p-value of at least {level:g} and <|D|> < kappa/2, got "
            f"at best {np.nanmax(p_value):.2g} among {len(pairs)} windows, {int(linear.sum())} of "
            f"{len(b)} stops linear; offer earlier stops or later starts"
        )
    i, j = np.unravel_index(np.argmin(np.where(allowed, error, np.inf)), allowed.shape)
    return WindowChoice(
        start=float(a[i]),
        stop=float(b[j]),
        starts=a,
        stops=b,
        p_value=p_value,
        gain_stat=error,
        linear=linear,
    )


def _is_linear(
    traces: Series[MeanSquaredDisplacement], origin: float, stop: float, kappa: float
) -> bool:
    for trace in traces:
        inside = (trace.time >= origin) & (trace.time <= stop)
        square = np.maximum(np.asarray(trace.mean)[inside], 0.0)
        if np.sqrt(2 / np.pi * square.max(initial=0.0)) >= kappa / 2:
            return False
    return True

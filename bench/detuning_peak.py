"""Where a resonance peaks: S12 fitted to <D^2>_cyc at every delta, and a parabola to the gains."""

import dataclasses

import numpy as np
import scipy.optimize
from detuning_chain import DT, KHZ, THIN, US

import jaxsde as js
from jaxsde.analysis.displacement import MeanSquaredDisplacement

WINDOW = (12 * US, 92 * US)  # of the fit, from the pulse's start


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peak:
    """Hold where a resonance peaks: at (rad/s), height and half width at zero of its parabola."""

    at: float
    height: float
    width: float


def peak_of(delta: np.ndarray, gain: np.ndarray, error: np.ndarray | None = None) -> Peak:
    """Fit height (1 - ((delta - at)/width)^2) to the upper part of a resonance, weighted by errors.

    First to all points, as far as it is positive: where the resonance ends S12 has nothing to fit,
    and what it gives says little.  Then to the points within 3/4 of that width, by themselves.
    """
    # Errors count up to five times the least: beyond, they say that a point says nothing.  So does
    # an error of 0, of a trace whose D_0, G_+ and diffusion all sit on their bounds.
    sigma = np.ones_like(gain)
    if error is not None and np.any(error > 0):
        known = np.where(error > 0, error, np.inf)
        sigma = np.clip(known / known.min(), 1.0, 5.0)
    x, top = delta / KHZ, float(np.max(gain))

    def residuals(q, inside=slice(None)):
        curve = q[1] * (1 - ((x - q[0]) / q[2]) ** 2)
        curve = np.maximum(0.0, curve) if isinstance(inside, slice) else curve
        return ((curve - gain / top) / sigma)[inside]

    def fit(q, *inside):
        return scipy.optimize.least_squares(residuals, q, x_scale=(1.0, 0.1, 1.0), args=inside)

    centres = x[np.argmax(gain)], np.sum(x * gain) / np.sum(gain)
    best = min((fit((c, 1.0, w)) for c in centres for w in (6, 10)), key=lambda f: f.cost).x
    inside = np.flatnonzero(np.abs(x - best[0]) < 0.75 * abs(best[2]))
    if inside.size >= 4:
        best = fit(best, inside).x
    return Peak(at=best[0] * KHZ, height=best[1] * top, width=abs(best[2]) * KHZ)


def redrawn(
    delta: np.ndarray, gain: np.ndarray, error: np.ndarray, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return peaks (rad/s) and heights of gains drawn about `gain` with their errors.

    Gains known five times worse than the best stay where they are: no one would take them for a
    peak.  What a common D_0 makes gains share is left out.
    """
    known = (error > 0) & (error <= 5 * np.min(error[error > 0]))
    noise = np.random.default_rng(11).standard_normal((draws, len(delta)))
    drawn = np.maximum(gain + noise * np.where(known, error, 0.0), 0.0)
    found = [peak_of(delta, g, error) for g in drawn]
    return np.array([p.at for p in found]), np.array([p.height for p in found])


def from_pulse(seen: MeanSquaredDisplacement, s: js.Sequence) -> MeanSquaredDisplacement:
    """Return shots' <D^2>_cyc against the time from the pulse's start, thinned for the fit."""
    return MeanSquaredDisplacement(
        time=(seen.time - s.span("pulse").start * DT)[THIN],
        mean=seen.mean[THIN],
        stderr=seen.stderr[THIN],
        each=seen.each[:, THIN],
        noise_bias=seen.noise_bias[THIN],
    )


def fit_peak(
    delta: np.ndarray, traces: list[MeanSquaredDisplacement], window=WINDOW
) -> tuple[Peak, js.GainFit]:
    """Return the peak of the gains that S12 finds with a common D_0, and the fit."""
    start, stop = window
    fit = js.fit_gain(traces, start=start, stop=stop, origin=0.0)
    return peak_of(delta, fit.gain, fit.gain_stat), fit

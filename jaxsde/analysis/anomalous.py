"""Anomalous diffusion of the spin from the linear growth of <D^2> (S.2, Fig. S1c)."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.analysis.displacement import (
    BAND,
    CYCLE_AVERAGE,
    MeanSquaredDisplacement,
    expected_displacement,
)
from jaxsde.engine.detect import Detector
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionFit:
    """Hold B_s from the growth of <D^2>.

    B_s, B_s_stderr: quanta/s.  slope, slope_stderr: of the straight line through <D^2>,
    (rad/s)^2/s; without: the slope that is expected at B_s = 0, from measurement back-action and
    whatever else moves, per_quantum: what one quantum/s adds to it.  start, stop: s.
    """

    B_s: float
    B_s_stderr: float
    slope: float
    slope_stderr: float
    without: float
    per_quantum: float
    start: float
    stop: float


def line_slope(
    time: Float[np.ndarray, "samples"], traces: Float[Array, "*batch samples"]
) -> Float[Array, "*batch"]:
    """Return the least-squares slope of traces against time (s), per second."""
    centred = time - time.mean()
    return traces @ jnp.asarray(centred / np.sum(centred**2))


def fit_diffusion(
    displacement: MeanSquaredDisplacement,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    *,
    start: float,
    stop: float,
    band: tuple[float, float] = BAND,
    cycle_average: float = CYCLE_AVERAGE,
    resolution: Resolution | None = None,
) -> DiffusionFit:
    """Return B_s from the slope of <D^2> between start and stop (s).

    <D^2> is linear in B_s:  slope = without + B_s per_quantum,  both from its exact expectation,
    filters, jitter, ring-up of the motion and all; without them it is 2 g_s^2 (B_s + back-action).
    A slope is linear in the traces too, so its error is the scatter of single shots' slopes,
    whatever the correlation of neighbouring samples.  What B_s a stage overrides stays.
    Raises ValueError for a window of fewer than 4 samples, fewer than 3 shots, or one in which no
    stage takes params.B_s.
    """
    time = np.asarray(displacement.time)
    inside = (time >= start) & (time <= stop)
    shots = displacement.each.shape[0]
    if inside.sum() < 4 or shots < 3:
        raise ValueError(
            f"window {start * 1e6:g} to {stop * 1e6:g} us: wanted at least 4 samples and 3 shots, "
            f"got {int(inside.sum())} samples and {shots} shots"
        )
    resolution = choose_resolution(params, sequence) if resolution is None else resolution

    def expected(b_s: float) -> float:
        trial = dataclasses.replace(params, B_s=b_s)
        trace = expected_displacement(
            trial,
            sequence,
            detector,
            band=band,
            cycle_average=cycle_average,
            resolution=resolution,
        )
        return float(line_slope(time[inside], trace[inside]))

    unit = 1e5  # quanta/s: the expectation is linear, so any step will do that rounding allows
    without = expected(0.0)
    per_quantum = (expected(unit) - without) / unit
    if not per_quantum > 0:
        raise ValueError(
            "B_s: wanted a window in which <D^2> grows with it; stages there override B_s: take "
            "the override out, or move the window"
        )
    slope = float(line_slope(time[inside], displacement.mean[inside]))
    each = np.asarray(line_slope(time[inside], displacement.each[:, inside]))
    error = float(each.std(ddof=1) / np.sqrt(shots))
    return DiffusionFit(
        B_s=(slope - without) / per_quantum,
        B_s_stderr=error / per_quantum,
        slope=slope,
        slope_stderr=error,
        without=without,
        per_quantum=per_quantum,
        start=start,
        stop=stop,
    )

"""Mean squared displacement: <D^2>_cyc(t) from heterodyne records (S11), and its expectation."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.analysis.filters import (
    Sections,
    band_pass,
    filter_matrix,
    hashable,
    low_pass,
    sosfiltfilt,
    undo_box_average,
)
from jaxsde.engine.detect import (
    Detector,
    independent_noise,
    noise_variance,
    quadrature_gains,
)
from jaxsde.engine.records import readout_of_samples, signal_covariance
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence

BAND = (85e3, 150e3)  # Hz, S11
CYCLE_AVERAGE = 120e3  # Hz, S11


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Scatter:
    """Hold how shots scatter about their mean in a window of samples, in place of the shots.

    products: sums over shots of the products of two samples' deviations, (rad/s)^4.
    n_shots: how many.  first: sample at which the window begins.
    """

    products: Float[Any, "window window"]
    n_shots: int = dataclasses.field(metadata=dict(static=True))
    first: int = dataclasses.field(metadata=dict(static=True))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanSquaredDisplacement:
    """Hold <D^2>_cyc(t) of an ensemble.

    time: s.  mean, stderr: (rad/s)^2.  each: of every shot.  noise_bias: what was subtracted for
    shot noise, from the noise bandwidth of the filters really applied.
    scatter: of shots that were not kept, where each is empty.
    """

    time: Float[np.ndarray, "samples"]
    mean: Float[Array, "samples"]
    stderr: Float[Array, "samples"]
    each: Float[Array, "shots samples"]
    noise_bias: Float[Array, "samples"]
    scatter: Scatter | None = None

    @property
    def n_shots(self) -> int:
        """Shots of the ensemble."""
        return self.each.shape[0] if self.scatter is None else self.scatter.n_shots


def mean_squared_displacement(
    record: Float[Array, "shots samples quadratures"],
    params: Params,
    sequence: Sequence,
    detector: Detector,
    *,
    band: tuple[float, float] = BAND,
    cycle_average: float = CYCLE_AVERAGE,
) -> MeanSquaredDisplacement:
    """Recover <D^2>_cyc from I and Q (S11): band-pass, square, add, average over cycles.

    Each quadrature is divided by its stage's gain A, band-passed without phase, squared; the sum
    is low-passed, and the shot noise that passes the same filters is subtracted. (The printed
    S_SN f_BW/A^2 is half of it; the exact noise bandwidth of these filters is used instead.)
    Averaging over samples is undone to first order.  Within some 15 us of a change of the probe
    the filters mix what lies on both sides.

    band, cycle_average: Hz.  Raises ValueError if a band does not fit the sample interval, or
    the record is not as long as the sequence.
    """
    if record.ndim != 3 or record.shape[1:] != (sequence.n_samples, len(detector.quadratures)):
        raise ValueError(
            f"record: wanted shape (shots, {sequence.n_samples}, {len(detector.quadratures)}) for "
            f"this sequence and detector, got {record.shape}"
        )
    made = displacement_filter(params, sequence, detector, band=band, cycle_average=cycle_average)
    each = shot_displacement(made, record)
    n = record.shape[0]
    spread = jnp.std(each, axis=0, ddof=1) if n > 1 else jnp.full(each.shape[1], jnp.nan)
    return MeanSquaredDisplacement(
        time=sequence.time,
        mean=each.mean(axis=0),
        stderr=spread / np.sqrt(n),
        each=each,
        noise_bias=made.bias,
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class DisplacementFilter:
    """Hold what S11 does to a record, made once for all shots of a sequence.

    inverse: 1/A of each sample.  bias: shot noise that passes, (rad/s)^2.
    band, cycle: second-order sections of the two filters.
    """

    inverse: Float[Array, "samples quadratures"]
    bias: Float[Array, "samples"]
    band: Sections = dataclasses.field(metadata=dict(static=True))
    cycle: Sections = dataclasses.field(metadata=dict(static=True))


def displacement_filter(
    params: Params,
    sequence: Sequence,
    detector: Detector,
    *,
    band: tuple[float, float] = BAND,
    cycle_average: float = CYCLE_AVERAGE,
) -> DisplacementFilter:
    """Return the filter of mean_squared_displacement; arguments and errors are its own."""
    dt = sequence.sample_interval
    sos = hashable(band_pass(band, dt)), hashable(low_pass(cycle_average, dt))
    matrices = _matrices(sequence.n_samples, *sos)
    inverse, bias = _gain_and_bias(params, sequence, detector, matrices)
    return DisplacementFilter(inverse=inverse, bias=bias, band=sos[0], cycle=sos[1])


@jax.jit
def _gain_and_bias(params, sequence, detector, matrices):
    inverse = _inverse_gain(params, sequence, detector)
    f, average = matrices
    white = noise_variance(detector) * inverse**2
    return inverse, average @ jnp.sum(f**2 @ white, axis=1)


@jax.jit
def shot_displacement(
    made: DisplacementFilter, record: Float[Array, "shots samples quadratures"]
) -> Float[Array, "shots samples"]:
    """Return <D^2>_cyc(t) of every shot by itself (S11), (rad/s)^2."""
    scaled = record.astype(made.inverse.dtype) * made.inverse[None]
    signal = undo_box_average(jnp.moveaxis(scaled, -1, 0))
    power = jnp.sum(sosfiltfilt(np.asarray(made.band), signal) ** 2, axis=0)
    return sosfiltfilt(np.asarray(made.cycle), power) - made.bias[None]


@functools.lru_cache(maxsize=8)
def _matrices(n: int, band: Sections, cycle: Sections) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrices of the band-pass, box average undone, and of the cycle average."""
    second = np.diag(np.full(n, -2.0)) + np.eye(n, k=1) + np.eye(n, k=-1)
    second[0, 0] += 1
    second[-1, -1] += 1
    undo = np.eye(n) - second / 24
    return filter_matrix(np.array(band), n) @ undo, filter_matrix(np.array(cycle), n)


def _inverse_gain(
    params: Params, sequence: Sequence, detector: Detector
) -> Float[Array, "samples quadratures"]:
    """Return 1/A of each sample; a dark one, which holds no signal, has zero."""
    made = []
    for stage in sequence.stages:
        n = stage.n_samples
        at = jnp.asarray((np.arange(n if stage.controls.is_ramp else 1) + 0.5) / n)
        gains = jax.vmap(lambda at, c=stage.controls: quadrature_gains(params, c, detector, at))(at)
        norm = jnp.sqrt(jnp.sum(gains**2, axis=1, keepdims=True))
        dark = norm == 0
        inverse = jnp.where(dark, 0.0, 1 / jnp.where(dark, 1.0, norm))
        made.append(jnp.broadcast_to(inverse, (n, gains.shape[1])))
    return jnp.concatenate(made)


def expected_displacement(
    params: Params,
    sequence: Sequence,
    detector: Detector,
    *,
    band: tuple[float, float] = BAND,
    cycle_average: float = CYCLE_AVERAGE,
    resolution: Resolution | None = None,
) -> Float[Array, "samples"]:
    """Return the exact expectation of mean_squared_displacement, filters and jitter included.

    The diagonal of F R F^T for each quadrature, R the covariance of the record less the shot noise
    of an empty cavity, then the cycle average.
    resolution: needed under a JAX transformation; else chosen.
    """
    resolution = choose_resolution(params, sequence) if resolution is None else resolution
    dt = sequence.sample_interval
    sos = hashable(band_pass(band, dt)), hashable(low_pass(cycle_average, dt))
    matrices = _matrices(sequence.n_samples, *sos)
    detector = dataclasses.replace(detector, technical=None)
    r, _ = signal_covariance(params, sequence, resolution, detector.model)
    gains = readout_of_samples(params, sequence, detector, resolution)
    inverse = _inverse_gain(params, sequence, detector)
    excess = independent_noise(detector) - noise_variance(detector)
    return _filtered_power(r, gains, inverse, excess, matrices)


@jax.jit
def _filtered_power(r, gains, inverse, excess, matrices):
    f, average = matrices
    n, n_quadratures, n_signals = gains.shape
    flat = r.reshape(n * n_signals, -1)
    power = jnp.zeros(n)
    for k in range(n_quadratures):
        scaled = f * inverse[None, :, k]
        seen = (scaled[:, :, None] * gains[None, :, k]).reshape(n, -1)
        power = power + jnp.sum((seen @ flat) * seen, axis=1) + excess * jnp.sum(scaled**2, axis=1)
    return average @ power

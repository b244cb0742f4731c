"""Spectral densities of every receiver's record, without sampling.

All are two-sided, per Hz: white noise of density S has variance S/dt in samples of length dt.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsde.engine.detect import Detector, independent_noise, readout
from jaxsde.engine.plan import Segment, sigmas, transitions
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.engine.step import output_maps
from jaxsde.physics.model import N_STATE, diffusion, drift, signals
from jaxsde.physics.params import TWO_PI, Leaf, Params, is_concrete
from jaxsde.physics.sequence import Controls, Sequence, Stage, resolve

Density = Complex[Array, "frequencies quadratures quadratures"]


def check_stationary(params: Params, controls: Controls, detector: Detector) -> None:
    """Raise ValueError where the record has no stationary state, so no spectrum; tracers pass.

    A mode that the record does not hold, as an uncoupled spin, may do as it likes.
    """
    if controls.is_ramp:
        raise ValueError(
            "controls: wanted constants for a spectral density, got a ramp; "
            "use expected_periodogram for records that change"
        )
    m, held = drift(params, controls), _held(params, controls, detector)
    if not is_concrete(m) or not held.size:
        return
    m = np.asarray(m)[np.ix_(held, held)]
    growth = float(np.linalg.eigvals(m).real.max())
    # Rounding leaves an undamped mode some 1e-10 of the largest rate on either side of zero.
    if growth > -1e-9 * float(np.abs(m).max()):
        raise ValueError(
            f"controls: wanted every mode damped for a stationary spectrum, got one that grows at "
            f"{growth:.3g} /s; use record_covariance and expected_periodogram, which hold for "
            "records that grow"
        )


def _held(params: Params, controls: Controls, detector: Detector) -> np.ndarray:
    """Return the numbers of the states that the record holds; all of them under tracers.

    Those that it depends on, those that these depend on, and so on.
    """
    m = drift(params, controls)
    rows = readout(params, controls, detector) @ signals(params, detector.model)[0]
    if not (is_concrete(m) and is_concrete(rows)):
        return np.arange(N_STATE)
    held, depends = np.any(np.asarray(rows) != 0, axis=0), np.asarray(m) != 0
    for _ in range(N_STATE):
        held = held | (held @ depends)
    return np.flatnonzero(held)


def spectral_density(
    params: Params, controls: Controls, detector: Detector, frequency: Float[Array, "frequencies"]
) -> Density:
    """Return the spectral density of a receiver's photocurrents, before they are sampled.

    S_kl(f) = int <y_k(t + tau) y_l(t)> exp(-2 pi i f tau) dtau, W^2/Hz, f in Hz; with
    R = (i omega - M)^-1 the signals have  C R D R^+ C^T + C R X + (C R X)^+ + W  (S6-S8).
    For the nominal frequencies: shot-to-shot jitter is left out.
    Raises ValueError where no stationary state exists.
    """
    check_stationary(params, controls, detector)
    controls = resolve(params, controls)
    held = _held(params, controls, detector)
    rows, cross, own = signals(params, detector.model)
    rows, cross = rows[:, held], cross[held]
    gains = readout(params, controls, detector)
    white = independent_noise(detector) * detector.sample_interval
    m, d = (f(params, controls)[np.ix_(held, held)] for f in (drift, diffusion))
    points = jax.lax.complex(jnp.zeros_like(frequency), TWO_PI * frequency)
    return _rational(points, m, d, rows, cross, own, gains, white)


def sampled_density(
    params: Params,
    controls: Controls,
    detector: Detector,
    frequency: Float[Array, "frequencies"],
    *,
    resolution: Resolution | None = None,
) -> Density:
    """Return the spectral density of a receiver's samples: box averages, aliases and all.

    As `spectral_density`, from the Step that the shots are made with: with
    R = (exp(2 pi i f dt) - A)^-1 it is  dt [C R Q R^+ C^T + C R X + (C R X)^+ + W].
    For the nominal frequencies: shot-to-shot jitter is left out.
    Raises ValueError where no stationary state exists.
    """
    check_stationary(params, controls, detector)
    dt = detector.sample_interval
    stage = Stage(name="stage", n_samples=1, controls=controls)
    if resolution is None:
        resolution = choose_resolution(params, Sequence(stages=(stage,), sample_interval=dt))
    segment = Segment(
        stage=0, first=0, start=0, n_samples=1, n_stage=1, substeps=0,
        controls=resolve(params, controls),
    )  # fmt: skip
    offsets = jnp.zeros_like(sigmas(params))[None]
    step = transitions(params, segment, offsets, dt, resolution, detector.model)
    gains = readout(params, controls, detector)
    a, c, joint = output_maps(
        step.A[0, :, :N_STATE], step.Q[0], gains, independent_noise(detector), dt
    )
    n, k, held = N_STATE, gains.shape[0], _held(params, controls, detector)
    q, cross, own = (
        part * dt for part in (joint[np.ix_(held, held)], joint[held, n:], joint[n:, n:])
    )
    a, rows = a[np.ix_(held, held)], c[:, held]
    turn = TWO_PI * frequency * dt
    points = jax.lax.complex(jnp.cos(turn), jnp.sin(turn))
    return _rational(points, a, q, rows, cross, own, jnp.eye(k), jnp.asarray(0.0))


@functools.partial(jax.jit)
def _rational(points, m, d, rows, cross, own, gains, white) -> Density:
    """Return gains [C R D R^+ C^T + C R X + (C R X)^+ + W] gains^T + white, R = (point - M)^-1."""
    real = (m, d, rows, cross, own, gains, white)
    m, d, rows, cross, own, gains, white = (v.astype(points.dtype) for v in real)
    eye = jnp.eye(m.shape[0], dtype=points.dtype)

    def at(point):
        r = jnp.linalg.inv(point * eye - m)
        through = rows @ r
        mixed = through @ cross
        s = through @ d @ through.conj().T + mixed + mixed.conj().T + own
        return gains @ s @ gains.T + white * jnp.eye(gains.shape[0], dtype=points.dtype)

    return jax.vmap(at)(points)


def sidebands(density: Density) -> tuple[Float[Array, "frequencies"], Float[Array, "frequencies"]]:
    """Return the densities of the upper and lower sideband, at carrier + f and carrier - f.

    Of the demodulated field a = I - iQ (c = (c_AM - i c_PM)/sqrt2, and Q follows c_PM):
    S_II + S_QQ +- 2 Im S_IQ.  Motion of occupation n adds to them as n (upper, anti-Stokes) and
    n + 1 (lower, Stokes) where the cavity treats both alike.
    """
    total = (density[:, 0, 0] + density[:, 1, 1]).real
    turn = 2 * density[:, 0, 1].imag
    return total + turn, total - turn


def expected_periodogram(
    covariance: Float[Array, "samples quadratures samples quadratures"],
    window: Float[Array, "length"],
    hop: int,
    dt: Leaf,
) -> Float[Array, "frequencies quadratures"]:
    """Return the exact mean of Welch's estimate (analysis.spectra.welch) of such a record.

    S(f) = dt/sum w^2 <|sum_t w_t y_t exp(-2 pi i f t)|^2>, averaged over the windows; two-sided,
    at f = 0 ... 1/(2 dt).  For records that grow or ring as well as for stationary ones.
    """
    length, total = window.shape[0], covariance.shape[0]
    starts = range(0, total - length + 1, hop)
    turn = jnp.fft.rfft(jnp.diag(window), axis=1)
    power = 0.0
    for start in starts:
        here = slice(start, start + length)
        r = jnp.einsum("tksk->kts", covariance[here][:, :, here]).astype(turn.dtype)
        power = power + jnp.einsum("tf,kts,sf->fk", turn, r, turn.conj()).real
    return power * dt / (len(starts) * jnp.sum(window**2))

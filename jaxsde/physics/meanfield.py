"""Mean field of the cavity while a probe is switched: alpha' = (-kappa + i Delta) alpha + E(t).

The mean of S8, in a frame that turns with the probe.  Each stage has its own phase reference, in
which the field it tends to, alpha = E/(kappa - i Delta), is real and positive: sqrt(nbar).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsde.physics.params import Leaf, Params
from jaxsde.physics.sequence import Controls, Switching, at_fraction

# Gauss-Legendre points of two, at which fourth-order Magnus steps take their generators.
GAUSS = (0.5 - 3**0.5 / 6, 0.5 + 3**0.5 / 6)


def target_phase(params: Params, controls: Controls) -> Leaf:
    """Return arg alpha (rad) relative to the drive at a stage's end, tan = Delta/kappa."""
    return jnp.arctan2(
        jnp.asarray(at_fraction(controls.delta_pc, 1.0), float), jnp.asarray(params.kappa, float)
    )


def frame_turn(params: Params, before: Controls, now: Controls) -> Float[Array, "2 2"]:
    """Return the rotation of (c_AM, c_PM) from the phase reference of one stage to the next's.

    c e^{i psi} with psi = phase before - phase now, for c = (c_AM - i c_PM)/sqrt2.
    """
    psi = target_phase(params, before) - target_phase(params, now)
    cos, sin = jnp.cos(psi), jnp.sin(psi)
    return jnp.stack([jnp.stack([cos, sin]), jnp.stack([-sin, cos])])


def amplitude(params: Params, controls: Controls, at: Leaf) -> Leaf:
    """Return |E| = sqrt(nbar (kappa^2 + Delta^2)) (1/s) that holds nbar photons."""
    nbar, delta = at_fraction(controls.nbar, at), at_fraction(controls.delta_pc, at)
    dark = jnp.asarray(nbar) == 0
    root = jnp.where(dark, 0.0, jnp.sqrt(jnp.where(dark, 1.0, nbar)))
    return root * jnp.sqrt(jnp.asarray(params.kappa**2 + delta**2))


def steady_field(params: Params, controls: Controls, at: Leaf = 1.0) -> Complex[Array, ""]:
    """Return alpha = E/(kappa - i Delta) at a fraction of a stage, in the stage's reference."""
    delta = at_fraction(controls.delta_pc, at)
    drive = _polar(amplitude(params, controls, at), -target_phase(params, controls))
    return drive / _complex(params.kappa, -delta)


def entering_field(
    params: Params, before: Controls, now: Controls, left: Complex[Array, ""]
) -> Complex[Array, ""]:
    """Return the field that a stage ended with, in the reference of the next stage."""
    psi = target_phase(params, before) - target_phase(params, now)
    return left * _polar(1.0, psi)


def drive(
    params: Params, now: Controls, switching: Switching, old: Leaf, t: Leaf, length: Leaf
) -> Leaf:
    """Return |E| (1/s) at t (s after a stage began), on its way from old to what nbar asks for.

    old: |E| when the stage began, 1/s.  length: of the stage, s; one that ends before the drive
    has risen leaves it where it is.
    """
    new = amplitude(params, now, t / length)
    rise = jnp.asarray(switching.rise_time, float)
    sudden = rise == 0
    share = jnp.clip(t / jnp.where(sudden, 1.0, rise), 0.0, 1.0)
    risen = jnp.where(sudden, 1.0, (1 - jnp.cos(jnp.pi * share)) / 2)
    return old + (new - old) * risen


def field_step(
    params: Params,
    now: Controls,
    switching: Switching,
    old: Leaf,
    length: Leaf,
    alpha: Complex[Array, ""],
    t: Leaf,
    span: Leaf,
) -> Complex[Array, ""]:
    """Return alpha at t + span from alpha at t (s after the stage began), one Magnus step.

    old: |E| when the stage began, 1/s.  length: of the stage, s.  Fourth order for the affine
    equation, and exact where rate and drive stand still.
    """
    phase = -target_phase(params, now)

    def rate_and_drive(t):
        rate = _complex(-params.kappa, at_fraction(now.delta_pc, t / length))
        return rate, _polar(drive(params, now, switching, old, t, length), phase)

    (l1, e1), (l2, e2) = (rate_and_drive(t + g * span) for g in GAUSS)
    span = _complex(span)
    exponent = (l1 + l2) / 2 * span
    source = (e1 + e2) / 2 * span + 3**0.5 / 12 * span**2 * (l2 * e1 - l1 * e2)
    return alpha * jnp.exp(exponent) + source * _phi1(exponent)


@functools.partial(jax.jit, static_argnames=("n_samples", "substeps", "points"))
def switched_field(
    params: Params,
    now: Controls,
    switching: Switching,
    old: Leaf,
    start: Complex[Array, ""],
    dt: Leaf,
    length: Leaf,
    first: Leaf,
    *,
    n_samples: int,
    substeps: int,
    points: tuple[float, ...],
) -> tuple[Float[Array, "samples substeps points 2"], Complex[Array, ""]]:
    """Return (Re alpha, Im alpha) at `points` of every sub-step, and alpha after n_samples.

    now: resolved controls of the stage.  old: |E| when it began, 1/s.  start: alpha at its sample
    number `first`.  dt: sample interval, s.  length: of the stage, s.  points: fractions of a
    sub-step.
    """
    h = dt / substeps
    places, gaps = [0.0, *points], np.diff([0.0, *points, 1.0])

    def part(alpha, index):
        seen = []
        for k, gap in enumerate(gaps):
            t = first * dt + (index + places[k]) * h
            alpha = field_step(params, now, switching, old, length, alpha, t, gap * h)
            seen.append(jnp.stack([alpha.real, alpha.imag]))
        return alpha, jnp.stack(seen[: len(points)])

    alpha, seen = jax.lax.scan(part, start, jnp.arange(n_samples * substeps, dtype=float))
    return seen.reshape(n_samples, substeps, len(points), 2), alpha


def _complex(re: Leaf, im: Leaf = 0.0) -> Complex[Array, ""]:
    return jax.lax.complex(jnp.asarray(re, float), jnp.asarray(im, float))


def _polar(size: Leaf, phase: Leaf) -> Complex[Array, ""]:
    return _complex(size * jnp.cos(phase), size * jnp.sin(phase))


def _phi1(z: Complex[Array, ""]) -> Complex[Array, ""]:
    """Return (e^z - 1)/z, by its series where z is small."""
    small = jnp.abs(z) < 0.1
    safe = jnp.where(small, 1.0, z)
    series = jnp.ones_like(z)
    for k in range(9, 1, -1):
        series = 1 + z / k * series
    return jnp.where(small, series, (jnp.exp(safe) - 1) / safe)

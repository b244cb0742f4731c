"""Resolution: the integers that set the accuracy of a plan, chosen for a tolerance."""

import dataclasses
import functools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxsde.engine.propagate import MAX_NORM, compose, exact, magnus
from jaxsde.engine.step import Transition
from jaxsde.physics.meanfield import (
    GAUSS,
    amplitude,
    drive,
    entering_field,
    field_step,
    frame_turn,
    steady_field,
)
from jaxsde.physics.model import (
    N_STATE,
    coupling_drift,
    diffusion,
    drift,
    free_drift,
    initial_covariance,
)
from jaxsde.physics.params import Params, is_concrete
from jaxsde.physics.sequence import Sequence, Stage, resolve

METHODS = ("exact", "interaction_euler", "euler_maruyama")

# Largest standard normal that engine.noise can draw, rounded up.
Z_MAX = 6.8

TOLERANCE = 1e-8
MAX_SUBSTEPS = 4096
# The mean field has settled when what is left of its step is below this share.
SETTLED = 1e-10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolution:
    """Hold the integers that set the accuracy of a plan; `choose_resolution` fills them.

    method: how a Transition is filled.  substeps: Euler steps in a sample.
    ramp_substeps: Magnus steps in a sample of a ramp.
    switch_substeps: Magnus steps in a sample after a switch, while the mean field settles.
    settling: how many samples that takes.
    doublings: of the exact propagator.
    jitter_nodes: Chebyshev nodes for each of the two frequency offsets.
    tolerance: asked of the covariance through every ramp and switch.  ramp_error: the estimate of
        what it is, in units of the variables' standard deviations; 0 where nothing moves.
    """

    method: str = "exact"
    substeps: int = 1
    ramp_substeps: int = 4
    switch_substeps: int = 16
    settling: int = 0
    doublings: int = 16
    jitter_nodes: int = 5
    tolerance: float = TOLERANCE
    # Differs with every parameter, and so must not tell compiled programs apart.
    ramp_error: float = dataclasses.field(default=0.0, compare=False)


def choose_resolution(
    params: Params,
    sequence: Sequence,
    *,
    method: str = "exact",
    substeps: int = 1,
    tolerance: float = TOLERANCE,
) -> Resolution:
    """Return the Resolution that concrete params and sequence need.

    Interpolation on p nodes over offsets |offset| <= W has an error near 4 (sum W dt/2)^p / p!,
    kept below 5e-11; a sub-step's norm is kept below MAX_NORM.  Sub-steps of ramps and switches
    are as many as hold the covariance to `tolerance`, by comparison with twice as many.
    Under a JAX transformation the numbers are not known: make the Resolution outside and pass it
    in.
    Raises ValueError for what cannot be, or a tolerance that cannot be met.
    """
    if method not in METHODS:
        raise ValueError(f"method: wanted one of {', '.join(METHODS)}, got {method!r}")
    if not (isinstance(substeps, int) and substeps >= 1):
        raise ValueError(f"substeps: wanted an integer of at least 1, got {substeps!r}")
    if method == "exact" and substeps != 1:
        raise ValueError(
            f"substeps: the exact method has no steps to choose, got {substeps}; leave it at 1 or "
            "choose method='euler_maruyama' or 'interaction_euler'"
        )
    if not all(is_concrete(leaf) for leaf in jax.tree.leaves((params, sequence))):
        raise ValueError(
            "resolution: params are traced by a JAX transformation; call choose_resolution on "
            "concrete params outside of it and pass resolution=..."
        )
    tolerance = _check_tolerance(tolerance)
    dt = sequence.sample_interval
    if method == "euler_maruyama":
        _check_euler(params, sequence, dt / substeps)
    norm = max(_norm(params, stage) for stage in sequence.stages)
    doublings = _doublings(norm, dt)
    made = Resolution(
        method=method,
        substeps=substeps,
        ramp_substeps=1,
        switch_substeps=1,
        settling=_settling(params, sequence),
        doublings=doublings,
        jitter_nodes=_jitter_nodes(params, dt),
        tolerance=tolerance,
    )
    moves = any(s.controls.is_ramp for s in sequence.stages) or made.settling
    if method != "exact" or not moves:
        return made
    return _with_substeps(params, sequence, made, norm)


def _check_tolerance(tolerance: float) -> float:
    """Return the tolerance in force, which float32 makes coarse."""
    wide = jnp.result_type(float) == jnp.float64
    if not (isinstance(tolerance, (int, float)) and 1e-12 <= tolerance < 1):
        raise ValueError(
            f"tolerance: wanted a number from 1e-12, which rounding allows, to below 1, got "
            f"{tolerance!r}"
        )
    if not wide:
        warnings.warn(
            "JAX's x64 mode is off: propagators and covariances are made in float32, right to some "
            "1e-4; call jax.config.update('jax_enable_x64', True) first for exact ones",
            stacklevel=4,
        )
        return max(float(tolerance), 1e-3)
    return float(tolerance)


def _ends(value) -> tuple[float, ...]:
    return tuple(float(np.asarray(v)) for v in (value if isinstance(value, tuple) else (value,)))


def _check_euler(params: Params, sequence: Sequence, step: float) -> None:
    """Refuse an explicit step that makes the cavity unstable, |1 - (kappa -+ i Delta) h| > 1."""
    kappa = float(np.asarray(params.kappa))
    detuning = max(abs(d) for s in sequence.stages for d in _ends(s.controls.delta_pc))
    longest = 2 * kappa / (kappa**2 + detuning**2)
    if step > longest:
        raise ValueError(
            f"substeps: Euler-Maruyama is unstable for the cavity at steps of {step:.3g} s; wanted "
            f"at least {math.ceil(sequence.sample_interval / longest)} substeps (steps below "
            f"{longest:.3g} s), and far more to be accurate"
        )


def _norm(params: Params, stage: Stage) -> float:
    """Return the largest row sum of |M| at either end of a stage (1/s)."""
    ends = (np.asarray(drift(params, stage.controls, at)) for at in (0.0, 1.0))
    return max(float(np.abs(m).sum(axis=1).max()) for m in ends)


def _doublings(norm: float, dt: float) -> int:
    doublings = max(1, math.ceil(math.log2(max(2 * norm * dt / MAX_NORM, 1.0))))
    if doublings > 20:
        raise ValueError(
            f"sample_interval: the fastest rate times it is {norm * dt:.3g}, wanted at most "
            f"{2**20 * MAX_NORM / 2:.3g}; take shorter samples"
        )
    return doublings


def _settling(params: Params, sequence: Sequence) -> int:
    """Return how many samples the mean field takes to settle after a switch."""
    if sequence.switching is None:
        return 0
    rise = float(np.asarray(sequence.switching.rise_time))
    time = rise - math.log(SETTLED) / float(np.asarray(params.kappa))
    return math.ceil(time / sequence.sample_interval)


def _jitter_nodes(params: Params, dt: float) -> int:
    width = Z_MAX * (float(np.asarray(params.sigma_m)) + float(np.asarray(params.sigma_s))) * dt
    nodes = 2
    while 4 * width**nodes / math.factorial(nodes) > 5e-11 and width > 0:
        nodes += 1
    return nodes if width > 0 else 1


# --- sub-steps of what moves ----------------------------------------------------------------------


def layout(index: int, stage: Stage, settling: int) -> list[tuple[str, int, int]]:
    """Return (kind, first sample, samples) of the parts of a stage: "switch", "ramp", "still".

    Every stage but the first begins with a switch, if there is any settling.
    """
    total = stage.n_samples
    first = min(total, settling) if index else 0
    rest = "ramp" if stage.controls.is_ramp else "still"
    parts = [("switch", 0, first), (rest, first, total - first)]
    return [part for part in parts if part[2]]


def _with_substeps(params: Params, sequence: Sequence, made: Resolution, norm: float) -> Resolution:
    """Return made with the sub-steps that hold its tolerance, and the error estimated for them."""
    start = max(1, math.ceil(norm * sequence.sample_interval / 3))
    counts, errors = {"ramp": start, "switch": start}, {"ramp": 0.0, "switch": 0.0}
    for _ in range(10):
        twice = {kind: 2 * n for kind, n in counts.items()}
        coarse, fine = (_nominal(params, sequence, made, c) for c in (counts, twice))
        errors = {"ramp": 0.0, "switch": 0.0}
        for (kind, start, a), (_, _, b) in zip(coarse, fine, strict=True):
            # What remains of the error after halving a fourth-order step is a sixteenth.
            errors[kind] = max(errors[kind], _difference(start, a, b) * 16 / 15)
        error = max(errors.values())
        if error <= made.tolerance:
            return dataclasses.replace(
                made,
                ramp_substeps=counts["ramp"],
                switch_substeps=counts["switch"],
                ramp_error=error,
            )
        for kind, got in errors.items():
            if not got <= made.tolerance:
                growth = (1.5 * got / made.tolerance) ** 0.25 if math.isfinite(got) else 2.0
                counts[kind] = math.ceil(counts[kind] * min(max(growth, 1.2), 16.0))
        if max(counts.values()) > MAX_SUBSTEPS:
            break
    worst = max(errors, key=lambda kind: errors[kind])
    raise ValueError(
        f"tolerance: wanted the covariance to {made.tolerance:.3g} through every ramp and switch, "
        f"got {errors[worst]:.3g} for a {worst} at the most sub-steps tried; loosen the tolerance, "
        "make what moves slower, or keep a ramp's nbar from 0"
    )


def _difference(start: np.ndarray, coarse: Transition, fine: Transition) -> float:
    """Return the largest error of the covariance and of a response, in standard deviations."""
    a1, a2 = np.asarray(coarse.A), np.asarray(fine.A)
    p1, p2 = (np.asarray(t.Q) + a @ start @ a.T for t, a in ((coarse, a1), (fine, a2)))
    before, after = np.sqrt(np.diag(start)), np.sqrt(np.diag(p2))
    response = 2 * np.abs(a1 - a2) * before[None, :] / after[:, None]
    return float(max(np.max(np.abs(p1 - p2) / np.outer(after, after)), np.max(response)))


def _nominal(params: Params, sequence: Sequence, made: Resolution, counts: dict[str, int]) -> list:
    """Return (kind, covariance before, Transition) of all that moves.

    For a shot without jitter, taking counts[kind] Magnus steps in a sample.
    """
    dt, p, switching = sequence.sample_interval, initial_covariance(params), sequence.switching
    found, before, alpha, old = [], None, None, None
    for index, stage in enumerate(sequence.stages):
        now = resolve(params, stage.controls)
        if switching is not None:
            if before is None or alpha is None:
                old, alpha = amplitude(params, now, 0.0), steady_field(params, now, 0.0)
            else:
                alpha = entering_field(params, before, now, alpha)
                turn = jnp.eye(N_STATE).at[-2:, -2:].set(frame_turn(params, before, now))
                p = turn @ p @ turn.T
        for kind, start, n in layout(index, stage, made.settling):
            if kind == "still":
                p = _still_map(params, now, dt, p, n, made.doublings)
                alpha = None if switching is None else steady_field(params, now)
                continue
            count, length = counts[kind], stage.n_samples * dt
            args = (params, now, switching, old, alpha, dt / count, length)
            step, alpha = _moving_map(*args, start * count, n * count, made.doublings)
            found.append((kind, np.asarray(p), step))
            p = step.A @ p @ step.A.T + step.Q
        if switching is not None:
            span = stage.n_samples * dt
            old = drive(params, now, switching, old, span, span)
        before = now
    return found


@functools.partial(jax.jit, static_argnames=("doublings",))
def _moving_map(params, now, switching, old, alpha, h, length, first, count, doublings):
    """Return (Transition, alpha after) of `count` Magnus steps of h, from step number `first`.

    The same arithmetic as the plan's, with counts that are traced: one compilation serves all.
    """
    d = diffusion(params, now)

    def body(i, carry):
        alpha, done = carry
        t = i * h
        made, last = [], 0.0
        for place in GAUSS:
            field = None
            if switching is not None:
                gap = (place - last) * h
                alpha = field_step(params, now, switching, old, length, alpha, t + last * h, gap)
                field, last = (alpha.real, alpha.imag), place
            at = (t + place * h) / length
            made.append(free_drift(params, now, at) + coupling_drift(params, now, at, field))
        if switching is not None:
            gap = (1 - last) * h
            alpha = field_step(params, now, switching, old, length, alpha, t + last * h, gap)
        m, noise = magnus(made[0], made[1], d, h)
        return alpha, compose(done, exact(m, noise, h, doublings))

    nothing = Transition(A=jnp.eye(N_STATE), Q=jnp.zeros((N_STATE, N_STATE)))
    alpha, done = jax.lax.fori_loop(first, first + count, body, (alpha, nothing))
    return done, alpha


@functools.partial(jax.jit, static_argnames=("doublings",))
def _still_map(params, now, dt, p: Array, count, doublings) -> Array:
    """Return the covariance after `count` samples of a standing stage, `count` being traced."""
    base = exact(drift(params, now), diffusion(params, now), dt, doublings)
    done = Transition(A=jnp.eye(p.shape[0]), Q=jnp.zeros_like(p))

    def body(carry):
        left, base, done = carry
        done = jax.lax.cond(left % 2 == 1, lambda: compose(done, base), lambda: done)
        return left // 2, compose(base, base), done

    _, _, done = jax.lax.while_loop(lambda carry: carry[0] > 0, body, (count, base, done))
    return done.A @ p @ done.A.T + done.Q

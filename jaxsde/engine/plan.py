"""Plan: every sample interval of a sequence as a Transition, with jitter inside the propagator.

The Transition of a shot is an entire function of its two frequency offsets.  It is evaluated at a
few Chebyshev nodes that span every offset the generator of normals can draw, and interpolated to
the shots: exact to rounding, at a cost that the number of shots does not enter.  `transitions` is
the slow, obvious twin: it evaluates any list of offsets directly.
"""

import dataclasses
import functools
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.engine.propagate import (
    MAX_NORM,
    augment,
    constant_transition,
    sample_transition,
)
from jaxsde.engine.step import Transition
from jaxsde.physics.model import coupling_drift, diffusion, drift, free_drift, measured
from jaxsde.physics.params import Leaf, Params, is_concrete
from jaxsde.physics.sequence import Controls, Sequence, Stage

METHODS = ("exact", "interaction_euler", "euler_maruyama")

# Largest standard normal that engine.noise can draw, rounded up.
Z_MAX = 6.8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolution:
    """Hold the integers that set the accuracy of a plan; `choose_resolution` fills them.

    method: how a Transition is filled.  substeps: Euler steps in a sample.
    ramp_substeps: Magnus steps in a sample of a ramp.  doublings: of the exact propagator.
    jitter_nodes: Chebyshev nodes for each of the two frequency offsets.
    """

    method: str = "exact"
    substeps: int = 1
    ramp_substeps: int = 4
    doublings: int = 16
    jitter_nodes: int = 5


def choose_resolution(
    params: Params, sequence: Sequence, *, method: str = "exact", substeps: int = 1
) -> Resolution:
    """Return the Resolution that concrete params and sequence need, with a margin of two.

    Interpolation on p nodes over |offset| <= W has an error near 2 (W dt/2)^p / p!, kept below
    1e-11; a sub-step's norm is kept below MAX_NORM.  Under a JAX transformation the numbers are
    not known: make the Resolution outside and pass it in.
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
    leaves = jax.tree.leaves((params, sequence))
    if not all(is_concrete(leaf) for leaf in leaves):
        raise ValueError(
            "resolution: params are traced by a JAX transformation; call choose_resolution on "
            "concrete params outside of it and pass resolution=..."
        )
    if jnp.result_type(float) != jnp.float64:
        warnings.warn(
            "JAX's x64 mode is off: propagators and covariances are made in float32, right to some "
            "1e-4; call jax.config.update('jax_enable_x64', True) first for exact ones",
            stacklevel=3,
        )
    dt = sequence.sample_interval
    if method == "euler_maruyama":
        _check_euler(params, sequence, dt / substeps)
    norms = [
        max(
            float(np.abs(np.asarray(drift(params, stage.controls, at))).sum(axis=1).max())
            for at in (0.0, 1.0)
        )
        for stage in sequence.stages
    ]
    norm = max(norms)
    swept = [n for n, s in zip(norms, sequence.stages, strict=True) if s.controls.is_ramp]
    ratio = 2 * norm * dt / MAX_NORM
    doublings = max(1, math.ceil(math.log2(max(ratio, 1.0))))
    if doublings > 20:
        raise ValueError(
            f"sample_interval: the fastest rate times it is {norm * dt:.3g}, wanted at most "
            f"{2**20 * MAX_NORM / 2:.3g}; take shorter samples"
        )
    width = 2 * Z_MAX * max(float(params.sigma_m), float(params.sigma_s)) * dt
    nodes = 2
    while 2 * (width / 2) ** nodes / math.factorial(nodes) > 1e-11 and width > 0:
        nodes += 1
    return Resolution(
        method=method,
        substeps=substeps,
        # Norm x step of at most 0.75 holds the covariance to 1e-8 for ramps like the paper's.
        ramp_substeps=max(1, math.ceil(max(swept, default=0.0) * dt / 0.75)),
        doublings=doublings,
        jitter_nodes=nodes if width > 0 else 1,
    )


def _check_euler(params: Params, sequence: Sequence, step: float) -> None:
    """Refuse an explicit step that makes the cavity unstable, |1 - (kappa -+ i Delta) h| > 1."""
    kappa = float(np.asarray(params.kappa))
    detuning = max(abs(float(np.asarray(s.controls.delta_pc))) for s in sequence.stages)
    longest = 2 * kappa / (kappa**2 + detuning**2)
    if step > longest:
        raise ValueError(
            f"substeps: Euler-Maruyama is unstable for the cavity at steps of {step:.3g} s; wanted "
            f"at least {math.ceil(sequence.sample_interval / longest)} substeps (steps below "
            f"{longest:.3g} s), and far more to be accurate"
        )


def transitions(
    params: Params, stage: Stage, offsets: Float[Array, "k 2"], dt: float, resolution: Resolution
) -> Transition:
    """Return a stage's Transitions at k offsets of (omega_m, omega_s) in rad/s, one by one.

    Leading axes (k,) for a stage that stands still, (samples, k) for a ramp.
    """
    controls = resolve(params, stage.controls)
    n = stage.n_samples if controls.is_ramp else 0
    return _transitions(params, controls, offsets, dt, n, resolution)


def resolve(params: Params, controls: Controls) -> Controls:
    """Return controls with params' values where they override nothing.

    Stages that differ in their numbers alone then share one compiled program.
    """
    fill = dict(omega_m=params.omega_m, B_s=params.B_s, n_bath=params.n_bath)
    missing = {name: value for name, value in fill.items() if getattr(controls, name) is None}
    return dataclasses.replace(controls, **missing)


@functools.partial(jax.jit, static_argnames=("n_ramp", "resolution"))
def _transitions(params, controls: Controls, offsets, dt, n_ramp: int, resolution: Resolution):
    """Return transitions at offsets; n_ramp is the number of samples of a ramp, else 0."""

    def one(offset):
        p, c = _offset(params, controls, offset)
        row = measured(p)
        coupling = augment(coupling_drift(p, c), jnp.zeros_like(row))
        d = augment(diffusion(p, c), jnp.zeros_like(row))
        options: dict[str, Any] = dict(method=resolution.method, doublings=resolution.doublings)
        if not n_ramp:
            free = augment(free_drift(p, c), row)
            return constant_transition(
                free, coupling, d, dt, substeps=resolution.substeps, **options
            )
        exact = resolution.method == "exact"
        substeps = resolution.ramp_substeps if exact else resolution.substeps
        frames = jax.vmap(lambda at: augment(free_drift(p, c, at), row))(
            jnp.arange(n_ramp + 1) / n_ramp
        )
        return jax.vmap(
            lambda start, end: sample_transition(
                start, end, coupling, d, dt, substeps=substeps, **options
            )
        )(frames[:-1], frames[1:])

    return jax.vmap(one, out_axes=1 if n_ramp else 0)(offsets)


def _offset(params: Params, controls: Controls, offset: Array) -> tuple[Params, Controls]:
    """Return params and resolved controls of a shot whose frequencies are off by offset (rad/s)."""
    moved = jax.tree.map(lambda omega: omega + offset[0], controls.omega_m)
    return (
        dataclasses.replace(params, omega_s=params.omega_s + offset[1]),
        dataclasses.replace(controls, omega_m=moved),
    )


def sigmas(params: Params) -> Float[Array, "2"]:
    """Return (sigma_m, sigma_s), rad/s."""
    dtype = jnp.result_type(float)
    return jnp.stack([jnp.asarray(params.sigma_m, dtype), jnp.asarray(params.sigma_s, dtype)])


def chebyshev_nodes(count: int) -> np.ndarray:
    """Return `count` Chebyshev points over [-Z_MAX, Z_MAX]."""
    return Z_MAX * np.cos(np.pi * (np.arange(count) + 0.5) / count)


def plan(params: Params, sequence: Sequence, resolution: Resolution) -> tuple[Transition, ...]:
    """Return node_transitions of every stage."""
    dt = sequence.sample_interval
    return tuple(node_transitions(params, stage, dt, resolution) for stage in sequence.stages)


def node_transitions(params: Params, stage: Stage, dt: float, resolution: Resolution) -> Transition:
    """Return a stage's Transitions on the tensor grid of Chebyshev nodes of both offsets."""
    u = chebyshev_nodes(resolution.jitter_nodes)
    grid = jnp.asarray(np.stack(np.meshgrid(u, u, indexing="ij"), axis=-1).reshape(-1, 2))
    return transitions(params, stage, grid * sigmas(params)[None], dt, resolution)


@functools.partial(jax.jit, static_argnums=(1,))
def interpolation_weights(z: Float[Array, "2 shots"], count: int) -> Float[Array, "nodes shots"]:
    """Return Lagrange weights of the tensor grid at standardised offsets z, |z| <= Z_MAX."""
    u = chebyshev_nodes(count)

    def along(x):
        rows = []
        for k in range(count):
            factors = [(x - u[j]) / (u[k] - u[j]) for j in range(count) if j != k]
            rows.append(math.prod(factors, start=jnp.ones_like(x)))
        return jnp.stack(rows)

    return (along(z[0])[:, None] * along(z[1])[None]).reshape(count * count, -1)


def interpolate(
    table: Float[Array, "nodes i j"], weights: Float[Array, "nodes shots"]
) -> Float[Array, "i j shots"]:
    """Return sum_k weights_k table_k with shots on the minor axis, summed in a fixed order."""
    total = table[0][..., None] * weights[None, None, 0]
    for k in range(1, table.shape[0]):
        total = total + table[k][..., None] * weights[None, None, k]
    return total


@jax.jit
def at_offsets(nodes: Transition, weights: Float[Array, "nodes shots"]) -> tuple[Leaf, Leaf]:
    """Return (A, Q) of one interval interpolated to the shots, each (z, z, shots)."""
    return interpolate(nodes.A, weights), interpolate(nodes.Q, weights)

"""Plan: every sample interval of a sequence as a Transition, with jitter inside the propagator.

The Transition of a shot is an entire function of its two frequency offsets.  It is evaluated at
Chebyshev nodes that span every offset the generator of normals can draw, and the polynomial
through them is evaluated for the shots: exact to rounding, at a cost of the propagator that the
number of shots does not enter.  `transitions` is the slow, obvious twin: it evaluates any list of
offsets directly.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.engine.detect import Detector, readout
from jaxsde.engine.propagate import (
    augment,
    augment_diffusion,
    constant_transition,
    moving_transition,
)
from jaxsde.engine.resolution import Z_MAX, Resolution, layout
from jaxsde.engine.step import Transition
from jaxsde.physics.meanfield import (
    GAUSS,
    amplitude,
    drive,
    entering_field,
    frame_turn,
    steady_field,
    switched_field,
)
from jaxsde.physics.model import (
    N_STATE,
    coupling_drift,
    diffusion,
    free_drift,
    signals,
)
from jaxsde.physics.params import Leaf, Params
from jaxsde.physics.sequence import Controls, Sequence, resolve


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """Hold samples of one stage that one kind of map serves: all alike, or each its own.

    stage: its index.  first: index of its first sample in the shot.  n_samples: its length.
    start: samples of the stage before it.  n_stage: samples of the whole stage.
    substeps: Magnus or Euler steps in a sample if something moves, 0 if all samples are alike.
    controls: of the stage, resolved.
    field: mean field (Re, Im) at the points of every sub-step; None is at its target.
    turn: rotation of (c_AM, c_PM) into the stage's phase reference as it begins.
    """

    stage: int = dataclasses.field(metadata=dict(static=True))
    first: int = dataclasses.field(metadata=dict(static=True))
    start: int = dataclasses.field(metadata=dict(static=True))
    n_samples: int = dataclasses.field(metadata=dict(static=True))
    n_stage: int = dataclasses.field(metadata=dict(static=True))
    substeps: int = dataclasses.field(metadata=dict(static=True))
    controls: Controls
    field: Float[Array, "samples substeps points 2"] | None = None
    turn: Float[Array, "2 2"] | None = None

    @property
    def moves(self) -> bool:
        """Tell whether every sample has a map of its own."""
        return self.substeps > 0

    @property
    def ends_stage(self) -> bool:
        """Tell whether the stage ends with this segment."""
        return self.start + self.n_samples == self.n_stage

    @property
    def span(self) -> slice:
        """Samples of the shot that are this segment's."""
        return slice(self.first, self.first + self.n_samples)


def segment_readout(
    params: Params, segment: Segment, detector: Detector
) -> Float[Array, "*samples quadratures signals"]:
    """Return the receiver's map of a segment; one for the middle of every sample if it moves."""
    if not (segment.moves and segment.controls.is_ramp):
        one = readout(params, segment.controls, detector, 1.0)
        return jnp.broadcast_to(one, (segment.n_samples, *one.shape)) if segment.moves else one
    at = (segment.start + np.arange(segment.n_samples) + 0.5) / segment.n_stage
    return _readouts(params, segment.controls, detector, jnp.asarray(at))


@jax.jit
def _readouts(params: Params, controls: Controls, detector: Detector, at: Array) -> Array:
    return jax.vmap(lambda at: readout(params, controls, detector, at))(at)


def _points(resolution: Resolution) -> tuple[float, ...]:
    """Return the fractions of a sub-step at which a method takes its generator."""
    return GAUSS if resolution.method == "exact" else (0.0,)


def segments(params: Params, sequence: Sequence, resolution: Resolution) -> tuple[Segment, ...]:
    """Return the segments of a sequence: what moves apart from what stands still.

    A ramp moves throughout.  With sequence.switching every stage but the first begins with
    resolution.settling samples in which the mean field moves.
    """
    made, first, before, alpha, old, dt = [], 0, None, None, 0.0, sequence.sample_interval
    for index, stage in enumerate(sequence.stages):
        now, turn = resolve(params, stage.controls), None
        if sequence.switching is not None:
            if before is None or alpha is None:
                old, alpha = amplitude(params, now, 0.0), steady_field(params, now, 0.0)
            else:
                turn = frame_turn(params, before, now)
                alpha = entering_field(params, before, now, alpha)
        for kind, start, n in layout(index, stage, resolution.settling):
            steps, field = _substeps(resolution, kind), None
            if sequence.switching is not None and steps:
                field, alpha = switched_field(
                    params,
                    now,
                    sequence.switching,
                    old,
                    alpha,
                    dt,
                    stage.n_samples * dt,
                    start,
                    n_samples=n,
                    substeps=steps,
                    points=_points(resolution),
                )
            elif sequence.switching is not None:
                alpha = steady_field(params, now)
            place = dict(stage=index, first=first + start, start=start)
            sizes = dict(n_samples=n, n_stage=stage.n_samples, substeps=steps)
            made.append(
                Segment(**place, **sizes, controls=now, field=field, turn=None if start else turn)
            )
        if sequence.switching is not None:
            span = stage.n_samples * dt
            old = drive(params, now, sequence.switching, old, span, span)
        before, first = now, first + stage.n_samples
    return tuple(made)


def _substeps(resolution: Resolution, kind: str) -> int:
    """Return the sub-steps of a sample in a part of that kind; 0 if it stands still."""
    if kind == "still":
        return 0
    if resolution.method != "exact":
        return resolution.substeps
    return resolution.switch_substeps if kind == "switch" else resolution.ramp_substeps


def transitions(
    params: Params,
    segment: Segment,
    offsets: Float[Array, "k 2"],
    dt: float,
    resolution: Resolution,
    model: str = "adiabatic",
) -> Transition:
    """Return a segment's Transitions at k offsets of (omega_m, omega_s) in rad/s, one by one.

    Leading axes (k,) for a segment that stands still, (samples, k) for one that moves.
    model: which signals are integrated, a key of physics.model.SIGNALS.
    """
    # Where a segment lies in its shot is no business of the compiled program.
    segment = dataclasses.replace(segment, stage=0, first=0)
    if not segment.controls.is_ramp:
        n = segment.n_samples if segment.moves else 1
        segment = dataclasses.replace(segment, start=0, n_samples=n, n_stage=n)
    # Nor are the steps of other segments, nor what they were chosen for.
    own = Resolution(
        method=resolution.method, substeps=resolution.substeps, doublings=resolution.doublings
    )
    return _transitions(params, segment, offsets, dt, own, model)


@functools.partial(jax.jit, static_argnames=("resolution", "model"))
def _transitions(params, segment: Segment, offsets, dt, resolution: Resolution, model: str):
    method, exact = resolution.method, resolution.method == "exact"

    def one(offset) -> Transition:
        p, c = _offset(params, segment.controls, offset)
        rows, cross, own = signals(p, model)
        d = augment_diffusion(diffusion(p, c), cross, own)
        dark = jnp.zeros_like(rows)

        def generator(at, field):
            field = None if field is None else (field[0], field[1])
            return augment(free_drift(p, c, at), rows), augment(
                coupling_drift(p, c, at, field), dark
            )

        if not segment.moves:
            free, coupling = generator(0.0, None)
            return constant_transition(
                free,
                coupling,
                d,
                dt,
                method=method,
                substeps=resolution.substeps,
                doublings=resolution.doublings,
            )
        n, steps, points = segment.n_samples, segment.substeps, np.array(_points(resolution))
        grid = np.arange(steps)[:, None] + points[None]
        at = (segment.start + np.arange(n)[:, None, None] + grid[None] / steps) / segment.n_stage
        # A sub-step is shorter than the sample that the doublings are for.
        fewer = int(np.log2(steps)) if exact else 0
        doublings = max(1, resolution.doublings - fewer)
        made = jax.vmap(
            lambda at, field: moving_transition(
                generator, d, dt, at, field, method=method, doublings=doublings
            )
        )(jnp.asarray(at), segment.field)
        if segment.turn is None:
            return made
        size = made.A.shape[-1]
        span = slice(N_STATE - 2, N_STATE)
        turn = jnp.eye(size).at[span, span].set(segment.turn)
        return dataclasses.replace(made, A=made.A.at[0].set(made.A[0] @ turn))

    return jax.vmap(one, out_axes=1 if segment.moves else 0)(offsets)


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


def plan(
    params: Params,
    parts: tuple[Segment, ...],
    dt: float,
    resolution: Resolution,
    model: str = "adiabatic",
) -> tuple[Transition, ...]:
    """Return node_transitions of every segment."""
    return tuple(node_transitions(params, part, dt, resolution, model) for part in parts)


def node_transitions(
    params: Params,
    segment: Segment,
    dt: float,
    resolution: Resolution,
    model: str = "adiabatic",
) -> Transition:
    """Return the coefficients of a segment's Transitions in the basis of `jitter_basis`.

    From their values on the tensor grid of Chebyshev nodes of both offsets.
    """
    grid = chebyshev_grid(resolution.jitter_nodes) * sigmas(params)[None]
    values = transitions(params, segment, grid, dt, resolution, model)
    return _coefficients(values, resolution.jitter_nodes)


def chebyshev_grid(count: int) -> Float[Array, "grid 2"]:
    """Return the tensor grid of nodes of both standardised offsets."""
    u = chebyshev_nodes(count)
    return jnp.asarray(np.stack(np.meshgrid(u, u, indexing="ij"), axis=-1).reshape(-1, 2))


@functools.partial(jax.jit, static_argnums=(1,))
def _coefficients(values: Transition, count: int) -> Transition:
    """Return coefficients (terms, z, z) of values on the grid, after any leading axis."""
    kept = jnp.asarray(chebyshev_projection(count))
    return jax.tree.map(lambda f: jnp.einsum("tk,...kab->...tab", kept, f), values)


def chebyshev_projection(count: int) -> Float[np.ndarray, "terms grid"]:
    """Return the matrix from values on the grid to coefficients in the basis of `jitter_basis`.

    c_ij = w_i w_j sum_kl T_i(u_k) T_j(u_l) f_kl / count^2, w_0 = 1 and w_i = 2 else.
    """
    order = np.arange(count)
    table = np.cos(np.pi * order[:, None] * (order[None] + 0.5) / count)
    table *= np.where(order == 0, 1.0, 2.0)[:, None] / count
    tensor = np.einsum("ik,jl->ijkl", table, table).reshape(count, count, -1)
    return np.stack([tensor[i, j] for i, j in _terms(count)])


def _terms(count: int) -> list[tuple[int, int]]:
    """Return the degrees (i, j) that are kept: those whose sum is below count."""
    return [(i, j) for i in range(count) for j in range(count - i)]


@functools.partial(jax.jit, static_argnums=(1,))
def jitter_basis(z: Float[Array, "2 shots"], count: int) -> Float[Array, "terms shots"]:
    """Return T_i(z_m/Z_MAX) T_j(z_s/Z_MAX), i + j < count, at standardised offsets |z| <= Z_MAX."""

    def along(x):
        made = [jnp.ones_like(x), x]
        for _ in range(count - 2):
            made.append(2 * x * made[-1] - made[-2])
        return made

    m, s = along(z[0] / Z_MAX), along(z[1] / Z_MAX)
    return jnp.stack([m[i] * s[j] for i, j in _terms(count)])


def interpolate(
    table: Float[Array, "terms *element"], basis: Float[Array, "terms shots"]
) -> Float[Array, "*element shots"]:
    """Return sum_k table_k basis_k with shots on the minor axis, summed in a fixed order."""
    shape = (1,) * (table.ndim - 1)
    total = table[0][..., None] * basis[0].reshape(*shape, -1)
    for k in range(1, table.shape[0]):
        total = total + table[k][..., None] * basis[k].reshape(*shape, -1)
    return total


@jax.jit
def at_offsets(nodes: Transition, basis: Float[Array, "terms shots"]) -> tuple[Leaf, Leaf]:
    """Return (A, Q) of one interval at the shots' offsets: (z, states, shots), (z, z, shots).

    A has no columns for the integrals, which start every interval at zero; Q is symmetric, and
    its lower triangle alone is evaluated.
    """
    size = nodes.A.shape[-1]
    rows, columns = np.tril_indices(size)
    place = np.zeros((size, size), int)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    a = interpolate(nodes.A[..., :N_STATE], basis)
    return a, interpolate(nodes.Q[..., rows, columns], basis)[place]

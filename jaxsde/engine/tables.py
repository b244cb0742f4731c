"""Tables: a sequence as affine-Gaussian maps whose elements are polynomials in a shot's offsets.

What the fused kernel reads.  The Transitions of engine.plan are turned into Steps at the Chebyshev
nodes, factor of the noise included, and the polynomials through them are evaluated for each shot
by the kernel: it factors nothing, and nothing but the table is stored for any number of shots.
The scan of engine.scan, which factors the noise of every shot by itself, is the twin to test it by.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.engine.plan import (
    Segment,
    chebyshev_grid,
    chebyshev_projection,
    jitter_basis,
    sigmas,
    transitions,
)
from jaxsde.engine.resolution import Resolution
from jaxsde.engine.step import Transition, output_maps, psd_cholesky
from jaxsde.physics.model import N_STATE, initial_covariance
from jaxsde.physics.params import Params

# One line of a program: first sample, samples, number of the (first) map, whether every sample has
# its own, whether the stage ends.
Line = tuple[int, int, int, bool, bool]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class StepTable:
    """Hold the maps of a sequence, row by row: offset, coefficients of x, then of the normals.

    maps: Chebyshev coefficients of every element, in the order of `jitter_basis`.
    start: rows of the root of the initial covariance.
    law_error: largest error on the grid of the noise's covariance, in units of its standard
        deviations: what the polynomials of its factor do not resolve.
    program: which samples each map serves.  n, k: numbers of states and outputs.
    nodes: of the polynomials.
    """

    maps: Float[Array, "maps terms size"]
    start: Float[Array, "roots"]
    law_error: Float[Array, ""]
    program: tuple[Line, ...] = dataclasses.field(metadata=dict(static=True))
    n: int = dataclasses.field(metadata=dict(static=True))
    k: int = dataclasses.field(metadata=dict(static=True))
    nodes: int = dataclasses.field(metadata=dict(static=True))

    @property
    def n_samples(self) -> int:
        """Samples of a shot."""
        return sum(samples for _, samples, *_ in self.program)

    @property
    def n_stages(self) -> int:
        """Stages of a shot."""
        return sum(ends for *_, ends in self.program)


def step_table(
    params: Params,
    parts: tuple[Segment, ...],
    readouts: tuple[Array, ...],
    noise: Float[Array, ""],
    dt: float,
    resolution: Resolution,
    model: str = "adiabatic",
) -> StepTable:
    """Return the StepTable of a sequence's segments under a receiver.

    readouts: of each segment, (quadratures, signals), or one for each sample.  noise: of a sample,
        independent.  dt: s.  model: a key of SIGNALS.
    """
    nodes = resolution.jitter_nodes
    grid = chebyshev_grid(nodes)
    made, program, count, errors = [], [], 0, []
    for part, readout in zip(parts, readouts, strict=True):
        at = transitions(params, part, grid * sigmas(params)[None], dt, resolution, model)
        maps, error = _segment_maps(at, readout, noise, dt, nodes)
        made.append(maps)
        errors.append(error)
        program.append((part.first, part.n_samples, count, part.moves, part.ends_stage))
        count += maps.shape[0]
    root = psd_cholesky(initial_covariance(params))
    n = root.shape[0]
    return StepTable(
        maps=jnp.concatenate(made),
        start=root[np.tril_indices(n)],
        law_error=jnp.max(jnp.stack(errors)),
        program=tuple(program),
        n=n,
        k=readouts[0].shape[-2],
        nodes=nodes,
    )


@functools.partial(jax.jit, static_argnames=("nodes",))
def _segment_maps(
    at: Transition, readout, noise, dt, nodes: int
) -> tuple[Float[Array, "maps terms size"], Float[Array, ""]]:
    """Return the coefficients of a segment's maps from its Transitions on the grid, and law_error.

    The polynomials have fewer terms than the grid has points, so that what they miss shows there.
    """
    projection = chebyshev_projection(nodes)
    # What the grid makes of a shot without offsets decides which directions have no noise.
    middle = jnp.asarray(projection.T) @ jitter_basis(jnp.zeros((2, 1)), nodes)[:, 0]
    basis = jitter_basis(chebyshev_grid(nodes).T, nodes)
    moves = at.A.ndim == 4
    if not moves:
        at, readout = jax.tree.map(lambda leaf: leaf[None], (at, readout))

    def one(at: Transition, readout):
        """Return the coefficients of one map; its grid is on the first axis."""
        outputs = jax.vmap(lambda a, q: output_maps(a, q, readout, noise, dt))(
            at.A[..., :N_STATE], at.Q
        )
        a, c, joint = (jnp.moveaxis(leaf, 0, -1) for leaf in outputs)
        live = jnp.diagonal(psd_cholesky(joint @ middle)) > 0
        root = psd_cholesky(joint, live)
        rows = jnp.concatenate([a, c])
        values = jnp.concatenate([_row(rows[i], root[i, : i + 1]) for i in range(rows.shape[0])])
        kept = jnp.asarray(projection)
        smooth = jnp.einsum("tg,th,ijg->ijh", kept, basis, root)
        scale = jnp.sqrt(jnp.einsum("iig->ig", joint))
        scale = jnp.where(scale > 0, scale, 1.0)
        off = jnp.einsum("ikg,jkg->ijg", smooth, smooth) - joint
        return kept @ values.T, jnp.max(jnp.abs(off) / (scale[:, None] * scale[None]))

    maps, errors = jax.vmap(one)(at, readout)
    return maps, jnp.max(errors)


def _row(coefficients: Array, normals: Array) -> Array:
    """Return (offset, coefficients, normals); these systems have no offset."""
    return jnp.concatenate([jnp.zeros_like(coefficients[:1]), coefficients, normals])

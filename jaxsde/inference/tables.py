"""Tables: what the filter needs of a model, before the frequencies of a shot are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsde.engine.detect import Detector, independent_noise
from jaxsde.engine.plan import at_offsets, node_transitions, segment_readout, segments
from jaxsde.engine.resolution import Resolution, layout
from jaxsde.engine.step import Transition, make_step
from jaxsde.physics.model import initial_covariance
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Tables:
    """Hold what the filter needs of a model, before the offsets are known.

    transitions: Chebyshev coefficients of each distinct sample interval.  gains: its receiver's.
    noise: independent variance of a sample, W^2.  spread: standard deviations of the start.
    Derivatives of Tables have the parameters on a first axis.
    """

    transitions: Transition
    gains: Float[Array, "*batch k signals"]
    noise: Float[Array, "*parameters"]
    spread: Float[Array, "*parameters n"]


def tabulate(
    params: Params, sequence: Sequence, detector: Detector, resolution: Resolution
) -> Tables:
    """Return the Tables of a model; `interval_of` tells which entry a sample is."""
    parts, gains = [], []
    dt = sequence.sample_interval
    for part in segments(params, sequence, resolution):
        table = node_transitions(params, part, dt, resolution, detector.model)
        gain = segment_readout(params, part, detector)
        parts.append(table if part.moves else jax.tree.map(lambda x: x[None], table))
        gains.append(gain if part.moves else gain[None])
    return Tables(
        transitions=jax.tree.map(lambda *x: jnp.concatenate(x), *parts),
        gains=jnp.concatenate(gains),
        noise=independent_noise(detector),
        spread=jnp.sqrt(jnp.diagonal(initial_covariance(params))),
    )


def interval_of(sequence: Sequence, resolution: Resolution) -> Int[np.ndarray, "samples"]:
    """Return the entry of Tables that each sample of a sequence has."""
    found, count = [], 0
    for index, stage in enumerate(sequence.stages):
        for kind, _, n in layout(index, stage, resolution.settling):
            moves = kind != "still"
            found.append(count + (np.arange(n) if moves else np.zeros(n, int)))
            count += n if moves else 1
    return np.concatenate(found)


def step_fields(tables: Tables, basis: Float[Array, "terms nodes"], dt: float) -> dict[str, Array]:
    """Return the fields (distinct, ..., nodes) of the Steps of every distinct interval."""

    def one(transition: Transition, gains: Array) -> dict[str, Array]:
        a, q = at_offsets(transition, basis)
        return vars(make_step(a, q, gains, tables.noise, dt, a.dtype))

    return jax.vmap(one)(tables.transitions, tables.gains)


def start_root(tables: Tables, nodes: int, patterns: int) -> Float[Array, "n n nodes patterns"]:
    """Return the root of the covariance that shots start with."""
    n = tables.spread.shape[0]
    return jnp.broadcast_to(jnp.diag(tables.spread)[..., None, None], (n, n, nodes, patterns))

"""Backends: the plain scan and the fused kernel behind the same two functions.

`prepare` turns a sequence into what a backend reads, once for all shots; `run` advances shots.
Which one runs is chosen by `choose_backend` and told in the result.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from jaxsde.engine.detect import Detector
from jaxsde.engine.fused import MAX_FILTERS, MAX_NODES, advance_fused
from jaxsde.engine.native import Build, kernel
from jaxsde.engine.outputs import GROUP, Asked, Outputs
from jaxsde.engine.plan import plan, segments
from jaxsde.engine.resolution import Resolution
from jaxsde.engine.scan import Planned, advance, receiver
from jaxsde.engine.tables import StepTable, step_table
from jaxsde.engine.technical import imperfect
from jaxsde.physics.model import N_STATE, measured
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence

BACKENDS = ("auto", "scan", "fused")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backend:
    """Say what runs: the scan if build is None, else the fused kernel.

    note: why the choice fell so, where it was not the user's.
    """

    build: Build | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """Name of what runs."""
        return "scan" if self.build is None else "fused"


SCAN = Backend()


def kernel_here() -> Build:
    """Return the kernel for the default device, built if need be."""
    kinds = {"cpu": "cpu", "gpu": "cuda", "cuda": "cuda"}
    device = jax.default_backend()
    if device not in kinds:
        return Build(platform=device, message=f"there is no kernel for {device}")
    return kernel(kinds[device], N_STATE)


def choose_backend(wanted: str, resolution: Resolution, dtype: Any, filters: int = 0) -> Backend:
    """Return what runs for "auto", "scan" or "fused".

    Raises ValueError for another name, or "fused" where the kernel cannot serve, with the reason.
    """
    if wanted not in BACKENDS:
        raise ValueError(f"backend: wanted one of {', '.join(BACKENDS)}, got {wanted!r}")
    if wanted == "scan":
        return SCAN
    build = kernel_here()
    reason = refusal(build, resolution.jitter_nodes, filters, dtype)
    if not reason:
        return Backend(build=build, note=build.message)
    if wanted == "fused":
        raise ValueError(
            f"backend: 'fused' cannot run: {reason}; take backend='scan', or 'auto', which does"
        )
    return Backend(note=reason)


def refusal(build: Build, nodes: int, filters: int, dtype: Any) -> str:
    """Return why the kernel cannot serve, or nothing; a pure predicate."""
    name = jnp.dtype(dtype).name
    if not build.ready:
        return build.message
    if f"advance_f{name.removeprefix('float')}" not in build.targets:
        return f"the kernel for {build.platform} has no {name}"
    if nodes > MAX_NODES:
        return f"jitter within a sample takes {nodes} nodes, and the kernel holds {MAX_NODES}"
    if filters > MAX_FILTERS:
        return f"{filters} filters were given, and the kernel holds {MAX_FILTERS}"
    return ""


def prepare(
    backend: Backend, params: Params, sequence: Sequence, detector: Detector, resolution: Resolution
) -> Planned | StepTable:
    """Return what the backend reads of a sequence under a receiver; differentiable."""
    parts, dt = segments(params, sequence, resolution), sequence.sample_interval
    if backend.build is None:
        return parts, plan(params, parts, dt, resolution, detector.model)
    bare = dataclasses.replace(detector, technical=None)
    seen = [receiver(params, part, bare, detector.technical is not None) for part in parts]
    readouts = tuple(readout for readout, _ in seen)
    return step_table(params, parts, readouts, seen[0][1], dt, resolution, detector.model)


def run(
    backend: Backend,
    prepared: Planned | StepTable,
    seed: UInt32[Array, "2"],
    params: Params,
    sequence: Sequence,
    detector: Detector,
    ids: UInt32[Array, "shots"],
    resolution: Resolution,
    dtype: Any,
    *,
    asked: Asked,
    weights: Float[Array, "filters samples quadratures"] | None = None,
) -> Outputs:
    """Advance shots through every stage; differentiable, by the kernel forwards alone.

    ids: of the shots.  dtype: of the trajectories.  weights: of filters inside the loop.
    Raises ValueError for weights or sums with a technical layer, which acts on whole records.
    """
    technical, dtype = detector.technical, jnp.dtype(dtype)
    if technical is not None and weights is not None:
        raise ValueError(
            "detector.technical: wanted None where filters run inside the loop, since local "
            "oscillator and digitiser act on whole records; leave it out of the model"
        )
    if isinstance(prepared, StepTable):
        assert backend.build is not None
        out = advance_fused(
            backend.build,
            seed,
            prepared,
            ids,
            asked,
            dtype,
            row=measured(params) if asked.features(N_STATE) else None,
            weights=weights,
        )
        if technical is None or not asked.record:
            return out
        record, clipped = imperfect(
            seed,
            jnp.transpose(out.record, (1, 2, 0)),
            ids,
            technical,
            detector.quadratures,
            detector.angle,
            sequence.sample_interval,
        )
        return dataclasses.replace(out, record=jnp.transpose(record, (2, 0, 1)), clipped=clipped)
    return _scanned(
        prepared, seed, params, sequence, detector, ids, resolution, dtype, asked, weights
    )


def _scanned(
    prepared: Planned,
    seed: Array,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    ids: Array,
    resolution: Resolution,
    dtype: Any,
    asked: Asked,
    weights: Array | None,
) -> Outputs:
    """Return the Outputs of the scan; its sums are made of whole trajectories."""
    features = asked.features(N_STATE)
    result, states, _, clipped = advance(
        seed,
        params,
        sequence,
        detector,
        ids,
        resolution,
        dtype,
        weights,
        planned=prepared,
        trajectory=features > 0,
    )
    sums = jnp.zeros((0, 0, 0), dtype)
    if features:
        groups = range(0, ids.shape[0], GROUP)
        row = measured(params).astype(dtype)
        sums = jnp.stack([_sums(states[..., i : i + GROUP], row, features) for i in groups])
        ends = jnp.cumsum(jnp.array([stage.n_samples for stage in sequence.stages])) - 1
        states = states[ends]
    nothing = jnp.zeros((0, 0, 0), dtype)
    return Outputs(
        record=jnp.transpose(result, (2, 0, 1)) if asked.record and weights is None else nothing,
        filters=jnp.zeros((0, 0), dtype) if weights is None else result.T,
        states=jnp.transpose(states, (2, 0, 1)) if asked.states else nothing,
        sums=sums,
        clipped=clipped,
    )


def _sums(
    x: Float[Array, "samples n shots"], row: Float[Array, "n"], features: int
) -> Float[Array, "samples features"]:
    """Return sums over shots of D^2 and D^4, D = row x, and of x_i x_j, j <= i."""
    d = jnp.einsum("i,tis->ts", row, x)
    columns = [jnp.sum(d**2, axis=1), jnp.sum(d**4, axis=1)]
    if features > 2:
        columns += [
            jnp.sum(x[:, i] * x[:, j], axis=1) for i in range(x.shape[1]) for j in range(i + 1)
        ]
    return jnp.stack(columns, axis=1)

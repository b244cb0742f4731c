"""Backends: the plain scan and the fused kernel behind the same two functions.

`prepare` turns a sequence into what a backend reads, once for all shots; `run` advances shots.
Which one runs is chosen by `choose_backend` and told in the result.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from jaxsde.engine.detect import Detector
from jaxsde.engine.fused import MAX_FILTERS, MAX_NODES, advance_fused
from jaxsde.engine.native import Build, kernel
from jaxsde.engine.outputs import GROUP, Asked, Outputs
from jaxsde.engine.plan import segments
from jaxsde.engine.resolution import Resolution
from jaxsde.engine.scan import Planned, advance, plan_scan, readouts
from jaxsde.engine.tables import StepTable, step_table
from jaxsde.engine.technical import imperfect
from jaxsde.physics.model import N_STATE, measured
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence

BACKENDS = ("auto", "scan", "fused")
# Of the covariance of a step's noise, relative to itself.
LAW_ERROR = 1e-6
_REFUSED = "backend: 'fused' cannot run: {reason}; take backend='scan', or 'auto', which does"


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
    (device,) = jnp.zeros(()).devices()
    if device.platform == "cpu":
        return kernel("cpu", N_STATE)
    if device.platform in ("gpu", "cuda") and "NVIDIA" in device.device_kind:
        return kernel("cuda", N_STATE)
    return Build(platform=device.platform, message=f"there is no kernel for {device.device_kind}")


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
        raise ValueError(_REFUSED.format(reason=reason))
    return Backend(note=reason)


def choose_engine(
    wanted: str,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    resolution: Resolution,
    dtype: Any,
    filters: int = 0,
) -> tuple[Backend, Planned | StepTable]:
    """Return what runs, and what it reads of concrete params: `choose_backend` and `prepare`.

    The kernel is not taken where its polynomials do not resolve the factor of the noise.
    Raises ValueError for "fused" where the kernel cannot serve, with the reason.
    """
    backend = choose_backend(wanted, resolution, dtype, filters)
    prepared = prepare(backend, params, sequence, detector, resolution)
    if isinstance(prepared, StepTable) and not float(prepared.law_error) < LAW_ERROR:
        reason = (
            "the noise of this system turns too fast with a shot's frequency offsets for the "
            f"kernel's polynomials: its covariance errs by {float(prepared.law_error):.1g}"
        )
        if wanted == "fused":
            raise ValueError(_REFUSED.format(reason=reason))
        backend = Backend(note=reason)
        prepared = prepare(backend, params, sequence, detector, resolution)
    return backend, prepared


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
    if backend.build is None:
        return plan_scan(params, sequence, detector, resolution)
    parts, dt = segments(params, sequence, resolution), sequence.sample_interval
    seen, noise = readouts(params, parts, detector)
    return step_table(params, parts, seen, noise, dt, resolution, detector.model)


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
    if weights is not None:
        wanted = (sequence.n_samples, len(detector.quadratures))
        if weights.shape[1:] != wanted or not weights.shape[0]:
            raise ValueError(
                f"weights: wanted shape (filters, {wanted[0]}, {wanted[1]}) for this sequence and "
                f"detector, got {weights.shape}"
            )
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
    inside = None if asked.record else weights
    result, states, _, clipped = advance(
        seed,
        params,
        sequence,
        detector,
        ids,
        resolution,
        dtype,
        inside,
        planned=prepared,
        trajectory=features > 0,
    )
    filters = jnp.zeros((0, 0), dtype)
    if weights is not None:
        both = None if inside is not None else jnp.einsum("ftk,tks->fs", weights, result)
        filters = (result if both is None else both).astype(dtype).T
    sums = jnp.zeros((0, 0, 0), dtype)
    if features:
        groups = range(0, ids.shape[0], GROUP)
        row = measured(params).astype(dtype)
        sums = jnp.stack([_sums(states[..., i : i + GROUP], row, features) for i in groups])
        ends = jnp.cumsum(jnp.array([stage.n_samples for stage in sequence.stages])) - 1
        states = states[ends]
    nothing = jnp.zeros((0, 0, 0), dtype)
    return Outputs(
        record=jnp.transpose(result, (2, 0, 1)) if asked.record else nothing,
        filters=filters,
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

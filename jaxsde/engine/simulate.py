"""Simulate: from parameters and a sequence to shots and their records."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsde.engine.aliasing import aliases
from jaxsde.engine.backends import Backend, choose_engine, run
from jaxsde.engine.blocks import cut, may_thread, run_blocks
from jaxsde.engine.detect import Detector, check_detector
from jaxsde.engine.noise import seed_words
from jaxsde.engine.outputs import Asked, Outputs
from jaxsde.engine.plan import sigmas
from jaxsde.engine.resolution import TOLERANCE, Resolution, choose_resolution
from jaxsde.engine.scan import frequency_offsets
from jaxsde.physics.model import N_STATE
from jaxsde.physics.params import Params, check_params
from jaxsde.physics.sequence import Sequence, check_sequence

OVERFLOWED = 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Shots:
    """Hold simulated shots.

    record: W, or rad/s for the ideal detector.  time: middle of each sample, s.
    stage: index of each sample's stage.  omega_m, omega_s: of each shot (at rest), rad/s.
    states: x at the end of each stage.  status: 0, or 1 where a shot is not finite.
    clipped: samples of each shot that left the digitiser's range.
    backend, method, resolution: what ran.  note: why that backend, where "auto" chose another than
        the fused kernel, or what a user should know of the kernel.
    """

    record: Float[Array, "shots samples quadratures"]
    time: Float[np.ndarray, "samples"]
    stage: Int[np.ndarray, "samples"]
    omega_m: Float[Array, "shots"]
    omega_s: Float[Array, "shots"]
    states: Float[Array, "shots stages 6"]
    status: Int[Array, "shots"]
    clipped: Int[Array, "shots"]
    backend: str = dataclasses.field(metadata=dict(static=True))
    method: str = dataclasses.field(metadata=dict(static=True))
    resolution: Resolution = dataclasses.field(metadata=dict(static=True))
    note: str = dataclasses.field(default="", metadata=dict(static=True))


def simulate(
    key: Array,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    n_shots: int,
    *,
    method: str = "exact",
    substeps: int = 1,
    tolerance: float = TOLERANCE,
    backend: str = "auto",
    dtype: Any = None,
    first_shot: int = 0,
    block_shots: int | None = None,
    on_block: Callable[[int], None] | None = None,
) -> Shots:
    """Simulate S6-S8 over n_shots shots with frequency jitter, and their heterodyne records.

    key: JAX random key; with the shot's index and the step it alone decides every number.
    method: "exact", "interaction_euler" or "euler_maruyama" (S6-S8 in the laboratory frame).
    substeps: Euler steps in each sample, an integer.
    tolerance: of the covariance through ramps and switches, for the exact method; the sub-steps
        it took and the error estimated for them are in Shots.resolution.
    backend: "fused" is the native kernel, compiled at first use (some 8 s, then kept); "scan" is
        plain JAX; "auto" takes the kernel where it can be built.  What ran is in Shots.backend,
        and why in Shots.note.
    dtype: of the trajectories, jnp.float32 or jnp.float64; by default the widest enabled.
        Propagators and covariances always use the widest enabled.
    first_shot: index of the first shot, so that an ensemble can be made in parts.
    block_shots: shots advanced together, for the scan in multiples of 32, chosen if None; has no
        effect on the result.
    on_block: called with the number of shots done after each block.

    Raises ValueError for parameters, controls, counts, tolerances or intervals that cannot be.
    Warns of frequencies above half the sample rate, and where a record would show them.
    """
    check_params(params)
    check_sequence(sequence)
    check_detector(detector)
    _check_run(sequence, detector, n_shots, first_shot, block_shots)
    for message in aliases(params, sequence):
        warnings.warn(message, stacklevel=2)
    dtype = _trajectory_dtype(dtype)
    resolution = choose_resolution(
        params, sequence, method=method, substeps=substeps, tolerance=tolerance
    )
    engine, prepared = choose_engine(backend, params, sequence, detector, resolution, dtype)
    seed, asked, native = seed_words(key), Asked(), engine.build is not None

    def work(start: int, size: int):
        ids = jnp.uint32(start + first_shot) + jnp.arange(size, dtype=jnp.uint32)
        out = run(
            engine, prepared, seed, params, sequence, detector, ids, resolution, dtype, asked=asked
        )
        return out.record, out.states, _frequencies(seed, ids, params), out.clipped

    blocks = cut(n_shots, block_shots, native=native, told=on_block is not None)
    threads = not native and may_thread(key, params, sequence, detector)
    record, states, omega, clipped = run_blocks(
        work, blocks, n_shots, threads=threads, on_block=on_block
    )
    finite = jnp.isfinite(record).all((1, 2)) & jnp.isfinite(states).all((1, 2))
    return Shots(
        record=record,
        time=sequence.time,
        stage=sequence.stage_index,
        omega_m=omega[:, 0],
        omega_s=omega[:, 1],
        states=states,
        status=jnp.where(finite, 0, OVERFLOWED),
        clipped=clipped,
        backend=engine.name,
        note=engine.note,
        method=method,
        resolution=resolution,
    )


def simulate_outputs(
    key: Array,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    n_shots: int,
    *,
    asked: Asked,
    weights: Float[Array, "filters samples quadratures"] | None = None,
    method: str = "exact",
    substeps: int = 1,
    tolerance: float = TOLERANCE,
    backend: str = "auto",
    dtype: Any = None,
    first_shot: int = 0,
) -> tuple[Outputs, Backend]:
    """Simulate shots as `simulate` does, and return only what is asked for, and what ran.

    Filters, sums over shots and final states leave the loop without a record ever being made.
    asked: what is to leave.  weights: of filters, sum_t weights_t y_t, up to 16 for the kernel.
    Others as of `simulate`; raises and warns as it does, and ValueError for weights that do not
    fit or a technical layer with weights.
    """
    check_params(params)
    check_sequence(sequence)
    check_detector(detector)
    _check_run(sequence, detector, n_shots, first_shot, None)
    for message in aliases(params, sequence):
        warnings.warn(message, stacklevel=2)
    dtype = _trajectory_dtype(dtype)
    resolution = choose_resolution(
        params, sequence, method=method, substeps=substeps, tolerance=tolerance
    )
    filters = 0 if weights is None else weights.shape[0]
    engine, prepared = choose_engine(
        backend, params, sequence, detector, resolution, dtype, filters
    )
    native = engine.build is not None
    whole = native or asked.features(N_STATE) > 0  # sums are over shots that are there, in groups
    blocks = [(0, n_shots)] if whole else cut(n_shots, None, native=False, told=False)
    seed = seed_words(key)

    def work(start: int, size: int) -> Outputs:
        ids = jnp.uint32(start + first_shot) + jnp.arange(size, dtype=jnp.uint32)
        return run(
            engine,
            prepared,
            seed,
            params,
            sequence,
            detector,
            ids,
            resolution,
            dtype,
            asked=asked,
            weights=weights,
        )

    threads = not native and may_thread(key, params, sequence, detector, weights)
    return run_blocks(work, blocks, n_shots, threads=threads), engine


def _check_run(
    sequence: Sequence,
    detector: Detector,
    n_shots: int,
    first_shot: int,
    block_shots: int | None,
) -> None:
    for name, value, least in (
        ("n_shots", n_shots, 1),
        ("block_shots", 1 if block_shots is None else block_shots, 1),
        ("first_shot", first_shot, 0),
    ):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name}: wanted an integer of at least {least}, got {value!r}")
    if first_shot + n_shots > 2**32:
        raise ValueError(f"n_shots: wanted shot indices below 2^32, got {first_shot + n_shots}")
    if detector.sample_interval != sequence.sample_interval:
        raise ValueError(
            f"detector.sample_interval: wanted the sequence's {sequence.sample_interval:g} s, got "
            f"{detector.sample_interval:g} s; make both with the same sample_interval"
        )


def _trajectory_dtype(dtype: Any) -> jnp.dtype:
    widest = jnp.result_type(float)
    wanted = jnp.dtype(widest if dtype is None else dtype)
    if wanted not in (jnp.dtype("float32"), jnp.dtype("float64")):
        raise ValueError(f"dtype: wanted float32 or float64, got {wanted}")
    if wanted == jnp.dtype("float64") and widest != wanted:
        raise ValueError(
            "dtype: float64 needs jax.config.update('jax_enable_x64', True) before any array "
            "is made"
        )
    return wanted


@jax.jit
def _frequencies(seed, ids, params) -> Float[Array, "shots 2"]:
    """Return the shots' (omega_m, omega_s), rad/s."""
    rest = jnp.stack([jnp.asarray(params.omega_m), jnp.asarray(params.omega_s)])
    return (rest[:, None] + sigmas(params)[:, None] * frequency_offsets(seed, ids)).T

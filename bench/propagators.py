"""How long do the propagators of 10,000 jittered shots take? Medians, compilation apart.

The five-stage sequence with its two ramps, for both models of the receiver: the table over the
Chebyshev nodes, its interpolation to the shots, and the Cholesky factors that make Steps (float32)
of them. And one constant stage, against its slow twins: `transitions` at every shot, and SciPy's
expm, one after another.
"""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

# Threads of a BLAS for matrices of 14 x 14 would measure how they wait for each other.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

import jaxsde
from jaxsde.engine.detect import independent_noise
from jaxsde.engine.plan import (
    at_offsets,
    jitter_basis,
    node_transitions,
    plan,
    segment_readout,
    segments,
    sigmas,
    transitions,
)
from jaxsde.engine.propagate import augment, augment_diffusion
from jaxsde.engine.resolution import Z_MAX, choose_resolution
from jaxsde.engine.step import make_step
from jaxsde.physics.model import diffusion, drift, measured

ROUNDS = 7
SHOTS = 10_000
# SciPy takes so many of them; its time is scaled.
FEW = 200
PARAMS = jaxsde.Params.kohler2018()
Job = Callable[[], Any]


def offsets() -> jax.Array:
    """Return the shots' standard normal offsets (2, shots)."""
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, SHOTS)).clip(-Z_MAX, Z_MAX))


def sequence_jobs(model: str) -> dict[str, Job]:
    """Return what makes the Steps of the whole sequence, in parts that add up to all of it."""
    sequence, detector = jaxsde.Sequence.kohler2018(), jaxsde.Detector(model=model)
    dt, resolution = sequence.sample_interval, choose_resolution(PARAMS, sequence)
    basis = jitter_basis(offsets(), resolution.jitter_nodes)
    noise = independent_noise(detector)

    @jax.jit
    def interpolated(table, basis):
        if table.A.ndim == 4:
            return jax.lax.map(lambda t: at_offsets(t, basis), table)
        return at_offsets(table, basis)

    @jax.jit
    def steps(table, basis, gains):
        def one(table, gains):
            return make_step(*at_offsets(table, basis), gains, noise, dt, jnp.float32)

        if table.A.ndim == 4:
            return jax.lax.map(lambda inputs: one(*inputs), (table, gains))
        return one(table, gains)

    def nodes():
        parts = segments(PARAMS, sequence, resolution)
        return parts, plan(PARAMS, parts, dt, resolution, model)

    parts, tables = nodes()
    gains = [segment_readout(PARAMS, part, detector) for part in parts]

    def all_of_it():
        parts, tables = nodes()
        rows = [segment_readout(PARAMS, part, detector) for part in parts]
        return [steps(t, basis, g) for t, g in zip(tables, rows, strict=True)]

    return {
        "all": all_of_it,
        "nodes": lambda: nodes()[1],
        "interpolation": lambda: [interpolated(t, basis) for t in tables],
        "interpolation and factors": lambda: [
            steps(t, basis, g) for t, g in zip(tables, gains, strict=True)
        ],
    }


def stage_jobs() -> tuple[dict[str, Job], Callable[[], list[float]]]:
    """Return three ways to (A, Q) of one constant stage, and what gives their differences."""
    full = jaxsde.Sequence.kohler2018()
    dt, stage = full.sample_interval, full.stages[2]
    sequence = jaxsde.Sequence(stages=(stage,), sample_interval=dt)
    resolution = choose_resolution(PARAMS, sequence)
    (segment,) = segments(PARAMS, sequence, resolution)
    z = offsets()
    shifts = z.T * sigmas(PARAMS)[None]

    def chebyshev():
        table = node_transitions(PARAMS, segment, dt, resolution)
        return at_offsets(table, jitter_basis(z, resolution.jitter_nodes))

    def direct():
        return transitions(PARAMS, segment, shifts, dt, resolution)

    m = np.asarray(augment(drift(PARAMS, stage.controls), measured(PARAMS)[None]))
    zeros = jnp.zeros((6, 1)), jnp.zeros((1, 1))
    d = np.asarray(augment_diffusion(diffusion(PARAMS, stage.controls), *zeros))
    few = np.asarray(shifts)[:FEW]

    def scipy_expm():
        made = []
        for w_m, w_s in few:
            own = m.copy()
            own[0, 1], own[1, 0] = own[0, 1] + w_m, own[1, 0] - w_m
            own[2, 3], own[3, 2] = own[2, 3] - w_s, own[3, 2] + w_s  # epsilon = -1
            doubled = scipy.linalg.expm(np.block([[-own, d], [np.zeros((7, 7)), own.T]]) * dt)
            a = doubled[7:, 7:].T
            made.append((a, a @ doubled[:7, 7:]))  # Van Loan
        return made

    def differences() -> list[float]:
        """Of A from `direct`: of the interpolation for all shots, and of SciPy for some."""
        a, twin = np.moveaxis(np.asarray(chebyshev()[0]), -1, 0), np.asarray(direct().A)[..., :6]
        slow = np.array([a for a, _ in scipy_expm()])[..., :6]
        size = np.abs(twin).max(axis=(0, 2))[None, :, None]
        pairs = ((a, twin), (slow, twin[:FEW]))
        return [float((np.abs(x - y) / size).max()) for x, y in pairs]

    return {"chebyshev": chebyshev, "direct": direct, f"scipy expm, {FEW}": scipy_expm}, differences


def main() -> None:
    """Time every job in turn, ROUNDS times over."""
    jax.config.update("jax_enable_x64", True)
    jobs = {}
    for model in ("adiabatic", "input_output"):
        jobs |= {f"{model}: {name}": job for name, job in sequence_jobs(model).items()}
    stage, differences = stage_jobs()
    jobs |= {f"pulse: {name}": job for name, job in stage.items()}
    first, times = {}, {name: [] for name in jobs}
    for number in range(ROUNDS + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            jax.block_until_ready(job())
            spent = time.perf_counter() - start
            if number:
                times[name].append(spent)
            else:
                first[name] = spent
    print(f"{jax.devices()[0].device_kind}, JAX {jax.__version__}, {SHOTS:,} shots")
    for name, spent in times.items():
        scale = SHOTS / FEW if "scipy" in name else 1.0
        low, mid, high = (scale * f(spent) for f in (min, statistics.median, max))
        print(f"{name:42} {mid:7.3f} s ({low:.3f} to {high:.3f}), first call {first[name]:.1f} s")
    ours, scipys = differences()
    print(f"largest difference of A from direct evaluation: {ours:.0e}, of SciPy's {scipys:.0e}")


if __name__ == "__main__":
    main()

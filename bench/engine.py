"""How many shot-steps per second does the scan make? Compilation apart, medians, interleaved.

Workload X: exact steps of the ringdown, the I and Q record kept (design: 10,000 shots x 1,000).
Workload F: the same, only four matched-filter outputs leave the loop.
Workload E: Euler-Maruyama, one substep of 1 ns a sample, 1,000 shots x 40,000 steps, D kept.
Workload N: the noise alone, eight normals a shot-step.
"""

import dataclasses
import statistics
import time

import jax
import jax.numpy as jnp

import jaxsde
from jaxsde.engine.noise import PROCESS, normals, seed_words
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.scan import advance, plan_scan

ROUNDS = 5
BLOCK = 2048


def ringdown(n: int, dt: float) -> jaxsde.Sequence:
    """Return a measurement stage of n samples."""
    full = jaxsde.Sequence.kohler2018(sample_interval=0.5e-6)
    stage = dataclasses.replace(full.stages[-1], n_samples=n)
    return jaxsde.Sequence(stages=(stage,), sample_interval=dt)


def block(sequence, detector, dtype, method="exact", weights=None):
    """Return a compiled function of block number that advances one block of shots."""
    params = jaxsde.Params.kohler2018()
    resolution = choose_resolution(params, sequence, method=method)
    planned = plan_scan(params, sequence, detector, resolution)
    seed = seed_words(jax.random.key(0))

    def run(number):
        ids = jnp.arange(BLOCK, dtype=jnp.uint32) + jnp.uint32(number * BLOCK)
        return advance(
            seed,
            params,
            sequence,
            detector,
            ids,
            resolution,
            dtype,
            weights=weights,
            planned=planned,
        )[0]

    return run, BLOCK * sequence.n_samples


def noise(dtype):
    """Return a function that draws eight normals for each of 1,000 steps of a block."""
    seed = seed_words(jax.random.key(0))

    @jax.jit
    def run(number):
        ids = jnp.arange(BLOCK, dtype=jnp.uint32) + jnp.uint32(number * BLOCK)

        def body(total, step):
            return total + normals(seed, PROCESS, step, ids, 8, dtype), None

        start = jnp.zeros((8, BLOCK), dtype)
        return jax.lax.scan(body, start, jnp.arange(1000, dtype=jnp.uint32))[0]

    return run, BLOCK * 1000


def main() -> None:
    """Time every workload in turn, ROUNDS times over."""
    jax.config.update("jax_enable_x64", True)
    params, iq = jaxsde.Params.kohler2018(), jaxsde.Detector()
    measure = ringdown(1000, 0.5e-6)
    bank = jaxsde.matched_filter(params, measure, iq)
    fine = jaxsde.Detector.ideal(1e-9)
    jobs = {}
    for dtype in (jnp.float32, jnp.float64):
        name = jnp.dtype(dtype).name
        jobs[f"N {name}"] = noise(dtype)
        jobs[f"X {name}"] = block(measure, iq, dtype)
        jobs[f"F {name}"] = block(measure, iq, dtype, weights=bank.weights)
        jobs[f"E {name}"] = block(ringdown(4000, 1e-9), fine, dtype, "euler_maruyama")
    first, times = {}, {name: [] for name in jobs}
    for name, (run, _) in jobs.items():
        start = time.perf_counter()
        jax.block_until_ready(run(0))
        first[name] = time.perf_counter() - start
    for number in range(1, ROUNDS + 1):
        for name, (run, _) in jobs.items():
            start = time.perf_counter()
            jax.block_until_ready(run(number))
            times[name].append(time.perf_counter() - start)
    print(f"{jax.devices()[0].device_kind}, JAX {jax.__version__}, blocks of {BLOCK} shots")
    for name, (_, steps) in jobs.items():
        rates = sorted(steps / t for t in times[name])
        print(
            f"{name:10} {statistics.median(rates):.2e} shot-steps/s "
            f"({rates[0]:.2e} to {rates[-1]:.2e}), first call {first[name]:.1f} s"
        )


if __name__ == "__main__":
    main()

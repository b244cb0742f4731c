"""Time derivatives through the kernel: three tangents of four filters against a forward run.

Workload F of bench/engines.py with the paper's jitter: 10,000 shots of 1,000 exact steps, float32.
Interleaved, each after an untimed run of its own; compilation and the table's derivative apart.
"""

import dataclasses
import statistics
import time

import jax
import jax.numpy as jnp
from engines import RINGDOWN, sequence_of

import jaxsde
from jaxsde.engine import backends, fused
from jaxsde.engine.noise import seed_words
from jaxsde.engine.outputs import Asked
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.tables import StepTable

FREE = ("g_m", "g_s", "B_s")
ROUNDS = 9


def main() -> None:
    """Time the kernel on a table, and on it with the tangents of three parameters."""
    jax.config.update("jax_enable_x64", True)
    params, detector = jaxsde.Params.kohler2018(), jaxsde.Detector()
    sequence, dtype = sequence_of(1000, 0.5e-6), jnp.dtype("float32")
    assert sequence.stages[0].controls == RINGDOWN
    resolution = choose_resolution(params, sequence)
    chosen = backends.choose_backend("fused", resolution, dtype)
    assert chosen.build is not None
    weights = jaxsde.matched_filter(params, sequence, detector).weights
    seed, ids = seed_words(jax.random.key(0)), jnp.arange(10_000, dtype=jnp.uint32)
    asked = Asked(record=False, states=False)

    def table(u):
        factors = dict(zip(FREE, jnp.exp(u), strict=True))
        moved = dataclasses.replace(
            params, **{name: getattr(params, name) * f for name, f in factors.items()}
        )
        made = backends.prepare(chosen, moved, sequence, detector, resolution)
        assert isinstance(made, StepTable)
        return made

    zero = jnp.zeros(len(FREE))
    primal = table(zero)
    assert isinstance(primal, StepTable)
    slopes = jax.jacfwd(lambda u: (table(u).maps, table(u).start))(zero)
    slopes = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), slopes)

    @jax.jit
    def forward(maps, start):
        made = dataclasses.replace(primal, maps=maps, start=start)
        out = fused.advance_fused(chosen.build, seed, made, ids, asked, dtype, weights=weights)
        return out.filters

    @jax.jit
    def both(maps, start, d_maps, d_start):
        return jax.vmap(lambda m, s: jax.jvp(forward, (maps, start), (m, s)), out_axes=(None, 0))(
            d_maps, d_start
        )

    jobs = {
        "forward": lambda: forward(primal.maps, primal.start),
        "forward and three tangents": lambda: both(primal.maps, primal.start, *slopes),
    }
    times = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            jax.block_until_ready(job())
            start = time.perf_counter()
            jax.block_until_ready(job())
            times[name].append(time.perf_counter() - start)
    base = statistics.median(times["forward"])
    for name, values in times.items():
        middle = statistics.median(values)
        print(
            f"{name}: {middle * 1e3:.1f} ms ({min(values) * 1e3:.1f} to {max(values) * 1e3:.1f}), "
            f"{middle / base:.2f} times forward"
        )


if __name__ == "__main__":
    main()

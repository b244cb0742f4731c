import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
from jaxsde.engine.blocks import CPU_BLOCK, LANES, cut, may_thread, run_blocks

DT = 0.5e-6


@pytest.mark.parametrize("n_shots", [1, 255, 257, 511, 513, 10_000])
@pytest.mark.parametrize("size", [None, 1, 33, 4096])
@pytest.mark.parametrize("native", [True, False])
def test_every_shot_is_in_one_block(n_shots, size, native):
    blocks = cut(n_shots, size, native=native, told=True)
    covered = [first + i for first, count in blocks for i in range(count)]
    assert covered[:n_shots] == list(range(n_shots))
    if native:
        assert len(covered) == n_shots
    else:
        assert len({count for _, count in blocks}) == 1 and blocks[0][1] % LANES == 0


def squares(first: int, size: int):
    return {"square": (jnp.arange(size) + first) ** 2, "thread": jnp.ones((size, 2))}


@pytest.mark.parametrize("threads", [True, False])
def test_blocks_are_joined_in_order_and_told_in_order(threads):
    told = []
    out = run_blocks(
        squares, [(i, 32) for i in range(0, 320, 32)], 300, threads=threads, on_block=told.append
    )
    np.testing.assert_array_equal(out["square"], np.arange(300) ** 2)
    assert out["thread"].shape == (300, 2)
    assert told == [32, 64, 96, 128, 160, 192, 224, 256, 288, 300]


def test_threads_take_blocks_and_one_that_fails_is_heard():
    seen = set()

    def noted(first, size):
        seen.add(threading.get_ident())
        if first == 96:
            raise FloatingPointError("block 3")
        return squares(first, size)

    with pytest.raises(FloatingPointError, match="block 3"):
        run_blocks(noted, [(i, 32) for i in range(0, 320, 32)], 320, threads=True)
    assert len(seen) > 1


def test_settings_of_one_thread_keep_the_blocks_in_it():
    seen = set()

    def noted(first, size):
        seen.add(threading.get_ident())
        return squares(first, size)

    with jax.enable_x64(False):
        out = run_blocks(noted, [(i, 32) for i in range(0, 320, 32)], 320, threads=True)
    assert out["thread"].dtype == jnp.float32
    assert seen == {threading.get_ident()}


def few(n_shots: int, efficiency=0.09, **options):
    stage = jaxsde.Stage(
        name="still", controls=jaxsde.Controls(nbar=4.0, delta_pc=0.0), n_samples=20
    )
    sequence = jaxsde.Sequence(stages=(stage,), sample_interval=DT)
    detector = jaxsde.Detector(efficiency=efficiency)
    params = jaxsde.Params.kohler2018()
    return jaxsde.simulate(
        jax.random.key(3), params, sequence, detector, n_shots, backend="scan", **options
    )


def test_shots_in_threads_are_those_of_one_block():
    n_shots = 3 * CPU_BLOCK + 17
    whole = few(n_shots, block_shots=n_shots)
    np.testing.assert_array_equal(few(n_shots).record, whole.record)


def test_tracers_stay_in_their_thread():
    """A derivative through several blocks is that of one block."""

    def power(efficiency, block_shots):
        return (few(128, efficiency, block_shots=block_shots).record ** 2).sum()

    assert may_thread(0.09)
    assert not jax.jvp(lambda x: x * float(may_thread(x)), (0.09,), (1.0,))[0]
    one, many = (jax.jvp(lambda x, n=n: power(x, n), (0.09,), (1.0,)) for n in (128, 32))
    np.testing.assert_allclose(many, one, rtol=1e-12)
    assert one[1] != 0

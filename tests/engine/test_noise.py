"""Sampling errors quoted for n independent draws: mean 1/sqrt n, variance sqrt(2/n), and so on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import oracles
from jaxsde.engine import noise

SEED = noise.seed_words(jax.random.key(7))
SHOTS, STEPS, COUNT = 4096, 32, 8  # 2^20 draws
Z_MAX = np.sqrt(2 * np.log(2.0**33))


@functools.cache
def sample(dtype: str = "float64", stream: int = noise.PROCESS, seed: int = 7) -> np.ndarray:
    """Return draws of shape (steps, normals, shots)."""
    words = noise.seed_words(jax.random.key(seed))
    ids = jnp.arange(SHOTS, dtype=jnp.uint32)

    @jax.jit
    def draw(step):
        return noise.normals(words, stream, step, ids, COUNT, jnp.dtype(dtype))

    return np.stack([np.asarray(draw(jnp.uint32(step))) for step in range(STEPS)])


def words_of(key, counter, rounds):
    as_words = lambda values: tuple(jnp.uint32(v) for v in values)  # noqa: E731
    words = noise.threefry2x32(as_words(key), as_words(counter), rounds)
    return tuple(int(word) for word in words)


@pytest.mark.parametrize("rounds, counter, key, words", oracles.THREEFRY_KNOWN_ANSWERS)
def test_threefry_known_answers(rounds, counter, key, words):
    assert words_of(key, counter, rounds) == words


def test_threefry_is_the_reference_at_random_counters():
    rng = np.random.default_rng(0)
    for rounds in (1, 4, 8, noise.ROUNDS):
        key, counter = rng.integers(0, 2**32, (2, 2), dtype=np.uint64).tolist()
        assert words_of(key, counter, rounds) == oracles.threefry2x32(
            tuple(counter), tuple(key), rounds
        )


def by_hand(shot, step, stream, count):
    """Return normals by the library's log, cos and sin in float64, from the oracle's words."""
    values, seed = [], (int(SEED[0]), int(SEED[1]))
    for pair in range(-(-count // 2)):
        u, v = oracles.pair_words(seed, stream, pair, shot, step, noise.ROUNDS)
        radius = np.sqrt(-2 * np.log((u + 0.5) / 2**32))
        values += [
            radius * np.cos(2 * np.pi * v / 2**32),
            radius * np.sin(2 * np.pi * v / 2**32),
        ]
    return values[:count]


@pytest.mark.parametrize("count", [2, 8, 9])
def test_normals_are_box_muller_of_the_counted_words(count):
    shots = jnp.array([0, 3, 2**32 - 1], dtype=jnp.uint32)
    got = noise.normals(SEED, noise.INITIAL, jnp.uint32(41), shots, count, jnp.dtype("float64"))
    expected = [by_hand(int(shot), 41, noise.INITIAL, count) for shot in shots]
    np.testing.assert_allclose(got, np.transpose(expected), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("a", [0, 1, 2**31, 2**32 - 2**8, 2**32 - 2, 2**32 - 1])
@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-13), ("float32", 3e-6)])
def test_radius_at_the_ends_of_the_range(a, dtype, rtol):
    # Of 1 - 2^-33 float32 knows nothing, yet its radius there is as good as anywhere.
    words = jnp.array([a], dtype=jnp.uint32), jnp.array([0], dtype=jnp.uint32)
    cos, sin = noise._box_muller(*words, jnp.dtype(dtype))
    expected = np.sqrt(-2 * (np.log1p(-(2**32 - a - 0.5) / 2**32) if a else -33 * np.log(2)))
    assert float(cos[0]) == pytest.approx(expected, rel=rtol)
    assert float(sin[0]) == pytest.approx(0, abs=1e-6 if dtype == "float32" else 1e-14)
    assert float(cos[0]) <= Z_MAX * (1 + 1e-6)


@pytest.mark.parametrize("b", [0, 2**29, 2**30, 3 * 2**29, 2**31, 3 * 2**30, 2**32 - 1, 12345678])
def test_angle_in_every_octant(b):
    words = jnp.array([b], dtype=jnp.uint32)
    for dtype, atol in (("float64", 1e-15), ("float32", 2e-7)):
        cos = noise._cos(words, jnp.dtype(dtype))
        sin = noise._cos(words - jnp.uint32(2**30), jnp.dtype(dtype))
        angle = 2 * np.pi * b / 2**32
        assert float(cos[0]) == pytest.approx(np.cos(angle), abs=atol)
        assert float(sin[0]) == pytest.approx(np.sin(angle), abs=atol)


def test_float32_is_float64_rounded():
    wide, narrow = sample(), sample("float32")
    assert narrow.dtype == np.float32
    assert np.abs(narrow - wide).max() < 2e-6


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_moments_are_those_of_a_standard_normal(dtype):
    x = sample(dtype).astype(float).ravel()
    n = x.size
    assert n == 2**20
    # Var x^k = (2k - 1)!! - (k - 1)!!^2 for even k.
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        z = (np.mean(x**power) - mean) / np.sqrt(variance / n)
        assert abs(z) < 4, (power, z)


def test_distribution_and_tails():
    x = sample().ravel()
    assert scipy.stats.kstest(x, "norm").pvalue > 1e-4
    for edge in (2.0, 3.0, 4.0):
        expected = x.size * 2 * scipy.stats.norm.sf(edge)
        got = np.count_nonzero(np.abs(x) > edge)
        assert abs(got - expected) < 4 * np.sqrt(expected), edge
    assert np.abs(x).max() <= Z_MAX


def test_each_normal_of_a_shot_has_unit_variance():
    x = sample()
    n = STEPS * SHOTS
    assert np.abs(x.mean((0, 2))).max() < 4.5 / np.sqrt(n)
    assert np.abs(x.var((0, 2)) - 1).max() < 4.5 * np.sqrt(2 / n)


@pytest.mark.parametrize("power", [1, 2])
def test_no_correlation_between_normals_steps_or_shots(power):
    """Products of standardised x or x^2 average to 0 with variance 1/n."""
    x = sample() if power == 1 else (sample() ** 2 - 1) / np.sqrt(2)
    pairs = {
        "normals": [(x[:, i], x[:, j]) for i in range(COUNT) for j in range(i)],
        "steps": [(x[lag:], x[:-lag]) for lag in (1, 2, 3, 7)],
        "shots": [(x[..., lag:], x[..., :-lag]) for lag in (1, 2, 4, 64, 1024)],
    }
    for name, couples in pairs.items():
        for a, b in couples:
            z = np.mean(a * b) * np.sqrt(a.size)
            assert abs(z) < 4.5, (name, z)


def test_no_correlation_between_streams_and_seeds():
    x = sample()
    for other in (sample(stream=noise.INITIAL), sample(stream=noise.FREQUENCY), sample(seed=8)):
        assert abs(np.mean(x * other) * np.sqrt(x.size)) < 4.5


def test_no_two_draws_share_a_word():
    every = np.concatenate(
        [sample(stream=s).ravel() for s in (noise.PROCESS, noise.INITIAL, noise.FREQUENCY)]
        + [sample(seed=8).ravel()]
    )
    # 2^22 radius-angle pairs of 64 bits: no two are alike (chance 5e-7).
    assert np.unique(every).size == every.size


def test_a_shot_does_not_depend_on_the_others():
    step, dtype = jnp.uint32(5), jnp.dtype("float64")
    ids = jnp.arange(10, 17, dtype=jnp.uint32)
    together = noise.normals(SEED, noise.PROCESS, step, ids, 8, dtype)
    for i in range(7):
        alone = noise.normals(SEED, noise.PROCESS, step, ids[i : i + 1], 8, dtype)
        np.testing.assert_array_equal(alone[:, 0], together[:, i])
    fewer = noise.normals(SEED, noise.PROCESS, step, ids, 3, dtype)
    np.testing.assert_array_equal(fewer, together[:3])


def test_seed_words_differ_by_key_and_take_any_implementation():
    keys = [
        jax.random.key(0),
        jax.random.key(1),
        jax.random.key(0, impl="rbg"),
        jax.random.PRNGKey(3),
    ]
    words = {tuple(np.asarray(noise.seed_words(key)).tolist()) for key in keys}
    assert len(words) == 4
    assert all(noise.seed_words(key).dtype == jnp.uint32 for key in keys)


@pytest.mark.slow
def test_moments_of_a_hundred_million_draws():
    ids = jnp.arange(1 << 18, dtype=jnp.uint32)

    @jax.jit
    def sums(step):
        x = noise.normals(SEED, noise.PROCESS, step, ids, 8, jnp.dtype("float32")).astype(float)
        return jnp.stack([jnp.sum(x**k) for k in (1, 2, 3, 4)])

    total, steps = np.zeros(4), 48
    for step in range(steps):
        total += np.asarray(sums(jnp.uint32(step)))
    n = steps * 8 * ids.size
    assert n > 1e8
    z = (total / n - [0, 1, 0, 3]) / np.sqrt(np.array([1, 2, 15, 96]) / n)
    assert np.abs(z).max() < 4, z

"""The kernel's generator: the words and normals of engine.noise, and the statistics of 1e9 draws.

Sampling errors of n draws: mean 1/sqrt n, E z^2 sqrt(2/n), E z^3 sqrt(15/n), E z^4 sqrt(96/n),
products 1/sqrt n, products of squares 2/sqrt n.
"""

import ctypes
import pathlib
import re
import shlex
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import oracles
from jaxsde.engine import native, noise


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    source = pathlib.Path(__file__).with_name("many_normals.cc")
    made = tmp_path_factory.mktemp("normals") / "many.so"
    flags = [*native.CPU_FLAGS, "-pthread", f"-I{native.source_folder()}"]
    subprocess.run(
        [*shlex.split(native.compilers("cpu")[0]), *flags, str(source), "-o", str(made)], check=True
    )
    return ctypes.CDLL(str(made))


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def test_words_are_the_known_answers(library):
    for rounds, counter, key, words in oracles.THREEFRY_KNOWN_ANSWERS:
        if rounds != noise.ROUNDS:
            continue
        out = np.zeros(2, np.uint32)
        library.words(
            pointer(np.array(key, np.uint32)), pointer(np.array(counter, np.uint32)), pointer(out)
        )
        assert tuple(int(word) for word in out) == tuple(words)
    assert noise.ROUNDS in {known[0] for known in oracles.THREEFRY_KNOWN_ANSWERS}


@pytest.mark.parametrize("dtype, limit", [("float32", 1e-6), ("float64", 1e-14)])
def test_normals_are_those_of_the_scan(library, dtype, limit):
    seed = noise.seed_words(jax.random.key(5))
    shots = np.random.default_rng(0).integers(0, 2**32, 2000, dtype=np.uint64).astype(np.uint32)
    for stream, step in ((noise.PROCESS, 0), (noise.INITIAL, 12345), (noise.FREQUENCY, 2**32 - 1)):
        out = np.zeros((2000, 8), dtype)
        getattr(library, f"draws_f{dtype[5:]}")(
            pointer(np.asarray(seed)), ctypes.c_uint32(stream), ctypes.c_uint32(step),
            pointer(shots), ctypes.c_int64(2000), pointer(out),
        )  # fmt: skip
        expected = noise.normals(
            seed, stream, jnp.uint32(step), jnp.asarray(shots), 8, jnp.dtype(dtype)
        )
        np.testing.assert_allclose(out.T, expected, rtol=0, atol=limit)


def test_both_have_the_same_series():
    """The numbers of kernels/normals.h and of engine/noise.py, as they are written."""
    header = (native.source_folder() / "normals.h").read_text()
    numbers = [float(n) for n in re.findall(r"-?\d+\.\d+(?=f?[,}\s;)])", header)]
    for series in noise._SERIES.values():
        for coefficients in (series.log, series.turn):
            for value in coefficients:
                assert any(abs(value - n) <= 1e-15 * abs(value) for n in numbers), value


@pytest.mark.slow
def test_a_thousand_million_draws(library):
    vectors, steps = 4000, 2000
    n = vectors * steps * 16 * 8
    assert n > 1e9
    sums, bins = np.zeros(10), np.zeros(4096, np.int64)
    library.statistics(
        ctypes.c_uint32(2024), ctypes.c_int64(vectors), ctypes.c_int64(steps),
        pointer(sums), pointer(bins),
    )  # fmt: skip
    assert bins.sum() == n
    expected = np.array([0, 1, 0, 3, 0, 0, 0, 0, 0, 0])
    # Pairs within one Box-Muller transform are counted twice, from either side.
    error = np.sqrt(np.array([1, 2, 15, 96, 1, 2, 1, 1, 4, 8]) / n)
    z = (sums / n - expected) / error
    assert np.abs(z).max() < 4.5, z
    edges = np.linspace(-8, 8, 4097)
    # Kolmogorov and Smirnov's distance, at the edges of the bins.
    distance = np.abs(np.cumsum(bins) / n - scipy.stats.norm.cdf(edges[1:])).max()
    assert scipy.stats.kstwobign.sf(distance * np.sqrt(n)) > 1e-4
    for edge in (3, 4, 5, 5.5, 6):
        far = np.abs(np.where(edges[:-1] < 0, edges[1:], edges[:-1])) >= edge
        mean = n * 2 * scipy.stats.norm.sf(edge)
        count = bins[far].sum()
        low, high = scipy.stats.poisson.interval(1 - 1e-5, mean)
        assert low <= count <= high, (edge, count, mean)

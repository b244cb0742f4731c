"""Sampling errors quoted for n independent normals: mean 1/sqrt n, variance sqrt(2/n), ..."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
from jaxsde.engine import noise
from jaxsde.engine.technical import (
    LO_PHASE,
    Technical,
    check_technical,
    digitise,
    imperfect,
    lo_phases,
    project,
    rotate,
)

SEED = noise.seed_words(jax.random.key(5))
DT = 0.5e-6
DRIFT = 3e4  # rad^2/s: 0.12 rad in a sample
SHOTS, SAMPLES = 20000, 102  # no whole number of the generator's groups of four
BOTH = ("I", "Q")
F64, F32 = jnp.dtype("float64"), jnp.dtype("float32")
PRECISIONS = pytest.mark.parametrize("dtype", [F64, F32])
equal, close = np.testing.assert_array_equal, np.testing.assert_allclose


def ids(start, stop):
    return jnp.arange(start, stop, dtype=jnp.uint32)


def phases(technical, shots, n=SAMPLES, dtype=F64, seed=SEED):
    return np.asarray(lo_phases(seed, technical, shots, n, DT, dtype))


@functools.cache
def walk(dtype=F64):
    return phases(Technical(phase_drift=DRIFT), ids(0, SHOTS), dtype=dtype)


def middles(n=SAMPLES):
    return (np.arange(n) + 0.5) * DT


def normal(*shape, dtype=F64):
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), dtype)


@PRECISIONS
def test_walk_has_mean_zero_and_the_covariance_of_the_earlier_time(dtype):
    x, variance = walk(dtype).astype(float), DRIFT * middles()
    assert walk(dtype).dtype == dtype
    some = [0, 1, 2, 3, 4, 5, 7, 8, 30, 64, 101]
    means = x[some].mean(axis=1) / np.sqrt(variance[some] / SHOTS)
    assert np.abs(means).max() < 3.5, means
    apart = [(0, 1), (0, 101), (2, 3), (3, 4), (3, 9), (20, 40), (50, 101), (100, 101)]
    for a, b in [(k, k) for k in some] + apart:
        error = math.sqrt((variance[a] ** 2 + variance[a] * variance[b]) / SHOTS)
        z = (np.mean(x[a] * x[b]) - variance[a]) / error
        assert abs(z) < 3.5, (a, b, z)


def test_no_correlation_between_shots_and_seeds():
    other = phases(Technical(phase_drift=DRIFT), ids(0, SHOTS), seed=SEED + jnp.uint32(1))
    # Samples of a shot are correlated: one time at a time.
    for k in (0, 10, 101):
        x, y = (x[k] / math.sqrt(DRIFT * middles()[k]) for x in (walk(), other))
        for lag in (1, 2, 4, 32, 1024):
            z = np.mean(x[lag:] * x[:-lag]) * math.sqrt(SHOTS - lag)
            assert abs(z) < 3.5, (k, lag, z)
        assert abs(np.mean(x * y)) < 3.5 / math.sqrt(SHOTS)
    assert not (walk() == other).any()


def test_increments_are_the_words_of_a_stream_of_their_own():
    assert LO_PHASE not in (noise.PROCESS, noise.INITIAL, noise.FREQUENCY)
    shots, x, seed = (0, 3, 2**32 - 1), [], (int(SEED[0]), int(SEED[1]))
    for shot in shots:
        draws = []
        for group in range(2):
            for pair in range(2):
                u, v = oracles.pair_words(seed, LO_PHASE, pair, shot, group, noise.ROUNDS)
                radius, turn = math.sqrt(-2 * math.log((u + 0.5) / 2**32)), 2 * math.pi * v / 2**32
                draws += [radius * math.cos(turn), radius * math.sin(turn)]
        sizes = np.sqrt(DRIFT * DT * np.r_[0.5, np.ones(6)])
        x.append(np.cumsum(sizes * draws[:7]))
    got = phases(Technical(phase_drift=DRIFT), jnp.array(shots, jnp.uint32), n=7)
    close(got, np.transpose(x), rtol=1e-12, atol=1e-13)


@PRECISIONS
def test_a_shot_does_not_depend_on_its_block_nor_a_sample_on_the_later_ones(dtype):
    technical = Technical(lo_offset=2e4, lo_phase=0.3, phase_drift=DRIFT)
    whole = phases(technical, ids(0, 300), dtype=dtype)
    for start, stop in ((0, 32), (32, 64), (5, 6), (100, 299)):
        part = phases(technical, ids(start, stop), dtype=dtype)
        equal(part, whole[:, start:stop])
    mixed = np.random.default_rng(0).permutation(300)
    equal(phases(technical, jnp.asarray(mixed, jnp.uint32), dtype=dtype), whole[:, mixed])
    for n in (1, 99):
        equal(phases(technical, ids(0, 300), n=n, dtype=dtype), whole[:n])


def test_constant_phase_and_offset_are_exact_at_the_middles():
    technical = Technical(lo_offset=-3e5, lo_phase=0.7)
    expected = np.tile((0.7 - 3e5 * middles())[:, None], (1, 3))
    close(phases(technical, ids(0, 3)), expected, rtol=1e-14)
    close(phases(technical, ids(0, 3), dtype=F32), expected, rtol=1.2e-7)
    both = phases(dataclasses.replace(technical, phase_drift=DRIFT), ids(0, 3))
    close(both, walk()[:, :3] + expected, rtol=1e-13, atol=1e-13)


def test_phases_have_derivatives_along_every_leaf():
    def last(offset, phase, drift):
        technical = Technical(lo_offset=offset, lo_phase=phase, phase_drift=drift)
        return lo_phases(SEED, technical, ids(0, 1), 9, DT, F64)[-1, 0]

    slopes = jax.jit(jax.grad(last, argnums=(0, 1, 2)))(1e4, 0.1, DRIFT)
    random = float(phases(Technical(phase_drift=DRIFT), ids(0, 1), n=9)[-1, 0])
    close(slopes, (8.5 * DT, 1.0, random / (2 * DRIFT)), rtol=1e-12)
    # Without a walk the others' derivatives stay finite.
    for mode in (jax.jacrev, jax.jacfwd):
        slopes = mode(last, argnums=(0, 1, 2))(1e4, 0.1, 0.0)
        close(slopes, (8.5 * DT, 1.0, 0.0), rtol=1e-12)


@pytest.mark.parametrize("was, moved", [(40, 7), (40, -9), (-25, 30), (5, -30)])
def test_offset_moves_a_line_of_the_field_by_itself_and_upwards(was, moved):
    """A line exp(2 pi i f t) of I - i Q; was and moved count bins of the Fourier transform."""
    n, turn = 256, 2 * np.pi / (256 * DT)
    field = 2 * np.exp(1j * turn * was * middles(n))
    record = jnp.asarray(np.stack([field.real, -field.imag], axis=1)[..., None])
    technical = Technical(lo_offset=turn * moved)
    out, _ = imperfect(SEED, record, ids(0, 1), technical, BOTH, 0.0, DT)
    i, q = np.asarray(out)[..., 0].T
    expected = np.zeros(n)
    expected[(was + moved) % n] = 4.0
    close(np.abs(np.fft.fft(i - 1j * q) / n) ** 2, expected, atol=1e-12)


@pytest.mark.parametrize("dtype, atol", [(F64, 3e-14), (F32, 3e-6)])
def test_the_field_is_multiplied_by_exp_i_phi(dtype, atol):
    """I - i Q is, and y_AM - i y_PM, of whose product with exp(i theta) homodyne has Re."""
    record, phi = normal(6, 2, 5, dtype=dtype), 5 * normal(6, 5, dtype=dtype)
    turned, projected = jax.jit(rotate)(record, phi), jax.jit(project)(record, phi, 0.4)
    assert turned.dtype == projected.dtype == dtype
    x, angle = np.asarray(record, float), np.asarray(phi, float)
    field = (x[:, 0] - 1j * x[:, 1]) * np.exp(1j * angle)
    close(turned, np.stack([field.real, -field.imag], axis=1), atol=atol)
    close(projected, (field * np.exp(0.4j)).real[:, None], atol=atol)
    # A quarter turn, with no complex numbers: I' = Q, Q' = -I, and theta = 0 measures y_PM.
    quarter = jnp.full_like(phi, np.pi / 2)
    close(rotate(record, quarter), np.stack([x[:, 1], -x[:, 0]], axis=1), atol=atol)
    close(project(record, quarter, 0.0), x[:, 1:], atol=atol)


def test_white_noise_keeps_its_law():
    record, technical = normal(SAMPLES, 2, SHOTS), Technical(phase_drift=DRIFT)
    y = np.asarray(imperfect(SEED, record, ids(0, SHOTS), technical, BOTH, 0.0, DT)[0])
    assert abs(y.var() - 1) < 4 * math.sqrt(2 / y.size)
    for product in (y[:, 0] * y[:, 1], y[1:] * y[:-1], y[1:, 0] * y[:-1, 1]):
        assert abs(product.mean()) < 4 / math.sqrt(product.size)


def digitised(values, dtype=F64, **fields):
    """Return ADC values and clipping of a list of inputs."""
    record = jnp.asarray(np.reshape(values, (-1, 1, 1)), dtype)
    out, clipped = digitise(record, Technical(**fields))
    assert out.dtype == dtype
    return np.asarray(out).ravel(), np.asarray(clipped).ravel()


def test_dc_offset_is_added_to_all_quadratures_or_to_each_its_own():
    record = normal(4, 2, 3)
    out, clipped = digitise(record, Technical(dc_offset=0.25))
    equal(out, np.asarray(record) + 0.25)
    assert clipped.shape == record.shape and not clipped.any()
    out = digitise(record, Technical(dc_offset=np.array([0.25, -1.0])))[0]
    equal(out, np.asarray(record) + np.array([[0.25], [-1.0]]))


def test_clipping_without_bits_is_exact_and_counted():
    out, clipped = digitised([-2.0, -1.5, -1.4, 0.3, 1.5, 1.6], adc_range=1.5)
    equal(out, [-1.5, -1.5, -1.4, 0.3, 1.5, 1.5])
    equal(clipped, [True, False, False, False, False, True])
    # The offset comes before the ADC: it saturates.
    out, clipped = digitised([1.0, 1.4, -1.6], adc_range=1.5, dc_offset=0.2)
    equal(out, [1.2, 1.5, -1.6 + 0.2])
    equal(clipped, [False, True, False])
    # A sample counts once, however many of its quadratures were clipped.
    record = jnp.array([[[2.0], [0.0]], [[2.0], [-2.0]], [[0.0], [0.0]], [[0.0], [3.0]]])
    equal(imperfect(SEED, record, ids(0, 1), Technical(adc_range=1.0), BOTH, 0.0, DT)[1], [3])


def test_three_bits_by_hand():
    """LSB = 1: codes -4 ... 3, edges at the half integers."""
    x = [-9.0, -4.6, -4.4, -3.6, -0.6, -0.4, 0.0, 0.4, 0.6, 3.4, 3.6, 4.0, 9.0]
    out, clipped = digitised(x, adc_range=4.0, adc_bits=3)
    equal(out, [-4, -4, -4, -4, -1, 0, 0, 0, 1, 3, 3, 3, 3])
    equal(np.flatnonzero(clipped), [0, 1, 10, 11, 12])


@PRECISIONS
@pytest.mark.parametrize("bits", [1, 2, 3, 8, 12, 16])
def test_levels_are_as_many_as_codes_and_one_lsb_apart(bits, dtype):
    full = 0.7
    x = np.linspace(-1.1 * full, 1.1 * full, 2**18)
    out, _ = digitised(x, dtype, adc_range=full, adc_bits=bits)
    codes = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
    levels = np.unique(out)
    assert len(levels) == 2**bits
    # Every value is rounded once: the code is exact, and so is full over a power of two.
    equal(levels, (codes / 2 ** (bits - 1)).astype(dtype) * dtype.type(full))


@PRECISIONS
def test_thirty_two_bits_stay_in_range(dtype):
    lsb = 2.0**-31
    with jax.enable_x64(dtype == F64):  # 2^31 is no int32
        out, clipped = digitised([-2.0, -1.0, 0.3, 1.0, 2.0], dtype, adc_range=1.0, adc_bits=32)
    top = 1 - lsb if dtype == F64 else 1 - 2.0**-24  # the float32 below 1
    close(out, [-1, -1, dtype.type(0.3), top, top], rtol=0, atol=lsb / 2)
    assert out[-1] == top
    equal(clipped, [True, False, False, True, True])


@PRECISIONS
def test_quantisation_error_is_uniform_over_an_lsb(dtype):
    n, bits, full = 2**20, 10, 3.0
    lsb = 2 * full / 2**bits
    x = np.asarray(normal(n, dtype=dtype))
    out, clipped = digitised(x, dtype, adc_range=full, adc_bits=bits)
    inside = (x >= -full - lsb / 2) & (x <= full - lsb / 2)
    # Edges in float32 are right to a few roundings: as good as none of 2^20 lies that close.
    assert np.count_nonzero(clipped) == np.count_nonzero(~inside) > 2000
    error = (out.astype(float) - x)[~clipped] / lsb
    assert np.abs(error).max() <= 0.5 * (1 + 1e-3)
    m = error.size  # uniform: variance 1/12, of its square 1/180
    assert abs(error.mean()) < 4 / math.sqrt(12 * m)
    assert abs((error**2).mean() - 1 / 12) < 4 / math.sqrt(180 * m)
    assert abs(np.mean(error * x[~clipped])) < 4 / math.sqrt(12 * m)


def test_codes_have_no_slope_and_plain_clipping_has_one_inside():
    def total(x, **fields):
        return jnp.sum(digitise(x, Technical(adc_range=1.0, **fields))[0])

    x = jnp.reshape(jnp.array([-3.0, -0.3, 0.4, 2.0]), (4, 1, 1))
    equal(jax.grad(total)(x).ravel(), [0, 1, 1, 0])
    slope = jax.grad(functools.partial(total, adc_bits=8))(x)
    equal(slope.ravel(), np.zeros(4))


@pytest.mark.parametrize("quadratures", [BOTH, ("I",), ("Q",), ("D",)])
@PRECISIONS
def test_the_defaults_are_nothing_to_the_last_bit(quadratures, dtype):
    record = normal(9, len(quadratures), 4, dtype=dtype)
    out, clipped = imperfect(SEED, record, ids(0, 4), Technical(), quadratures, 0.4, DT)
    assert out.dtype == dtype
    equal(out, record)
    equal(clipped, np.zeros(4, int))


@pytest.mark.parametrize("quadratures", [BOTH, ("homodyne",)])
@PRECISIONS
def test_the_layers_follow_each_other_and_shots_stay_apart(quadratures, dtype):
    lo, adc = dict(lo_offset=1e5, phase_drift=DRIFT), dict(adc_range=1.0, adc_bits=6)
    technical = Technical(dc_offset=0.1, **lo, **adc)
    record = normal(SAMPLES, 2, 96, dtype=dtype)
    out, clipped = imperfect(SEED, record, ids(0, 96), technical, quadratures, 0.4, DT)
    phi = lo_phases(SEED, technical, ids(0, 96), SAMPLES, DT, dtype)
    turned = rotate(record, phi) if quadratures == BOTH else project(record, phi, 0.4)
    expected, outside = digitise(turned, technical)
    # Compiled alone or together they may round differently, which moves a few over an edge.
    assert np.mean(np.asarray(out) != np.asarray(expected)) < 1e-3
    close(clipped, outside.any(1).sum(0), atol=0 if dtype == F64 else 1)
    assert clipped.dtype == np.int32 and 0 < clipped.max() < SAMPLES
    for start, stop in ((0, 32), (32, 64), (64, 96)):
        part = record[:, :, start:stop]
        alone = imperfect(SEED, part, ids(start, stop), technical, quadratures, 0.4, DT)
        equal(alone[0], out[:, :, start:stop])
        equal(alone[1], clipped[start:stop])


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(lo_offset=math.nan), r"detector\.technical\.lo_offset: wanted a finite number, got"),
        (dict(phase_drift=None), r"technical\.phase_drift: wanted a finite number, got None"),
        (dict(phase_drift=-1.0), r"technical\.phase_drift: wanted .* zero or more .* got -1\.0"),
        (dict(dc_offset=np.ones(1)), r"dc_offset: wanted .* each of the 2 quadratures, got"),
        (dict(adc_range=0.0), r"adc_range: wanted a positive full scale .* got 0\.0; None has no"),
        (dict(adc_range=1.0, adc_bits=0), r"adc_bits: wanted an integer from 1 to 32, got 0;"),
        (dict(adc_range=1.0, adc_bits=33), r"adc_bits: wanted an integer from 1 to 32, got 33"),
        (dict(adc_range=1.0, adc_bits=True), r"adc_bits: wanted an integer .* got True"),
        (dict(adc_bits=12), r"adc_range: wanted the full scale of an ADC of 12 bits, got None; "),
        (
            dict(lo_offset=2 * np.pi * 1.3e6),
            r"lo_offset: wanted \|lo_offset\| sample_interval/\(2 pi\) below 1/2, got an offset of "
            r"1\.3e\+06 Hz, .* alias to -700000 Hz; take an offset below 1e\+06 Hz",
        ),
        (dict(lo_offset=-2 * np.pi * 3.25e6), r"of -3\.25e\+06 Hz, .* would alias to 750000 Hz"),
        (dict(lo_offset=math.pi / DT), r"lo_offset: wanted .* below 1/2"),
    ],
)
def test_check_technical_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        check_technical(Technical(**fields), BOTH, DT)


@pytest.mark.parametrize("quadratures", [("I",), ("Q",), ("D",)])
@pytest.mark.parametrize("name", ["lo_offset", "lo_phase", "phase_drift"])
def test_a_receiver_of_one_quadrature_cannot_be_turned(quadratures, name):
    message = rf"technical\.{name}: wanted 0 with quadratures .*{quadratures[0]}.* got 0\.1; record"
    with pytest.raises(ValueError, match=message):
        check_technical(Technical(**{name: 0.1}), quadratures, DT)
    check_technical(Technical(dc_offset=0.1, adc_range=1.0, adc_bits=8), quadratures, DT)
    for able in (BOTH, ("homodyne",)):
        check_technical(Technical(**{name: 0.1}), able, DT)


@pytest.mark.parametrize("fields", [dict(lo_offset=0.31 / DT), dict(phase_drift=0.31**2 / DT)])
def test_a_phase_that_moves_within_a_sample_is_warned_of(fields):
    with pytest.warns(UserWarning, match=r"phase moves by 0\.31 rad in a sample, .* at most 0\.3"):
        check_technical(Technical(**fields), BOTH, DT)
    # Warnings are errors: slower ones pass without.
    check_technical(Technical(**{name: 0.9 * value for name, value in fields.items()}), BOTH, DT)


def test_check_technical_lets_good_values_and_tracers_pass():
    lo = dict(lo_offset=-1e5, lo_phase=np.float32(4.0), phase_drift=1)
    adc = dict(dc_offset=np.array([0.1, 0.2]), adc_range=jnp.asarray(1e-6), adc_bits=32)
    everything = Technical(**lo, **adc)
    check_technical(everything, BOTH, DT)

    @jax.jit
    def traced(technical):
        check_technical(technical, ("I",), DT)
        return technical.lo_offset

    assert float(traced(dataclasses.replace(everything, lo_offset=1e9))) == 1e9

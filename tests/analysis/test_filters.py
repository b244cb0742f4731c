import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxsde.analysis import filters

DT = 0.5e-6
BAND = filters.band_pass((85e3, 150e3), DT)
LOW = filters.low_pass(120e3, DT)


def signal(n, shots=3):
    return np.random.default_rng(n).normal(size=(shots, n)).cumsum(axis=1)


def test_coefficients_are_scipys():
    band = scipy.signal.butter(4, (85e3, 150e3), "bandpass", fs=2e6, output="sos")
    np.testing.assert_allclose(BAND, np.asarray(band))
    low = scipy.signal.butter(2, 120e3, fs=2e6, output="sos")
    np.testing.assert_allclose(LOW, np.asarray(low))


@pytest.mark.parametrize("sos", [BAND, LOW], ids=["band", "low"])
@pytest.mark.parametrize("shape", [(1,), (3, 2), (2, 3, 63), (3, 64), (2, 2, 3, 200), (2, 0)])
def test_sosfilt_is_scipys_from_any_state_over_any_leading_axes(sos, shape):
    rng = np.random.default_rng(shape[-1])
    x = rng.normal(size=shape).cumsum(axis=-1)
    zi = rng.normal(size=(len(sos), *shape[:-1], 2))
    got, state = filters.sosfilt(sos, jnp.asarray(x), jnp.asarray(zi))
    rest = filters.sosfilt(sos, jnp.asarray(x))
    if shape[-1] == 0:
        assert got.shape == rest.shape == shape
        np.testing.assert_array_equal(state, zi)
        return
    expected, after = scipy.signal.sosfilt(sos, x, zi=zi)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12 * scale)
    np.testing.assert_allclose(state, after, rtol=1e-10, atol=1e-12 * np.abs(after).max())
    np.testing.assert_allclose(rest, scipy.signal.sosfilt(sos, x), rtol=1e-10, atol=1e-12 * scale)


def test_sosfilt_of_a_long_record_with_narrow_filters_is_scipys():
    """Poles within 1e-3 of the unit circle: many blocks must not lose digits."""
    sos = scipy.signal.butter(6, (94.5e3, 95.5e3), "bandpass", fs=2e6, output="sos")
    x = np.random.default_rng(4).normal(size=20001)
    expected = scipy.signal.sosfilt(sos, x)
    got = np.asarray(filters.sosfilt(sos, jnp.asarray(x)))
    assert np.abs(got - expected).max() < 1e-10 * np.abs(expected).max()


def test_sosfilt_in_two_parts_is_sosfilt_in_one():
    x = jnp.asarray(signal(90))
    zi = jnp.zeros((len(BAND), 3, 2))
    first, between = filters.sosfilt(BAND, x[:, :37], zi)
    second, _ = filters.sosfilt(BAND, x[:, 37:], between)
    np.testing.assert_allclose(
        jnp.concatenate([first, second], axis=1), filters.sosfilt(BAND, x), rtol=1e-10, atol=1e-12
    )


def test_sosfilt_refuses_states_of_another_shape():
    with pytest.raises(ValueError, match=r"^zi: wanted shape \(4, 3, 2\), .* got \(4, 2, 3\)$"):
        filters.sosfilt(BAND, jnp.zeros((3, 9)), jnp.zeros((4, 2, 3)))


@pytest.mark.parametrize("padtype", ["odd", "even", "constant", None])
@pytest.mark.parametrize("padlen", [None, 0, 5])
def test_every_padding_of_sosfiltfilt_is_scipys(padtype, padlen):
    x = signal(70)
    options = dict(padtype=padtype, padlen=padlen)
    expected = scipy.signal.sosfiltfilt(BAND, x, **options)
    got = filters.sosfiltfilt(BAND, jnp.asarray(x), **options)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10 * np.abs(x).max())


def test_sosfiltfilt_refuses_an_unknown_padding():
    with pytest.raises(ValueError, match=r"^padtype: wanted one of .*, got 'reflect'$"):
        filters.sosfiltfilt(BAND, jnp.zeros(70), padtype="reflect")


@pytest.mark.parametrize("sos", [BAND, LOW], ids=["band", "low"])
@pytest.mark.parametrize("extra", [1, 2, 3, 200])
def test_sosfiltfilt_is_scipys(sos, extra):
    pad = filters.padding_length(sos)
    x = signal(pad + extra)
    expected = scipy.signal.sosfiltfilt(sos, x)
    got = filters.sosfiltfilt(sos, jnp.asarray(x))
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10 * np.abs(x).max())
    one = filters.sosfiltfilt(sos, jnp.asarray(x[0]))
    np.testing.assert_allclose(one, expected[0], rtol=1e-10, atol=1e-10 * np.abs(x).max())
    matrix = filters.filter_matrix(sos, pad + extra)
    np.testing.assert_allclose(x @ matrix.T, expected, rtol=1e-9, atol=1e-10 * np.abs(x).max())


@pytest.mark.parametrize("sos", [BAND, LOW], ids=["band", "low"])
def test_padding_is_scipys(sos):
    """SciPy refuses a signal as long as its padding, and takes one longer by a sample."""
    pad = filters.padding_length(sos)
    with pytest.raises(ValueError, match=str(pad)):
        scipy.signal.sosfiltfilt(sos, np.zeros(pad))
    scipy.signal.sosfiltfilt(sos, np.zeros(pad + 1))
    with pytest.raises(
        ValueError, match=rf"^record: wanted more than {pad} samples .*, got {pad}$"
    ):
        filters.sosfiltfilt(sos, jnp.zeros(pad))


def test_sosfiltfilt_in_float32_and_its_derivative():
    x = signal(64, 1)[0]
    narrow = filters.sosfiltfilt(LOW, jnp.asarray(x, jnp.float32))
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(
        narrow, scipy.signal.sosfiltfilt(LOW, x), atol=1e-4 * np.abs(x).max()
    )
    slope = jax.jacfwd(lambda v: filters.sosfiltfilt(LOW, v))(jnp.asarray(x))
    np.testing.assert_allclose(slope, filters.filter_matrix(LOW, 64), atol=1e-12)
    back = jax.jacrev(lambda v: filters.sosfiltfilt(BAND, v))(jnp.asarray(signal(130, 1)[0]))
    np.testing.assert_allclose(back, filters.filter_matrix(BAND, 130), atol=1e-12)


@pytest.mark.parametrize(
    "band", [(0.0, 1e5), (1e5, 1e5), (2e5, 1e5), (1e5, 1e6), (float("nan"), 1e5)]
)
def test_band_pass_refuses(band):
    with pytest.raises(ValueError, match=r"^band: wanted 0 < low < high < 1e\+06 Hz"):
        filters.band_pass(band, DT)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, 1e6, float("nan")])
def test_low_pass_refuses(cutoff):
    with pytest.raises(
        ValueError, match=r"^cycle_average: wanted a frequency above 0 and below 1e\+06"
    ):
        filters.low_pass(cutoff, DT)


@pytest.mark.parametrize("phase", [0.3, 0.6, 0.9])
def test_undo_box_average_within_three_parts_in_a_thousand(phase):
    """phase: omega dt.  The mean of cos over a sample is cos at its middle times sinc(phase/2)."""
    middle = np.cos(phase * np.arange(50) + 0.4)
    box = middle * np.sin(phase / 2) / (phase / 2)
    got = np.asarray(filters.undo_box_average(jnp.asarray(box)))[1:-1]
    error = np.abs(got - middle[1:-1]).max()
    assert error < 3e-3
    assert error < 0.1 * np.abs(box - middle).max()  # what it is for
    # The next order is (omega dt)^4 (7/5760 - 1/1152).
    assert error < 1.1 * phase**4 * 17 / 5760 * 2


def test_undo_box_average_keeps_a_constant():
    np.testing.assert_allclose(filters.undo_box_average(jnp.full((2, 5), 3.0)), 3.0, rtol=1e-15)


@pytest.mark.parametrize("undo", [False, True])
def test_noise_bandwidth_is_what_the_filters_matrix_passes(undo):
    """Far from the ends: sum of squares of a row of the matrix is 2 f_BW dt."""
    n = 600
    matrix = filters.filter_matrix(BAND, n)
    if undo:
        matrix = matrix @ np.asarray(filters.undo_box_average(jnp.eye(n))).T
    expected = np.sum(matrix[n // 2] ** 2) / (2 * DT)
    assert filters.noise_bandwidth(BAND, DT, undo_box=undo) == pytest.approx(expected, rel=1e-6)

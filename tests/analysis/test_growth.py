import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import oracles
from growing import TIME, rows, trace_of, traces
from jaxsde.analysis.growth import bin_traces, correction, growth_terms, minimise, whitened

TRUTH = dict(D_0=3.0, gain=np.array([1e4, 3e4]), diffusion=np.array([2e5, 1e5]))


def data_of(made, stop=100e-6, bins=8):
    n = len(made)
    return bin_traces(made, np.zeros(n), np.full(n, stop), np.zeros(n), bins)


@pytest.mark.parametrize("gain", [-3e4, -1.0, 0.0, 1e-3, 5.0, 4e4])
def test_terms_solve_s12_and_have_its_slopes(gain):
    t = jnp.asarray(TIME[::20])
    e, p, e_g, p_g = growth_terms(t, jnp.asarray(gain))
    expected = oracles.growth(TIME[::20], 2.0, gain if abs(gain) >= 1 else 0.0, 3e4)
    np.testing.assert_allclose(2.0 * e + 3e4 * p, expected, rtol=1e-6)
    up, down = (growth_terms(t, jnp.asarray(gain + s)) for s in (1.0, -1.0))
    np.testing.assert_allclose(e_g, (up[0] - down[0]) / 2, rtol=1e-5)
    np.testing.assert_allclose(p_g, (up[1] - down[1]) / 2, rtol=1e-5)


def test_bins_are_means_of_what_lies_in_them():
    """Bins that cut samples take their share: 7 bins of 100 us, samples of 0.5 us."""
    made = traces(**TRUTH, shots=40)[:1]
    data = data_of(made, bins=7)
    mean = np.asarray(made[0].mean)
    edges = np.linspace(0, 100e-6, 8)
    fine = np.repeat(mean[:200], 7) / float(data.square)  # of parts of samples none is cut
    expected = fine.reshape(7, -1).mean(axis=1)
    assert edges[1] * 2e6 % 1 != 0
    np.testing.assert_allclose(data.mean[0], expected, rtol=1e-6)
    np.testing.assert_allclose(data.average.sum(axis=2), 1.0)


def test_residuals_of_the_truth_are_white():
    """chi^2 of 300 traces at the truth: 8 bins each, to 4 standard errors; correction undone."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(300):
        made = [trace_of(rows(rng, 3.0, 3e4, 1e5, 200))]
        data = data_of(made)
        x = 3.0 / data.square, 3e4 * data.second, 1e5 * data.second / data.square
        e, p, _, _ = growth_terms(data.time, x[1])
        power = jnp.einsum("nkt,nt->nk", data.average, x[0] * e + x[2] * p)
        r, _ = whitened(data, power, x[0], x[1][None], x[2][None])
        values.append(float(jnp.sum(r**2)) * correction(200, 8, 3) * (200 - 10) / 199)
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - 8) < 4 * error
    # Independent samples would have a chi^2 some ten times too large to be believed.
    assert error < 0.5


def test_the_minimum_is_scipys():
    """Of the same whitened residuals, D_0 common, by SciPy's least squares from the truth."""
    data = data_of(traces(**TRUTH, shots=200))
    got = minimise(data)
    assert bool(got.converged)

    def residuals(x):
        return np.ravel(
            whitened(
                data, got.power, jnp.asarray(x[0]), jnp.asarray(x[1::2]), jnp.asarray(x[2::2])
            )[0]
        )

    start = np.array([float(got.D_0), *np.ravel(np.stack([got.gain, got.diffusion], 1))])
    found = scipy.optimize.least_squares(residuals, start * 1.1, xtol=1e-12, ftol=1e-14, gtol=1e-12)
    np.testing.assert_allclose(found.x, start, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(2 * found.cost, np.sum(got.chi2), rtol=1e-9)
    covariance = np.linalg.inv(found.jac.T @ found.jac)
    assert float(got.D_0_variance) == pytest.approx(covariance[0, 0], rel=1e-3)
    for i in range(2):
        span = slice(1 + 2 * i, 3 + 2 * i)
        np.testing.assert_allclose(got.covariance[i], covariance[span, span], rtol=1e-3)


def test_truth_without_noise_is_found():
    made = traces(**TRUTH, shots=60)
    exact = []
    for trace, gain, diffusion in zip(made, TRUTH["gain"], TRUTH["diffusion"], strict=True):
        each = np.asarray(trace.each)
        mean = oracles.growth(TIME, TRUTH["D_0"], gain, diffusion)
        exact.append(trace_of(each - each.mean(axis=0) + mean))
    data = data_of(exact)
    got = minimise(data)
    assert float(got.D_0 * data.square) == pytest.approx(3.0, rel=1e-6)
    np.testing.assert_allclose(got.gain / data.second, TRUTH["gain"], rtol=1e-5)
    np.testing.assert_allclose(
        got.diffusion * data.square / data.second, TRUTH["diffusion"], rtol=1e-5
    )


def test_a_measured_covariance_widens():
    assert correction(10**6, 8, 3) == pytest.approx(1.0, abs=1e-4)
    # (1 + B 5)/(1 + A + 4 B)/h of Percival et al., with 30 shots by hand.
    b, a, h = 20 / (21 * 18), 2 / (21 * 18), 20 / 29
    assert correction(30, 8, 3) == pytest.approx((1 + 5 * b) / (1 + a + 4 * b) / h)


def test_windows_that_do_not_fit_are_refused():
    made = traces(**TRUTH, shots=40)
    with pytest.raises(ValueError, match=r"^fit window 0 to 200 us: wanted 8 samples or more"):
        data_of(made, stop=200e-6)
    with pytest.raises(ValueError, match=r"^fit window 0 to 2 us: wanted 8 samples .*got 4"):
        data_of(made, stop=2e-6)
    with pytest.raises(
        ValueError, match=r"^traces: wanted 41 shots or more for .* 35 bins, got 40"
    ):
        data_of(made, bins=35)

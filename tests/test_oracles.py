"""The oracles against known answers, and against each other where two roads lead to one number."""

import numpy as np
import pytest

import oracles


@pytest.mark.parametrize("rounds, counter, key, words", oracles.THREEFRY_KNOWN_ANSWERS)
def test_threefry_known_answers(rounds, counter, key, words):
    assert oracles.threefry2x32(counter, key, rounds) == words


def damped_oscillator(omega=2.0, gamma=0.3, n=1.5):
    m = np.array([[-gamma / 2, omega], [-omega, -gamma / 2]])
    return m, np.eye(2) * 2 * gamma * (n + 0.5)


def test_moment_ode_relaxes_to_the_bath_and_splits_into_stages():
    m, d = damped_oscillator()
    p0 = np.diag([9.0, 4.0])
    whole = oracles.moment_ode([(3.0, lambda _: m, d)], p0)[-1]
    parts = oracles.moment_ode([(1.0, lambda _: m, d), (2.0, lambda _: m, d)], p0)
    np.testing.assert_allclose(parts[-1], whole, rtol=1e-10, atol=1e-10)
    late = oracles.moment_ode([(200.0, lambda _: m, d)], p0)[-1]
    np.testing.assert_allclose(late, 4.0 * np.eye(2), atol=1e-9)


def test_interval_map_of_brownian_motion_and_its_integral():
    h, rate = 0.7, 3.0
    a, q = oracles.interval_map(h, lambda _: np.zeros((1, 1)), np.array([[rate]]), np.array([2.0]))
    np.testing.assert_allclose(a, [[1.0], [2 * h]], rtol=1e-11)
    exact = rate * np.array([[h, h**2], [h**2, 4 * h**3 / 3]])
    np.testing.assert_allclose(q, exact, rtol=1e-11)


def test_interval_map_propagates_as_the_moments_do():
    m, d = damped_oscillator()
    drift = lambda f: m * (1 + f)  # noqa: E731
    p0 = np.array([[3.0, 0.5], [0.5, 2.0]])
    a, q = oracles.interval_map(1.3, drift, d, np.array([1.0, 0.2]))
    expected = oracles.moment_ode([(1.3, drift, d)], p0)[-1]
    np.testing.assert_allclose((a @ p0 @ a.T + q)[:2, :2], expected, rtol=1e-10)


def test_euler_maruyama_paths_have_the_covariance_of_the_recursion():
    m, d = damped_oscillator()
    rng = np.random.default_rng(1)
    p0, shots = np.diag([2.0, 1.0]), 20_000
    x0 = rng.standard_normal((shots, 2)) * np.sqrt(np.diag(p0))
    x = oracles.euler_maruyama_paths(rng, m, d, x0, 0.05, 20)[-1]
    expected = oracles.euler_maruyama_covariance(m, d, p0, 0.05, 20)
    diagonal = np.diag(expected)
    error = np.sqrt((np.outer(diagonal, diagonal) + expected**2) / shots)
    assert (np.abs(x.T @ x / shots - expected) < 5 * error).all()


def test_record_covariance_of_an_autoregression():
    a, noise, n = 0.8, 0.6, 6  # stationary variance noise^2 / (1 - a^2) = 1
    got = oracles.record_covariance(
        np.array([[a]]), np.eye(1), np.array([[noise, 0.0]]), np.array([[0.0, 2.0]]), np.eye(1), n
    )
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    np.testing.assert_allclose(got, a**lag + 4.0 * np.eye(n), rtol=1e-12)
    np.testing.assert_allclose(oracles.filter_moments(np.ones((1, n)), got), got.sum())


def test_growth_solves_its_equation_and_has_its_limit():
    t, h = np.array([0.0, 0.4, 1.1]), 1e-5
    for gain in (-2.0, 0.0, 3.0):
        value = oracles.growth(t, 2.0, gain, 5.0)
        slope = (
            (oracles.growth(t + h, 2.0, gain, 5.0) - oracles.growth(t - h, 2.0, gain, 5.0)) / h / 2
        )
        np.testing.assert_allclose(slope, gain * value + 5.0, rtol=1e-7)
        assert value[0] == 2.0


def test_average_response_is_the_closed_form_of_s6():
    t = np.linspace(0, 6, 13)
    got = oracles.average_response(t, -1, 3.0, 0.2, 0.5)
    np.testing.assert_allclose(
        got, oracles.response(t, -1, 3.0, 0.2) * np.exp(-(0.5**2) * t**2 / 2), atol=1e-13
    )
    both = oracles.jitter_average(lambda m, s: np.exp(1j * (m + 2 * s)), 0.5, 0.3)
    assert both == pytest.approx(np.exp(-(0.5**2 + 4 * 0.3**2) / 2), rel=1e-12)


def test_two_modes_of_a_squeezed_state():
    r = 0.7  # <a b> = i sinh r cosh r, <a^dag a> = <b^dag b> = sinh^2 r
    c, s = np.cosh(2 * r), np.sinh(2 * r)
    p = np.array([[c, 0, 0, s], [0, c, s, 0], [0, s, c, 0], [s, 0, 0, c]])
    n_a, n_b, ab, adb = oracles.two_modes(p)
    assert n_a == pytest.approx(np.sinh(r) ** 2) == n_b
    assert ab == pytest.approx(1j * np.sinh(r) * np.cosh(r))
    assert adb == pytest.approx(0)

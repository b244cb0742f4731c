import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsde.analysis.bootstrap import bootstrap_moments, central_intervals
from jaxsde.analysis.inversion import COLUMNS, ROWS, Inversion
from jaxsde.analysis.moments import derived, moments_of_outputs

MIXING = np.eye(10) + 0.1 * np.random.default_rng(0).normal(size=(10, 10))
INVERSION = Inversion(
    mixing=jnp.asarray(MIXING),
    bias=jnp.asarray(np.where(ROWS == COLUMNS, 2.0, 0.1)),
    shot=jnp.zeros(10),
    response=jnp.eye(4),
)


def outputs(n=400, seed=1):
    """Return outputs of correlated motion and spin."""
    rng = np.random.default_rng(seed)
    root = np.array([[5.0, 0, 0, 0], [0, 5, 0, 0], [0, -4, 3, 0], [-4, 0, 0, 3]])
    return jnp.asarray(rng.normal(size=(n, 4)) @ root.T)


def test_bootstrap_and_analytic_errors_agree():
    """The scatter of 3,000 draws is known to 1.3 %; resampling lacks a factor (n - 1)/n."""
    q = outputs()
    draws = np.asarray(bootstrap_moments(jax.random.key(0), q, INVERSION, draws=3000))
    made = moments_of_outputs(q, INVERSION)
    analytic = np.sqrt(np.diag(made.C_cov))
    np.testing.assert_allclose(draws.std(axis=0), analytic, rtol=0.06)
    upper = np.asarray(made.C)[ROWS, COLUMNS]
    assert np.abs((draws.mean(axis=0) - upper) / analytic * np.sqrt(3000)).max() < 4
    # Errors of what is derived: half the central 68 % against the first order of C_cov.
    intervals = central_intervals(jnp.asarray(draws))
    for name, (value, error) in derived(made.C, made.C_cov).items():
        if name.endswith("adag_b"):
            continue  # zero here, where modulus and phase have no first order
        low, high = intervals[name]
        assert error is not None
        assert low < value < high
        assert (high - low) / 2 == pytest.approx(error, rel=0.08), name


def test_each_draw_is_a_mean_over_shots_with_repetition():
    """Twin by NumPy: the draws' mean products lie in the hull of those of the shots."""
    q = jnp.asarray(np.eye(4)[[0, 0, 1]] * 2.0)  # products: Z_m^2 = 4 or 0
    plain = Inversion(
        mixing=jnp.eye(10), bias=jnp.zeros(10), shot=jnp.zeros(10), response=jnp.eye(4)
    )
    draws = np.asarray(bootstrap_moments(jax.random.key(1), q, plain, draws=3000))
    z_square = draws[:, 0] / 4
    counts = np.array([np.mean(np.isclose(z_square, k / 3)) for k in range(4)])
    # Binomial of 3 and 2/3; standard errors below 0.01.
    np.testing.assert_allclose(counts, [1 / 27, 6 / 27, 12 / 27, 8 / 27], atol=0.035)


def test_intervals_of_a_phase_may_cross_pi():
    c = np.diag([9.0, 9.0, 9.0, 9.0])
    c[0, 2] = c[2, 0] = -4.0
    c[1, 3] = c[3, 1] = 4.0  # <a b> = -2
    rng = np.random.default_rng(3)
    draws = c[ROWS, COLUMNS] + 0.3 * rng.normal(size=(2000, 10))
    low, high = central_intervals(jnp.asarray(draws))["arg_ab"]
    assert high - low == pytest.approx(2 * 0.3 * np.sqrt(2) / 4 / 2, rel=0.1)
    assert min(abs(abs(low) - np.pi), abs(abs(high) - np.pi)) < 0.2


def test_bootstrap_refuses():
    with pytest.raises(ValueError, match=r"^q: wanted at least 2 .*got 1$"):
        bootstrap_moments(jax.random.key(0), outputs(1), INVERSION)
    with pytest.raises(ValueError, match=r"^draws: wanted at least 2 .*got 1$"):
        bootstrap_moments(jax.random.key(0), outputs(5), INVERSION, draws=1)

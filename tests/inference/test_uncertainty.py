import dataclasses

import numpy as np
import pytest

import jaxsde
import pulse_and_ringdown as tiny
from pulse_and_ringdown import FREE, TRUTH, calibrate, shots


def relative(matrix):
    return matrix * np.outer(TRUTH, TRUTH)


def test_errors_are_those_of_the_fisher_information():
    fit = tiny.fit()
    bound = jaxsde.cramer_rao(jaxsde.fisher_information(fit))
    np.testing.assert_allclose(bound, fit.stderr, rtol=1e-6)


def test_observed_and_expected_information_agree_as_far_as_100_shots_tell():
    fit = tiny.fit()
    expected, observed = jaxsde.fisher_information(fit), jaxsde.observed_information(fit)
    np.testing.assert_allclose(observed, observed.T)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    # A shot's information scatters by about its own size: 10 % of 100 shots.
    assert np.abs((observed - expected) / scale).max() < 0.3
    assert np.abs((observed - expected) / scale).max() > 1e-4


def test_profiles_are_near_laplace_where_the_loss_is_a_parabola():
    fit = tiny.fit()
    found = jaxsde.profile(fit, "g_m")
    assert found.lower == pytest.approx(fit.lower[0], abs=0.2 * fit.stderr[0])
    assert found.upper == pytest.approx(fit.upper[0], abs=0.2 * fit.stderr[0])
    assert (np.diff(found.value) > 0).all()
    # Half at one sigma, zero at the estimate.
    assert found.drop[[0, -1]] == pytest.approx([0.5, 0.5], abs=0.03)
    assert found.drop.min() == 0.0


def test_profiles_of_more_sigmas_are_wider():
    fit = tiny.fit()
    one, two = (jaxsde.profile(fit, "B_s", sigmas=s) for s in (1.0, 2.0))
    assert two.lower < one.lower < fit.values[2] < one.upper < two.upper
    at_ends = np.interp([two.lower, two.upper], two.value, two.drop)
    assert at_ends == pytest.approx(2.0, abs=0.1)


def test_other_objectives_and_names_are_refused():
    with pytest.raises(ValueError, match=r"^fit: wanted .* objective='likelihood', got 'moments'"):
        jaxsde.observed_information(tiny.fit("moments"))
    with pytest.raises(ValueError, match=r"^name: wanted one of g_m, g_s, B_s, got 'kappa'$"):
        jaxsde.profile(tiny.fit(), "kappa")
    with pytest.raises(ValueError, match=r"^sigmas: wanted a positive number, got -1"):
        jaxsde.profile(tiny.fit(), "g_m", sigmas=-1.0)
    with pytest.raises(ValueError, match=r"^information: wanted a positive definite matrix"):
        jaxsde.cramer_rao(np.array([[1.0, 1.0], [1.0, 1.0]]))


# --- identifiability ------------------------------------------------------------------------------


def with_covariance(free, covariance):
    return dataclasses.replace(tiny.fit(), free=free, covariance=np.asarray(covariance))


def test_good_data_determine_each_parameter():
    report = jaxsde.identifiability(tiny.fit())
    assert report.free == FREE
    assert (np.diff(report.errors) <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(report.directions, axis=1), 1.0)


def test_a_product_that_alone_is_known_is_named_with_its_remedy():
    """g_m^1 efficiency^1/2 known to 1 %, each of them to 50 % or a factor."""
    weak, strong = np.array([0.447, -0.894]), np.array([0.894, 0.447])
    covariance = 0.8**2 * np.outer(weak, weak) + 0.01**2 * np.outer(strong, strong)
    report = jaxsde.identifiability(with_covariance(("g_m", "detector.efficiency"), covariance))
    assert "efficiency are determined only as a product in this data" in report.text
    assert "g_m^+0.5 detector.efficiency^-1.0" in report.text
    assert "add a sideband-asymmetry or back-action measurement" in report.text
    assert "80 %" in report.text


def test_one_that_is_badly_known_is_named_alone():
    report = jaxsde.identifiability(with_covariance(("g_m", "n_m0"), np.diag([1e-4, 1.0])))
    assert report.text.startswith("n_m0 is known to a factor of 2.7 only; take more shots")


def test_efficiency_and_couplings_trade_in_data_of_few_photons():
    """A record follows A g_m Z_m, and of weak light it says nothing else of g_m."""
    fit = calibrate(tiny.PARAMS, shots(), ("g_m", "g_s", "detector.efficiency"))
    report = jaxsde.identifiability(fit)
    worst = report.directions[0]
    # Up with efficiency, down with both couplings.
    assert worst[2] * worst[0] < 0 and worst[2] * worst[1] < 0
    assert fit.correlation[0, 2] < -0.8

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pulse_and_ringdown as tiny
from jaxsde.inference.calibrate import OBJECTIVES, covariance_of
from jaxsde.inference.problem import DataSet
from jaxsde.inference.transform import Gaussian, LogNormal
from pulse_and_ringdown import DETECTOR, FREE, OFF, PARAMS, SEQUENCE, TRUTH, calibrate, shots


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_truth_is_recovered_from_thirty_per_cent_off(objective):
    fit = tiny.fit(objective)
    assert fit.converged and fit.reason == ""
    z = (fit.values - TRUTH) / fit.stderr
    assert np.abs(z).max() < 3, z
    # The errors are small enough to tell the truth from the start.
    assert ((fit.start - TRUTH) / fit.stderr)[0] > 4
    np.testing.assert_allclose(fit.start, [OFF.g_m, OFF.g_s, OFF.B_s])
    assert [getattr(fit.params, name) for name in FREE] == pytest.approx(list(fit.values))
    assert fit.params.kappa == PARAMS.kappa
    np.testing.assert_allclose(np.diag(fit.correlation), 1.0)
    assert ((fit.lower < fit.values) & (fit.values < fit.upper)).all()
    assert (fit.n_shots, fit.free, fit.objective) == (100, FREE, objective)
    assert len(fit.path) == len(fit.loss)
    # chi^2 and likelihood ratios have a standard deviation of sqrt(2 dof), and jitter adds some.
    assert abs(fit.misfit - fit.misfit_dof) < 5 * np.sqrt(2 * fit.misfit_dof)


def test_the_likelihood_has_the_smallest_errors():
    """Matched filters in two windows leave out the pulse and what lies between their outputs."""
    likelihood, moments = tiny.fit("likelihood"), tiny.fit("moments")
    assert (likelihood.stderr < moments.stderr).all()


def test_simulated_shots_add_their_noise_to_the_errors():
    fit, exact = tiny.fit("pathwise"), tiny.fit("moments")
    assert fit.n_simulated == 1024 and exact.n_simulated == 0
    np.testing.assert_array_equal(exact.mc_error, 0)
    # Ten times the shots of the data: a tenth of their variance, to the scatter of products.
    share = fit.mc_error**2 / (fit.stderr**2 - fit.mc_error**2)
    np.testing.assert_allclose(share, 100 / 1024, rtol=0.6)
    # Both see the same data.
    assert (np.abs(fit.values - exact.values) < 4 * fit.mc_error).all()


def test_the_optimum_does_not_depend_on_the_start():
    fit = tiny.fit()
    other = dataclasses.replace(
        PARAMS, g_m=0.75 * PARAMS.g_m, g_s=1.3 * PARAMS.g_s, B_s=0.6 * PARAMS.B_s
    )
    again = calibrate(other, shots(), FREE)
    assert again.converged
    assert np.abs((again.values - fit.values) / fit.stderr).max() < 0.03
    np.testing.assert_allclose(again.stderr, fit.stderr, rtol=0.01)


@pytest.mark.slow
def test_quoted_errors_are_the_scatter_of_experiments():
    """Of 24 experiments the scatter is known to 15 % and the mean pull to 0.2."""
    fits = [tiny.fit(seed=seed) for seed in range(1, 25)]
    pulls = np.array([(fit.values - TRUTH) / fit.stderr for fit in fits])
    assert all(fit.converged for fit in fits)
    assert np.abs(pulls.mean(axis=0)).max() < 4 * 0.2, pulls.mean(axis=0)
    spread = pulls.std(axis=0, ddof=1)
    assert ((spread > 0.5) & (spread < 1.6)).all(), spread


def test_every_step_is_told():
    told = []
    fit = calibrate(OFF, shots().record, FREE, on_step=lambda *a: told.append(a))
    np.testing.assert_array_equal(fit.values, tiny.fit().values)
    assert [number for number, _ in told] == list(range(1, len(told) + 1))


def test_a_descent_that_is_cut_short_says_so():
    with pytest.warns(UserWarning, match="calibrate: not converged: 1 steps were not enough"):
        fit = calibrate(OFF, shots(), FREE, max_steps=1)
    assert not fit.converged
    assert fit.reason == "1 steps were not enough"


# --- priors, bounds, several data sets ------------------------------------------------------------


def test_a_prior_enters_as_a_measurement_does():
    """With Gaussian errors, precisions add: for a prior ten times better than the data too."""
    fit = tiny.fit()
    at, error = 1.02 * PARAMS.g_m, fit.stderr[0]
    for width in (error, 0.1 * error):
        prior = {"g_m": Gaussian(mean=at, stderr=width)}
        with_prior = calibrate(OFF, shots(), FREE, priors=prior)
        weights = np.array([1 / error**2, 1 / width**2])
        mean = np.average([fit.values[0], at], weights=weights)
        assert with_prior.stderr[0] == pytest.approx(weights.sum() ** -0.5, rel=0.03)
        assert with_prior.values[0] == pytest.approx(mean, abs=0.1 * with_prior.stderr[0])


def test_a_relative_prior_is_a_gaussian_one_of_the_logarithm():
    fit = tiny.fit()
    relative = fit.stderr[2] / fit.values[2]
    prior = {"B_s": LogNormal(median=PARAMS.B_s, spread=relative)}
    with_prior = calibrate(OFF, shots(), FREE, priors=prior)
    got = with_prior.stderr[2] / with_prior.values[2]
    assert got == pytest.approx(relative / np.sqrt(2), rel=0.1)
    middle = np.sqrt(fit.values[2] * PARAMS.B_s)
    assert with_prior.values[2] == pytest.approx(middle, rel=0.05)


def test_bounds_hold_and_an_edge_is_reported():
    top = 0.8 * tiny.fit().values[2]
    bounds = {"B_s": (0.1 * PARAMS.B_s, top)}
    fit = calibrate(dataclasses.replace(OFF, B_s=0.5 * top), shots(), FREE, bounds=bounds)
    assert fit.converged
    assert fit.values[2] <= top
    # Half a standard error below its optimum B_s is pushed to the edge.
    assert fit.at_edge == ("B_s",)
    assert fit.values[2] == pytest.approx(top, rel=5e-3)
    assert tiny.fit().at_edge == ()


def test_two_data_sets_share_what_they_share():
    """Halves of the same shots, with one B_s each: couplings as of all, each B_s by its half."""
    whole, record = tiny.fit(), shots().record
    halves = [
        DataSet(record=part, sequence=SEQUENCE, detector=DETECTOR, own=("B_s",), name=name)
        for name, part in (("a", record[:50]), ("b", record[50:]))
    ]
    fit = calibrate(OFF, halves, FREE)
    assert fit.converged
    assert fit.free == ("g_m", "g_s", "B_s[a]", "B_s[b]")
    assert fit.n_shots == 100
    np.testing.assert_allclose(fit.values[:2], whole.values[:2], atol=0.3 * whole.stderr.min())
    np.testing.assert_allclose(fit.stderr[:2], whole.stderr[:2], rtol=0.1)
    weights = fit.stderr[2:] ** -2
    assert np.average(fit.values[2:], weights=weights) == pytest.approx(
        whole.values[2], abs=0.4 * whole.stderr[2]
    )
    np.testing.assert_allclose(weights.sum() ** -0.5, whole.stderr[2], rtol=0.2)


def test_records_with_gaps_are_calibrated():
    record = np.array(shots().record)
    record[:20, 60:70] = np.nan
    fit = calibrate(OFF, record, FREE)
    assert fit.converged
    assert fit.misfit_dof == 100 * 240 - 20 * 20
    assert np.abs((fit.values - tiny.fit().values) / fit.stderr).max() < 1
    assert (fit.stderr > 0.999 * tiny.fit().stderr).all()


def test_parameters_at_an_edge_leave_the_others_errors_alone():
    information = np.array([[4.0, 1.0, 0.5], [1.0, 2.0, 0.3], [0.5, 0.3, 1e-6]])
    got = covariance_of(information, np.array([False, False, True]))
    np.testing.assert_allclose(got[:2, :2], np.linalg.inv(information[:2, :2]))
    np.testing.assert_allclose(got[2], [0, 0, 1e6])


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(free=("g_x",)), r"^free: wanted names out of .*, got 'g_x'$"),
        (dict(objective="map"), r"^objective: wanted one of likelihood, moments, pathwise, got"),
        (dict(objective="pathwise"), r"^key: wanted a JAX random key for the pathwise objective"),
        (dict(bounds={"g_m": (1.0, 2.0)}), r"^bounds: g_m: wanted bounds around its start .* got"),
        (dict(bounds={"g_m": (3.0, 2.0)}), r"^bounds: g_m: wanted \(low, high\) with low < high"),
        (dict(bounds={"kappa": (1.0, 2.0)}), r"^bounds: wanted names of free parameters"),
        (dict(priors={"kappa": Gaussian(mean=1.0, stderr=1.0)}), r"^priors: wanted names of free"),
        (dict(scan=1.5), r"^scan: wanted a share of the frequency from 0 to below 1, got 1.5$"),
        (dict(objective="moments", features="x"), r"^features: wanted one of matched, disp"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    free = change.pop("free", FREE)
    with pytest.raises(ValueError, match=message):
        calibrate(OFF, shots(), free, **change)


def test_data_that_do_not_fit_are_refused():
    record = shots().record
    with pytest.raises(ValueError, match=r"^record: wanted \(shots, 120, 2\), .* got \(100, 119"):
        calibrate(OFF, record[:, 1:], FREE)
    with pytest.raises(ValueError, match=r"^sequence: wanted the one that the records were made"):
        calibrate(OFF, record, FREE, sequence=None)
    with pytest.raises(ValueError, match=r"^record: wanted finite samples, or NaN .* infinity"):
        calibrate(OFF, record.at[0, 0, 0].set(jnp.inf), FREE)
    with pytest.raises(ValueError, match=r"^record: wanted finite samples, .* objective='likeli"):
        calibrate(OFF, record.at[0, 0, 0].set(jnp.nan), FREE, objective="moments")
    with pytest.raises(ValueError, match=r"^record: wanted more shots than the 12 filters, got 4;"):
        calibrate(OFF, record[:4], FREE, objective="moments")
    with pytest.raises(ValueError, match=r"^params\.kappa: "):
        calibrate(dataclasses.replace(PARAMS, kappa=-1.0), record, FREE)


def test_data_without_light_determine_nothing():
    dark = tiny.sequence()
    stages = tuple(
        dataclasses.replace(s, controls=dataclasses.replace(s.controls, nbar=0.0))
        for s in dark.stages
    )
    dark = dataclasses.replace(dark, stages=stages)
    noise = jax.random.normal(jax.random.key(0), (100, 120, 2)) * 1e-8
    with pytest.raises(RuntimeError, match=r"^free: these data do not determine g_m and g_s and"):
        calibrate(OFF, noise, FREE, sequence=dark)

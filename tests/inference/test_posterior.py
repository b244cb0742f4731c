"""The posterior by NUTS against the parabola, a prior alone, and itself by importance weights."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
import pulse_and_ringdown as tiny
from jaxsde.inference.posterior import _summary, log_posterior, sample_posterior
from jaxsde.inference.transform import Gaussian, LogNormal
from jaxsde.physics.sequence import Sequence

SHORT = Sequence(
    stages=(dataclasses.replace(tiny.SEQUENCE.stages[1], n_samples=30),), sample_interval=1e-6
)


@functools.cache
def fit(prior="none"):
    """Return a fit of g_m and B_s to 200 shots of 30 samples; a narrow prior tells B_s alone."""
    record = jaxsde.simulate(jax.random.key(2), tiny.PARAMS, SHORT, tiny.DETECTOR, 200).record
    b = tiny.PARAMS.B_s
    priors = {
        "none": {},
        "Gaussian": {"B_s": Gaussian(mean=2 * b, stderr=0.02 * b)},
        "log-normal": {"B_s": LogNormal(median=2 * b, spread=0.01)},
    }[prior]
    params = dataclasses.replace(tiny.PARAMS, sigma_m=0.0, sigma_s=0.0)
    return jaxsde.calibrate(
        params, record, ("g_m", "B_s"), sequence=SHORT, detector=tiny.DETECTOR, priors=priors
    )


@pytest.mark.parametrize("prior", ["none", "Gaussian", "log-normal"])
def test_the_density_is_that_of_the_values(prior):
    """Between two points: likelihood, prior and the change of variables, by hand."""
    made = fit(prior)
    density = log_posterior(made)
    u = np.asarray(made.u) + np.array([[0.0, 0.0], [0.1, -0.2]])
    values = np.asarray(made.start) * np.exp(u)  # both keep their sign: value = start e^u
    total = []
    for (g_m, b_s), at in zip(values, u, strict=True):
        params = dataclasses.replace(tiny.PARAMS, sigma_m=0.0, sigma_s=0.0, g_m=g_m, B_s=b_s)
        likelihood = jaxsde.log_likelihood(
            params, made.problem.records[0], sequence=SHORT, detector=tiny.DETECTOR, nodes=(1, 1)
        )
        b = tiny.PARAMS.B_s
        log_prior = {
            "none": at[1],
            "Gaussian": at[1] - ((b_s - 2 * b) / (0.02 * b)) ** 2 / 2,
            "log-normal": -((np.log(b_s / (2 * b)) / 0.01) ** 2) / 2,
        }[prior]
        total.append(float(likelihood) + at[0] + log_prior)
    one, two = (float(density(jnp.asarray(at))) for at in u)
    assert one - two == pytest.approx(total[0] - total[1], abs=2e-5)


@pytest.mark.slow
def test_samples_have_the_moments_of_the_density():
    """Against the mean by importance weights from the parabola; errors from the samples' number."""
    made = fit()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        found = sample_posterior(made, jax.random.key(3), n_samples=300, n_warmup=60)
    assert found.samples.shape == (2, 300, 2)
    assert found.converged, found.reason
    # Student's t with the fit's covariance, 1,000 draws.
    rng = np.random.default_rng(0)
    root = 1.2 * np.linalg.cholesky(np.asarray(made.covariance))
    t = rng.standard_normal((1000, 2)) / np.sqrt(rng.chisquare(5, (1000, 1)) / 5)
    u = np.asarray(made.u) + t @ root.T
    density = jax.jit(log_posterior(made))
    log_weight = np.array([float(density(at)) for at in jnp.asarray(u)])
    log_weight += 3.5 * np.log1p((t**2).sum(axis=1) / 5)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    values = np.asarray(made.start) * np.exp(u)
    mean = weight @ values
    stdev = np.sqrt(weight @ (values - mean) ** 2)
    error = np.sqrt(1 / found.ess + (weight**2).sum()) * stdev
    assert (np.abs(found.mean - mean) < 4.5 * error).all()
    np.testing.assert_allclose(found.stdev / stdev, 1, atol=4.5 * np.max(error / stdev))
    assert (found.lower < found.mean).all() and (found.mean < found.upper).all()


def test_chains_that_differ_or_diverge_are_told():
    rng = np.random.default_rng(1)
    good = rng.standard_normal((2, 500, 1))
    assert _summary(("g_m",), good, 0).converged
    apart = _summary(("g_m",), good + np.array([0.0, 3.0])[:, None, None], 0)
    assert not apart.converged and "chains differ: R-hat" in apart.reason
    slow = _summary(("g_m",), np.cumsum(good, axis=1), 3)
    assert "3 trajectories diverged" in slow.reason and "effective samples" in slow.reason


def test_what_cannot_be_sampled_is_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"^n_samples: wanted 4 or more, got 0"):
        sample_posterior(fit(), key, n_samples=0)
    lost = dataclasses.replace(fit(), converged=False, reason="50 steps")
    with pytest.raises(ValueError, match=r"^fit: wanted a converged .* got: 50 steps"):
        sample_posterior(lost, key)
    edge = dataclasses.replace(fit(), at_edge=("B_s",))
    with pytest.raises(ValueError, match=r"B_s at the edge of the range; free fewer"):
        sample_posterior(edge, key)

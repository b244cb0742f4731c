"""The smoother's initial state: against least squares on whole records, and textbook sweeps."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
from ensembles import z_of_products
from jaxsde.analysis.optimal import best_filter, record_model
from jaxsde.engine.plan import jitter_basis
from jaxsde.engine.resolution import choose_resolution
from jaxsde.inference.initial_state import initial_state
from jaxsde.inference.tables import interval_of, step_fields, tabulate
from pulse_and_ringdown import DETECTOR, PARAMS, SEQUENCE

STILL = dataclasses.replace(PARAMS, sigma_m=0.0, sigma_s=0.0)
PRIOR = np.diag([20.0, 20.0, 25.0, 25.0]) + np.diag([3.0] * 2, 2) + np.diag([3.0] * 2, -2)


@functools.cache
def shots():
    return jaxsde.simulate(jax.random.key(8), PARAMS, SEQUENCE, DETECTOR, 2000)


def some(n=6):
    return np.array(shots().record[:n])


def test_without_a_prior_it_is_generalised_least_squares():
    got = initial_state(some(), STILL, SEQUENCE, DETECTOR, nodes=(1, 1))
    bank, v = best_filter(record_model(STILL, SEQUENCE, DETECTOR, nodes=(1, 1)), SEQUENCE)
    np.testing.assert_allclose(
        got.mean, jaxsde.apply_filters(jnp.asarray(some()), bank), rtol=1e-8, atol=1e-9
    )
    for one in np.asarray(got.covariance):
        np.testing.assert_allclose(one, v, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(got.weights, 1.0)


def test_missing_samples_tell_nothing():
    record = some()
    record[:4, 60:75] = np.nan
    record[2, 50, 1] = np.nan
    got = initial_state(record, STILL, SEQUENCE, DETECTOR, nodes=(1, 1))
    model = record_model(STILL, SEQUENCE, DETECTOR, nodes=(1, 1))
    for shot in (0, 2, 5):
        there = ~np.isnan(record[shot])
        bank, v = best_filter(model, SEQUENCE, seen=there[40:])
        q = jaxsde.apply_filters(jnp.asarray(np.nan_to_num(record[shot : shot + 1])), bank)
        np.testing.assert_allclose(got.mean[shot], q[0], rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(got.covariance[shot], v, rtol=1e-8, atol=1e-10)


def rauch_tung_striebel(steps, which, p0, y):
    """Return mean and covariance of the first state given all of y, by both sweeps (NumPy).

    x' = A x + L xi, y = C x + N xi with shared xi: the noise of x' is first made independent of y's
    by x' = (A - J C) x + J y + (L - J N) xi, J = L N^T (N N^T)^-1.
    """
    mean, cov, held = np.zeros(len(p0)), p0, []
    for at, seen in zip(which, y, strict=True):
        a, c, low, n = (steps[f][at][..., 0] for f in ("A", "C", "L", "N"))
        r = n @ n.T
        j = low @ n.T @ np.linalg.inv(r)
        a, q = a - j @ c, low @ low.T - j @ n @ low.T
        s = c @ cov @ c.T + r
        gain = cov @ c.T @ np.linalg.inv(s)
        mean, cov = mean + gain @ (seen - c @ mean), cov - gain @ s @ gain.T
        after, wide = a @ mean + j @ seen, a @ cov @ a.T + q
        held.append((mean, cov, after, wide, a))
        mean, cov = after, wide
    for filtered, own, after, wide, a in reversed(held):
        back = own @ a.T @ np.linalg.inv(wide)
        mean, cov = filtered + back @ (mean - after), own + back @ (cov - wide) @ back.T
    return mean, cov


def test_with_a_prior_it_is_where_the_backward_sweep_arrives():
    rest = dataclasses.replace(SEQUENCE, stages=SEQUENCE.stages[1:])
    resolution = choose_resolution(STILL, SEQUENCE)
    tables = tabulate(STILL, rest, DETECTOR, resolution)
    basis = jitter_basis(jnp.zeros((2, 1)), resolution.jitter_nodes)
    made = step_fields(tables, basis, rest.sample_interval)
    # Record units near 1, for the textbook's inverses.
    unit = float(np.sqrt(tables.noise))
    steps = {f: np.asarray(v) / (unit if f in ("C", "N") else 1.0) for f, v in made.items()}
    p0 = np.zeros((6, 6))
    p0[:4, :4], p0[4, 4], p0[5, 5] = PRIOR, 0.5, 0.5
    got = initial_state(some(2), STILL, SEQUENCE, DETECTOR, prior=PRIOR, nodes=(1, 1))
    for shot in range(2):
        y = some(2)[shot, 40:] / unit
        mean, cov = rauch_tung_striebel(steps, interval_of(rest, resolution), p0, y)
        np.testing.assert_allclose(got.mean[shot], mean[:4], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(got.covariance[shot], cov[:4, :4], rtol=1e-6, atol=1e-7)


def test_errors_of_simulated_shots_are_as_quoted_and_no_worse_than_the_linear_best():
    """2,000 shots with jitter: errors have the mean quoted covariance (10 z-scores)."""
    truth = jaxsde.true_moments(PARAMS, SEQUENCE, 1)
    got = initial_state(shots(), PARAMS, SEQUENCE, DETECTOR, prior=truth, nodes=(5, 5))
    x = np.asarray(shots().states)[:, 0, :4]
    error = np.asarray(got.mean) - x
    scores = z_of_products(error, np.asarray(got.covariance).mean(axis=0))
    assert np.abs(scores).max() < 4.5, scores
    bank, v = best_filter(record_model(PARAMS, SEQUENCE, DETECTOR, c=truth, nodes=(9, 9)), SEQUENCE)
    shrink = np.asarray(truth) @ np.linalg.inv(np.asarray(truth + v))
    linear = np.asarray(jaxsde.apply_filters(shots().record, bank)) @ shrink.T - x
    # Of the same shots, so that most of the scatter is common: 2 % is far beyond the rest.
    assert (error**2).sum() < 1.02 * (linear**2).sum()
    # A smoother that takes the mean frequencies for true quotes errors that are too small.
    blind = initial_state(shots(), PARAMS, SEQUENCE, DETECTOR, prior=truth, nodes=(1, 1))
    assert np.trace(blind.covariance[0]) < 0.97 * np.trace(np.asarray(got.covariance).mean(axis=0))


def test_initial_state_refuses():
    with pytest.raises(ValueError, match=r"^record: wanted samples after .*'ringdown'"):
        record = some(2)
        record[:, 41:] = np.nan
        initial_state(record, STILL, SEQUENCE, DETECTOR, nodes=(1, 1))
    with pytest.raises(ValueError, match=r"^prior: wanted a symmetric, positive definite"):
        initial_state(some(2), STILL, SEQUENCE, DETECTOR, prior=np.diag([1.0, 1.0, 1.0, 0.0]))

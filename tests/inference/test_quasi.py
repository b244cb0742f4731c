import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxsde.engine.response import average_filter_covariance
from jaxsde.inference.problem import make_problem
from jaxsde.inference.quasi import (
    make_quasi,
    misfit,
    quasi_point,
    second_moments,
    simulation_scatter,
)
from pulse_and_ringdown import DETECTOR, FREE, OFF, PARAMS, SEQUENCE, TRUTH, calibrate, shots


@functools.cache
def objective(features="matched", key=None):
    problem = make_problem(PARAMS, shots(), FREE, sequence=SEQUENCE, detector=DETECTOR)
    key = None if key is None else jax.random.key(key)
    return make_quasi(
        problem, features=features, stage="ringdown", windows=2, key=key, n_simulated=1024
    )


def test_moments_are_the_engines_and_near_those_of_the_data():
    made = objective()
    s, ds, simulated = second_moments(made, np.zeros(3), 0)
    bank = made.features[0].bank
    want = average_filter_covariance(
        PARAMS, SEQUENCE, DETECTOR, bank.weights, bank.stage, (13, 9),
        made.problem.resolutions[0],
    )  # fmt: skip
    np.testing.assert_allclose(s, want, rtol=1e-3, atol=1e-3)
    assert ds.shape == (3, 8, 8) and simulated.shape == (0, 8)
    q = made.outputs[0]
    scatter = np.sqrt((np.diag(s)[:, None] * np.diag(s) + s**2) / len(q))
    assert (np.abs(q.T @ q / len(q) - s) < 5 * scatter).all()


def test_simulated_moments_scatter_about_the_exact_ones():
    exact, _, _ = second_moments(objective(), np.zeros(3), 0)
    made, _, q = second_moments(objective(key=3), np.zeros(3), 0)
    assert q.shape == (1024, 8)
    scatter = np.sqrt((np.diag(exact)[:, None] * np.diag(exact) + exact**2) / 1024)
    assert (np.abs(made - exact) < 5 * scatter).all()
    assert np.abs(made - exact).max() > 0.1 * scatter.min()
    assert np.diag(simulation_scatter(objective(key=3), np.zeros(3))).min() > 0
    np.testing.assert_array_equal(simulation_scatter(objective(), np.zeros(3)), 0)


@pytest.mark.parametrize("features", ["matched", "displacement", "spectrum"])
def test_scores_and_gradients_belong_together(features):
    """The gradient is the sum of the shots' scores, but for what the errors' own slope adds."""
    made = objective(features)
    point = quasi_point(made, np.zeros(3))
    if features == "matched":
        np.testing.assert_allclose(-point.scores.sum(axis=0), point.gradient, rtol=1e-9)
    for i in range(3):
        move = 1e-3 * np.eye(3)[i]
        high, low = (quasi_point(made, s * move).loss for s in (1, -1))
        assert point.gradient[i] == pytest.approx((high - low) / 2e-3, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    "features, free",
    # Five bins of one stage do not tell g_s from B_s, which the growth in time does.
    [("displacement", FREE), ("spectrum", ("g_m",))],
)
def test_powers_recover_the_truth(features, free):
    start = dataclasses.replace(PARAMS, **{name: getattr(OFF, name) for name in free})
    fit = calibrate(start, shots(), free, objective="moments", features=features, windows=1)
    assert fit.converged
    z = (fit.values - TRUTH[: len(free)]) / fit.stderr
    assert np.abs(z).max() < 4, z
    assert (fit.start[0] - TRUTH[0]) / fit.stderr[0] > 1.5
    assert fit.misfit < fit.misfit_dof + 6 * np.sqrt(2 * fit.misfit_dof)


def test_a_wrong_model_is_far_from_the_data():
    """A bath of 30 quanta for one of 1: with the couplings held it shows."""
    made = objective()
    right, dof = misfit(made, np.zeros(3))
    hot = dataclasses.replace(PARAMS, n_bath=30.0)
    problem = make_problem(hot, shots(), FREE, sequence=SEQUENCE, detector=DETECTOR)
    wrong = make_quasi(
        problem, features="matched", stage="ringdown", windows=2, key=None, n_simulated=0
    )
    assert dof == 33
    assert abs(right - dof) < 5 * np.sqrt(2 * dof)
    assert misfit(wrong, np.zeros(3))[0] > right + 100

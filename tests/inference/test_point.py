"""The loss and its derivatives at a point, of every objective and for every parameter."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
import pulse_and_ringdown as tiny
from jaxsde.engine.backends import SCAN, prepare, run
from jaxsde.engine.outputs import Asked
from jaxsde.engine.response import average_filter_covariance
from jaxsde.inference.point import likelihood_point, make_likelihood, nodes_of
from jaxsde.inference.problem import make_problem, model_at
from jaxsde.inference.quasi import make_quasi, quasi_point, second_moments
from jaxsde.inference.transform import Gaussian
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Sequence, Stage

PARAMS = jaxsde.Params.kohler2018(sigma_m=TWO_PI * 3e3, sigma_s=TWO_PI * 2e3)
# No stage sets omega_m, B_s or n_bath itself, so that every field of Params acts.
SEQUENCE = Sequence(
    stages=(
        Stage(name="pulse", n_samples=8, controls=Controls(nbar=10.0, delta_pc=TWO_PI * -2e6)),
        Stage(name="ringdown", n_samples=16, controls=Controls(nbar=4.0, delta_pc=TWO_PI * 1e5)),
    ),
    sample_interval=1e-6,
)
DETECTOR = jaxsde.Detector(efficiency=0.5, sample_interval=1e-6)
NAMES = tuple(f.name for f in dataclasses.fields(jaxsde.Params) if f.name != "epsilon")


@functools.cache
def problem():
    record = jaxsde.simulate(jax.random.key(5), PARAMS, SEQUENCE, DETECTOR, 20).record
    priors = {"g_m": Gaussian(mean=1.1 * PARAMS.g_m, stderr=0.1 * PARAMS.g_m)}
    return make_problem(PARAMS, record, NAMES, sequence=SEQUENCE, detector=DETECTOR, priors=priors)


@functools.cache
def objective(kind):
    if kind == "likelihood":
        return functools.partial(likelihood_point, make_likelihood(problem()), level=0)
    key = jax.random.key(6) if kind == "pathwise" else None
    made = make_quasi(
        problem(), features="matched", stage="ringdown", windows=1, key=key, n_simulated=32
    )
    return functools.partial(quasi_point, made)


@pytest.mark.parametrize("kind", ["likelihood", "moments", "pathwise"])
def test_gradients_are_what_differences_show_for_every_parameter(kind):
    """Fourth-order differences; 1e-6 of the gradient, in the units of its own errors."""
    of, at = objective(kind), 0.02 * np.cos(np.arange(len(NAMES)))
    point = of(at)
    scale = np.sqrt(np.diag(point.complete))
    for i in range(len(NAMES)):
        # Frequencies turn phases by omega t ~ 15 rad for a u of 1.
        step = 2e-4 if NAMES[i].startswith("omega") else 2e-3
        loss = {}
        for k in (-2, -1, 1, 2):
            moved = at.copy()
            moved[i] += k * step
            loss[k] = of(moved).loss
        slope = (8 * (loss[1] - loss[-1]) - (loss[2] - loss[-2])) / (12 * step)
        assert slope == pytest.approx(point.gradient[i], rel=1e-6, abs=2e-6 * scale[i]), NAMES[i]


def test_forward_mode_is_reverse_mode():
    """The descent's own tangents against reverse mode through the whole likelihood."""
    made, of = problem(), objective("likelihood")
    at = 0.02 * np.cos(np.arange(len(NAMES)))
    nodes = nodes_of(made, at, 0, 0)

    record = np.asarray(made.records[0])

    def value(u):
        model = model_at(made, u, 0)
        return jaxsde.log_likelihood(
            model.params, record, sequence=model.sequence, detector=model.detector,
            nodes=nodes, resolution=made.resolutions[0],
        )  # fmt: skip

    point = of(at)
    reverse = -np.asarray(jax.grad(value)(jnp.asarray(at)))
    index = NAMES.index("g_m")
    prior = (np.exp(at[index]) - 1.1) / 0.1 * np.exp(at[index]) / 0.1
    reverse[index] += prior
    scale = np.sqrt(np.diag(point.complete))
    np.testing.assert_allclose(point.gradient / scale, reverse / scale, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["moments", "pathwise"])
def test_second_moments_have_the_same_slopes_in_reverse(kind):
    """Forward through theory or the fused engine against reverse through theory or the scan."""
    made = objective(kind).args[0]
    bank, at = made.features[0].bank, 0.02 * np.cos(np.arange(len(NAMES)))
    weight = np.random.default_rng(4).normal(size=(bank.weights.shape[0],) * 2)

    def seen(u):
        m = model_at(made.problem, u, 0)
        where = m.params, m.sequence, m.detector
        if kind == "moments":
            s = average_filter_covariance(
                *where, bank.weights, bank.stage, made.nodes[0], made.problem.resolutions[0]
            )
        else:
            ids, how = jnp.arange(32, dtype=jnp.uint32), made.problem.resolutions[0]
            prepared = prepare(SCAN, *where, how)
            q = run(
                SCAN, prepared, made.seed, *where, ids, how, jnp.dtype(float),
                asked=Asked(record=False, states=False), weights=bank.weights,
            ).filters  # fmt: skip
            s = q.T @ q / 32
        return jnp.sum(weight * s)

    _, slopes, _ = second_moments(made, at, 0)
    forward = np.einsum("aij,ij->a", slopes, weight)
    reverse = np.asarray(jax.grad(seen)(jnp.asarray(at)))
    np.testing.assert_allclose(forward, reverse, rtol=1e-6, atol=1e-9 * np.abs(forward).max())
    assert (forward != 0).all()


def test_the_loss_is_the_public_likelihood_and_the_priors():
    made = problem()
    point = objective("likelihood")(np.zeros(len(NAMES)))
    total = jaxsde.log_likelihood(
        PARAMS, np.asarray(made.records[0]), sequence=SEQUENCE, detector=DETECTOR, nodes=(3, 3),
        resolution=made.resolutions[0],
    )  # fmt: skip
    assert point.loss == pytest.approx(-float(total) + 0.5, rel=1e-12)
    assert point.log_likelihoods.sum() == pytest.approx(float(total), rel=1e-12)
    assert point.counts.sum() == 20 * 24 * 2
    # Squares of the innovations have the mean of their number; 960 of them scatter by 44.
    assert point.squares.sum() == pytest.approx(960, abs=4 * 44)


@functools.cache
def many():
    """Return 400 shots of the tiny experiment."""
    return jaxsde.simulate(jax.random.key(8), tiny.PARAMS, tiny.SEQUENCE, tiny.DETECTOR, 400)


def test_the_scores_of_shots_scatter_by_the_information():
    """Over 400 shots scores have mean 0 and the information for their variance."""
    problem = make_problem(
        tiny.PARAMS, many(), tiny.FREE, sequence=tiny.SEQUENCE, detector=tiny.DETECTOR
    )
    point = likelihood_point(make_likelihood(problem), np.zeros(3), 1)
    n = len(point.scores)
    z = point.scores.mean(axis=0) / point.scores.std(axis=0) * np.sqrt(n)
    assert np.abs(z).max() < 4
    scatter = point.scores.T @ point.scores
    scale = np.sqrt(np.outer(np.diag(scatter), np.diag(scatter)))
    # Scores have long tails: their second moments of 400 shots are known to some 15 %.
    assert np.abs((point.information - scatter) / scale).max() < 0.45
    # What is missing since frequencies are not known is positive.
    assert (np.linalg.eigvalsh(point.complete - point.information) > 0).all()


def test_expected_offsets_follow_the_frequencies_of_the_shots():
    """What single shots tell of their frequencies is little, but not wrong."""
    made = many()
    one = make_problem(tiny.PARAMS, made, tiny.FREE, sequence=tiny.SEQUENCE, detector=tiny.DETECTOR)
    point = likelihood_point(make_likelihood(one), np.zeros(3), 1)
    true = np.stack([made.omega_m - tiny.PARAMS.omega_m, made.omega_s - tiny.PARAMS.omega_s])
    true = true.T / np.array([tiny.PARAMS.sigma_m, tiny.PARAMS.sigma_s])
    for axis in range(2):
        expected = point.offsets[:, axis]
        # Regression of the truth on its expectation has slope 1.
        slope = expected @ true[:, axis] / (expected @ expected)
        error = np.std(true[:, axis] - expected) / np.sqrt(expected @ expected)
        assert abs(slope - 1) < 4 * error
        assert slope > 3 * error

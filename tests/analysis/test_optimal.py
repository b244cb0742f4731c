"""The best linear estimate: against Gauss and Markov by hand, the filters, and simulated shots."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
import oracles
from ensembles import z_of_products
from jaxsde.analysis.optimal import (
    added_noise,
    best_filter,
    cumulative_information,
    efficiency,
    estimate_covariance,
    quantum_limit,
    record_model,
    starting_covariance,
)
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.response import filter_covariance
from pulse_and_ringdown import DETECTOR, PARAMS, SEQUENCE

C = jnp.array(
    [[21.0, 0, 1, -20], [0, 22.0, -20, 2], [1, -20, 25.0, 0], [-20, 2, 0, 24.0]]
)  # correlated, as after a pulse
NODES = (9, 9)
QUIET = dict(nodes=NODES)


@functools.cache
def model(c=True, detector=DETECTOR):
    return record_model(PARAMS, SEQUENCE, detector, c=C if c else None, **QUIET)


def worth(bank):
    return np.asarray(estimate_covariance(bank, PARAMS, SEQUENCE, DETECTOR, C, **QUIET))


def test_the_model_is_that_of_dense_records():
    """H and R by hand: every node's response and noise, averaged."""
    got = model()
    h, n = np.asarray(got.response), SEQUENCE.stages[1].n_samples
    assert h.shape == (n, 2, 4)
    t = (np.arange(n) + 0.5) * 1e-6
    gains = np.asarray(jaxsde.engine.detect.quadrature_gains(
        PARAMS, SEQUENCE.stages[1].controls, DETECTOR))  # fmt: skip
    rho = oracles.average_response(t, 1, PARAMS.omega_m, PARAMS.gamma_m, PARAMS.sigma_m)
    # Averaging over a sample and the weak static spring are left out by hand.
    box = np.sinc(PARAMS.omega_m * 1e-6 / (2 * np.pi))
    expected = PARAMS.g_m * box * gains[:, None] * np.real(rho)
    np.testing.assert_allclose(h[:, :, 0].T, expected, atol=0.03 * np.abs(expected).max())
    covariance = np.asarray(got.covariance).reshape(2 * n, 2 * n)
    np.testing.assert_allclose(covariance, covariance.T, atol=1e-12 * covariance.max())
    scale = np.sqrt(np.diag(covariance))
    assert np.linalg.eigvalsh(covariance / np.outer(scale, scale)).min() > 0


def test_best_filters_are_the_textbooks():
    """(H^T R^-1 H)^-1 H^T R^-1 by plain inverses, window and missing samples included."""
    got, n = model(), SEQUENCE.stages[1].n_samples
    seen = np.ones((n, 2), bool)
    seen[20:30, 1] = False
    used = seen.copy()
    used[:5], used[70:] = False, False
    index = np.flatnonzero(used)
    h = np.asarray(got.response).reshape(-1, 4)[index]
    r = np.asarray(got.covariance).reshape(2 * n, 2 * n)[np.ix_(index, index)]
    inverse = np.linalg.inv(r / r.max()) / r.max()
    v = np.linalg.inv(h.T @ inverse @ h)
    bank, found = best_filter(got, SEQUENCE, start=5, stop=70, seen=seen)
    np.testing.assert_allclose(found, v, rtol=1e-8, atol=1e-9)
    weights = np.asarray(bank.weights)[:, 40:].reshape(4, -1)
    expected = v @ h.T @ inverse
    np.testing.assert_allclose(weights[:, index], expected, atol=1e-8 * np.abs(expected).max())
    assert (
        not weights[:, np.flatnonzero(~used)].any() and not np.asarray(bank.weights)[:, :40].any()
    )


def test_its_covariance_is_what_the_adjoint_of_the_steps_gives():
    """Two roads: the covariance of whole records, and the filters' own response."""
    bank, v = best_filter(model(), SEQUENCE)
    np.testing.assert_allclose(worth(bank), v, rtol=1e-8, atol=1e-9)
    information = np.asarray(cumulative_information(model()))
    np.testing.assert_allclose(np.linalg.inv(information[-1]), v, rtol=1e-8, atol=1e-9)
    _, short = best_filter(model(), SEQUENCE, stop=33)
    np.testing.assert_allclose(np.linalg.inv(information[32]), short, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("start, stop", [(0, 20), (0, 50), (0, 80), (15, 80)])
def test_no_filter_beats_the_optimum(start, stop):
    """V_matched - V_best has no negative eigenvalue, nor has that of whitened filters."""
    _, best = best_filter(model(), SEQUENCE, start=start, stop=stop)
    matched = jaxsde.matched_filter(PARAMS, SEQUENCE, DETECTOR, start=start, stop=stop)
    whitened, _ = best_filter(model(False), SEQUENCE, start=start, stop=stop)
    rng = np.random.default_rng(0)
    other = dataclasses.replace(
        matched, weights=matched.weights * (1 + 0.3 * rng.normal(size=matched.weights.shape))
    )
    best = np.asarray(best)
    for bank in (matched, whitened, other):
        v = worth(bank)
        assert np.linalg.eigvalsh(v - best).min() > -1e-9 * v.max()
        assert (np.asarray(efficiency(jnp.asarray(best), jnp.asarray(v))) < 1).all()
    # Not by accident: the optimum is better than matched filters by what can be seen.
    assert np.trace(worth(matched)) > (1.002 if stop > 20 else 1.0) * np.trace(best)


@functools.cache
def shots():
    params = dataclasses.replace(PARAMS)
    return jaxsde.simulate(jax.random.key(5), params, SEQUENCE, DETECTOR, 20_000)


@pytest.mark.parametrize("kind", ["matched", "whitened", "best"])
def test_outputs_of_simulated_shots_have_the_covariance_of_theory(kind):
    """The 4 x 4 covariance, of 20,000 shots, by the simulated pulse: 10 z-scores."""
    if kind == "matched":
        bank = jaxsde.matched_filter(PARAMS, SEQUENCE, DETECTOR, start=10, stop=70)
    else:
        bank, _ = best_filter(model(kind == "best"), SEQUENCE, start=10, stop=70)
    z, w = jaxsde.engine.covariance.gauss_hermite(NODES)
    each = filter_covariance(
        PARAMS, SEQUENCE, DETECTOR, bank.weights, 1, z, choose_resolution(PARAMS, SEQUENCE)
    )
    expected = np.einsum("k,kij->ij", w, each)
    scores = z_of_products(jaxsde.apply_filters(shots().record, bank), expected)
    assert np.abs(scores).max() < 4, scores


def test_estimates_of_simulated_shots_err_by_the_covariance():
    """X_gls - X of 20,000 shots, X what the simulation says, made without regard to frequency."""
    params = dataclasses.replace(PARAMS, n_m0=10.0, n_s0=12.0)
    before = dataclasses.replace(SEQUENCE.stages[1], name="before", n_samples=1)
    sequence = dataclasses.replace(SEQUENCE, stages=(before, SEQUENCE.stages[1]))
    made = jaxsde.simulate(jax.random.key(6), params, sequence, DETECTOR, 20_000)
    truth = jaxsde.true_moments(params, sequence, 1)
    bank, v = best_filter(record_model(params, sequence, DETECTOR, c=truth, **QUIET), sequence)
    x = np.asarray(made.states)[:, 0, :4]
    q = np.asarray(jaxsde.apply_filters(made.record, bank))
    scores = z_of_products(q - x, v)
    assert np.abs(scores).max() < 4, scores
    # Unbiased: what is left does not go with X.  An estimate 5 % too small has 10 and more.
    for shrink, wanted in ((1.0, True), (0.95, False)):
        products = (q * shrink - x)[:, :, None] * x[:, None]
        scores = products.mean(axis=0) / products.std(axis=0) * np.sqrt(len(x))
        assert (np.abs(scores).max() < 4.2) == wanted, scores


def test_quantum_limits():
    vacuum = jnp.eye(4)
    assert float(quantum_limit(vacuum)) == pytest.approx(1.0)
    np.testing.assert_allclose(added_noise(vacuum), (0.5, 0.5))
    # Squeezed errors are as good; a smaller one of both quadratures cannot be.
    squeezed = jnp.diag(jnp.array([4.0, 0.25, 1.0, 1.0]))
    assert float(quantum_limit(squeezed)) == pytest.approx(1.0)
    assert float(quantum_limit(0.5 * vacuum)) < 1
    _, v = best_filter(model(), SEQUENCE)
    assert float(quantum_limit(v)) > 1


def test_an_ideal_receiver_comes_near_the_quantum_limit():
    """Homodyne detection of all the light, one oscillator without a bath: V -> 1, never below."""
    alone = dataclasses.replace(
        PARAMS,
        sigma_m=0.0,
        sigma_s=0.0,
        g_sm=0.0,
        gamma_m=0.0,
        B_s=0.0,
        omega_s=2.2 * PARAMS.omega_m,
    )
    stage = dataclasses.replace(SEQUENCE.stages[1], n_samples=160)
    sequence = dataclasses.replace(SEQUENCE, stages=(stage,))
    limits = []
    for eta in (0.05, 0.5, 1.0):
        receiver = jaxsde.Detector.homodyne(efficiency=eta, collection=1.0, sample_interval=1e-6)
        made = record_model(alone, sequence, receiver, nodes=(1, 1))
        _, v = best_filter(made, sequence)
        limits.append(float(quantum_limit(v)))
    assert limits[0] > limits[1] > limits[2] > 1
    # 1.14 here: back-action of the other oscillator's light and a finite window.
    assert limits[2] < 1.3


def test_starting_covariance_has_a_cavity_in_vacuum():
    p = np.asarray(starting_covariance(C))
    np.testing.assert_array_equal(p[:4, :4], C)
    np.testing.assert_array_equal(np.diag(p)[4:], 0.5)
    assert not p[:4, 4:].any()


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"^filter window: wanted 0 <= start < stop <= 80, "):
        best_filter(model(), SEQUENCE, stop=81)
    seen = np.zeros((80, 2), bool)
    seen[3, 0] = True
    with pytest.raises(ValueError, match=r"^seen: wanted at least 4 samples .*got 1$"):
        best_filter(model(), SEQUENCE, seen=seen)

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

import ensembles
import jaxsde
import oracles
from ensembles import DETECTOR, PARAMS, SEQUENCE
from jaxsde.analysis.inversion import COLUMNS, ROWS, invert
from jaxsde.engine.covariance import (
    NODES,
    gauss_hermite,
    state_at,
)
from jaxsde.engine.detect import noise_variance
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.response import filter_covariance, filter_response

STAGE = 4  # the ringdown


@functools.cache
def theory():
    """Return the filters, the truth, the mixing and the bias that estimate_moments uses."""
    bank = jaxsde.matched_filter(PARAMS, SEQUENCE, DETECTOR)
    resolution = choose_resolution(PARAMS, SEQUENCE)
    truth = np.asarray(jaxsde.true_moments(PARAMS, SEQUENCE, STAGE))
    made = invert(PARAMS, SEQUENCE, DETECTOR, bank, resolution=resolution, nodes=NODES)
    return bank, resolution, truth, np.asarray(made.mixing), np.asarray(made.bias)


@functools.cache
def estimate(n_shots=20_000):
    bank, *_ = theory()
    record = ensembles.paper().record[:n_shots]
    return jaxsde.estimate_moments(record, bank, PARAMS, SEQUENCE, DETECTOR)


def upper(c):
    return np.asarray(c)[ROWS, COLUMNS]


# --- derived quantities ---------------------------------------------------------------------------


def some_covariance(seed=0):
    root = np.random.default_rng(seed).normal(size=(4, 6))
    return root @ root.T + np.eye(4)


@pytest.mark.parametrize("seed", range(3))
def test_derived_quantities_are_those_of_the_ladder_operators(seed):
    c = some_covariance(seed)
    n_a, n_b, ab, adb = oracles.two_modes(c)
    got = {name: value for name, (value, error) in jaxsde.derived(jnp.asarray(c)).items()}
    expected = dict(
        n_m=n_a, n_s=n_b, abs_ab=abs(ab), arg_ab=np.angle(ab),
        abs_adag_b=abs(adb), arg_adag_b=np.angle(adb),
    )  # fmt: skip
    assert got == pytest.approx(expected, rel=1e-12)
    assert all(error is None for _, error in jaxsde.derived(jnp.asarray(c)).values())


def test_derived_errors_are_those_of_many_draws():
    rng = np.random.default_rng(1)
    c, root = some_covariance(), rng.normal(size=(10, 10)) * 1e-3
    got = jaxsde.derived(jnp.asarray(c), jnp.asarray(root @ root.T))
    draws = []
    for _ in range(4000):
        moved = np.zeros((4, 4))
        moved[ROWS, COLUMNS] = upper(c) + root @ rng.normal(size=10)
        moved = moved + np.triu(moved, 1).T
        n_a, n_b, ab, adb = oracles.two_modes(moved)
        draws.append([n_a, n_b, abs(ab), np.angle(ab), abs(adb), np.angle(adb)])
    errors = np.array([error for _, error in got.values()])
    # A standard deviation of 4,000 draws is known to 1.1 %.
    np.testing.assert_allclose(np.std(draws, axis=0), errors, rtol=0.05)


# --- the estimate ---------------------------------------------------------------------------------


def test_true_moments_are_the_covariance_when_the_stage_begins():
    expected = jaxsde.covariance(PARAMS, SEQUENCE)[STAGE - 1, :4, :4]
    np.testing.assert_allclose(theory()[2], expected, rtol=1e-10)
    start = jaxsde.true_moments(PARAMS, SEQUENCE, 0)
    np.testing.assert_allclose(start, 3.0 * np.eye(4), rtol=1e-12)


def test_mixing_and_bias_add_up_to_the_second_moments_of_the_outputs():
    """<q q^T> of the whole chain, by a route that knows no state at the start of the ringdown."""
    bank, resolution, truth, mixing, bias = theory()
    z, w = gauss_hermite()
    s = filter_covariance(PARAMS, SEQUENCE, DETECTOR, bank.weights, 0, jnp.asarray(z), resolution)
    expected = upper(np.einsum("k,kij->ij", w, s))
    np.testing.assert_allclose(mixing @ upper(truth) + bias, expected, rtol=1e-8)


def test_twenty_thousand_shots_give_the_truth():
    got, truth = estimate(), theory()[2]
    error = np.sqrt(np.diag(got.C_cov))
    z = (upper(got.C) - upper(truth)) / error
    assert np.abs(z).max() < 4, z
    np.testing.assert_allclose(got.C, np.asarray(got.C).T)
    values, exact = jaxsde.derived(got.C, got.C_cov), jaxsde.derived(jnp.asarray(truth))
    # Of <a^dag b>, near zero here, modulus and phase are no normal numbers.
    for name in ("n_m", "n_s", "abs_ab", "arg_ab"):
        value, error = values[name]
        assert error is not None
        assert abs(value - exact[name][0]) < 4 * error, name
        assert error < 0.05 * max(abs(value), 1.0), name  # a real test: 20,000 shots see 5 %
    assert got.n_shots == 20_000
    np.testing.assert_allclose(
        upper(got.raw), np.asarray(got.mixing) @ upper(got.C) + upper(got.bias), rtol=1e-9
    )


def test_quoted_errors_are_the_scatter_of_batches():
    """100 batches of 200 shots: the scatter is known to 7 %."""
    bank, _, _, mixing, bias = theory()
    q = np.asarray(jaxsde.apply_filters(ensembles.paper().record, bank)).reshape(100, 200, 4)
    inverse = np.linalg.inv(mixing)
    values, errors = [], []
    for batch in q:
        products = batch[:, ROWS] * batch[:, COLUMNS]
        c = np.zeros((4, 4))
        c[ROWS, COLUMNS] = inverse @ (products.mean(axis=0) - bias)
        cov = inverse @ np.cov(products, rowvar=False) @ inverse.T / 200
        named = jaxsde.derived(jnp.asarray(c + np.triu(c, 1).T), jnp.asarray(cov))
        values.append([*upper(c), *(named[k][0] for k in ("n_m", "n_s", "abs_ab", "arg_ab"))])
        errors.append(
            [*np.sqrt(np.diag(cov)), *(named[k][1] for k in ("n_m", "n_s", "abs_ab", "arg_ab"))]
        )
    # The same arithmetic as estimate_moments, which the first batch confirms.
    first = jaxsde.estimate_moments(
        ensembles.paper().record[:200], bank, PARAMS, SEQUENCE, DETECTOR
    )
    np.testing.assert_allclose(upper(first.C), values[0][:10], rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diag(first.C_cov)), errors[0][:10], rtol=1e-9)
    ratio = np.std(values, axis=0, ddof=1) / np.sqrt(np.mean(np.square(errors), axis=0))
    assert (np.abs(ratio - 1) < 0.28).all(), ratio


# --- what the inversion must contain --------------------------------------------------------------


def naive(mixing=None, bias=None):
    """Return the error of C in standard errors of 20,000 shots, for another mixing or bias."""
    _, _, truth, right_mixing, right_bias = theory()
    raw = right_mixing @ upper(truth) + right_bias
    mixing = right_mixing if mixing is None else mixing
    bias = right_bias if bias is None else bias
    got = np.linalg.solve(mixing, raw - bias)
    return (got - upper(truth)) / np.sqrt(np.diag(estimate().C_cov))


def mixing_of(h, w):
    full = np.einsum("n,nik,njl->ijkl", w, h, h)[ROWS, COLUMNS]
    return (full[:, ROWS, COLUMNS] + full[:, COLUMNS, ROWS]) * np.where(ROWS == COLUMNS, 0.5, 1.0)


@functools.cache
def responses():
    bank, resolution, *_ = theory()
    z, w = gauss_hermite()
    h, noise = filter_response(
        PARAMS, SEQUENCE, DETECTOR, bank.weights, STAGE, jnp.asarray(z), resolution
    )
    p = state_at(PARAMS, SEQUENCE, STAGE, jnp.asarray(z), resolution)
    return np.asarray(h), np.asarray(noise), np.asarray(p), np.asarray(w)


def test_the_right_inversion_is_exact():
    assert np.abs(naive()).max() < 1e-6
    h, _, _, w = responses()
    np.testing.assert_allclose(mixing_of(h[:, :, :4], w), theory()[3], rtol=1e-10, atol=1e-25)


def test_average_responses_are_not_enough():
    """The product of average responses is not the average of their products (S16)."""
    h, _, _, w = responses()
    average = np.einsum("k,kij->ij", w, h[:, :, :4])[None]
    assert np.abs(naive(mixing=mixing_of(average, np.ones(1)))).max() > 4


def test_the_states_covariance_with_the_jitter_must_be_subtracted():
    """The pulse's phases depend on the frequencies that the ringdown's do.

    The pair correlation would be off by more than the error of 20,000 shots, systematically.
    """
    h, noise, p, w = responses()
    mean = np.einsum("k,kij->ij", w, p)
    cavity = np.broadcast_to(mean, p.shape).copy()
    cavity[:, :4, :4] = 0.0
    bias = upper(np.einsum("k,kij->ij", w, h @ cavity @ h.swapaxes(1, 2) + noise))
    off = naive(bias=bias)
    assert np.abs(off).max() > 1.2
    # <Z_m Z_s>, <Z_m P_s>, <P_m Z_s>, <P_m P_s>; the occupations hardly care.
    assert np.abs(off[[2, 3, 5, 6]]).min() > 1.0 > 5 * np.abs(off[[0, 1, 4, 7, 8, 9]]).max()


def test_backaction_and_diffusion_during_the_ringdown_must_be_subtracted():
    bank, *_ = theory()
    white = np.einsum("itk,jtk->ij", bank.weights, bank.weights) * noise_variance(DETECTOR)
    errors = naive(bias=upper(white))
    assert np.abs(errors).max() > 20
    # Of the occupations: too high, by what they gain while they are looked at.
    assert errors[0] > 4 and errors[7] > 4


def test_two_positive_masses_are_correlated_by_exchange():
    """eps = +1: the spring swaps quanta, so <a^dag b>, not <a b>, tells of it."""
    hot = jaxsde.Params.kohler2018(n_m0=10.0, n_s0=0.0)
    values = {}
    for epsilon in (-1.0, 1.0):
        params = dataclasses.replace(hot, epsilon=epsilon)
        # After the pulse itself, before the ramp.
        values[epsilon] = jaxsde.derived(jaxsde.true_moments(params, SEQUENCE, 3))
    assert values[1.0]["abs_adag_b"][0] > 5 * values[1.0]["abs_ab"][0]
    assert values[-1.0]["abs_ab"][0] > 5 * values[-1.0]["abs_adag_b"][0]
    assert values[-1.0]["n_m"][0] > 3 * values[1.0]["n_m"][0]


def test_estimate_moments_refuses():
    bank = theory()[0]
    record = ensembles.paper().record
    with pytest.raises(ValueError, match=r"^record: wanted at least 2 shots for an error, got 1$"):
        jaxsde.estimate_moments(record[:1], bank, PARAMS, SEQUENCE, DETECTOR)
    parts = jaxsde.matched_filter(PARAMS, SEQUENCE, DETECTOR, windows=2)
    with pytest.raises(ValueError, match=r"^bank: wanted one window of 4 filters, got 8 filters"):
        jaxsde.estimate_moments(record[:5], parts, PARAMS, SEQUENCE, DETECTOR)
    with pytest.raises(ValueError, match=r"^record: wanted \(shots, 1280, 2\)"):
        jaxsde.estimate_moments(record[:5, :1000], bank, PARAMS, SEQUENCE, DETECTOR)

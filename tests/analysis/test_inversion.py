"""From second moments of outputs to C: exact, the paper's way, and with shot noise as measured."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
import oracles
from jaxsde.analysis.inversion import (
    COLUMNS,
    ROWS,
    invert,
    mixing_matrix,
    noise_budget,
    sampling_covariance,
    shot_moments,
    symmetric,
)
from jaxsde.analysis.moments import moments_of_outputs
from jaxsde.engine.covariance import gauss_hermite
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.response import average_filter_covariance, filter_response
from pulse_and_ringdown import DETECTOR, PARAMS, SEQUENCE

NODES = (9, 9)
RESOLUTION = choose_resolution(PARAMS, SEQUENCE)
BANK = jaxsde.matched_filter(PARAMS, SEQUENCE, DETECTOR, start=5, stop=75)
ARGS = (PARAMS, SEQUENCE, DETECTOR, BANK)


@functools.cache
def theory(responses="exact"):
    return invert(*ARGS, responses=responses, resolution=RESOLUTION, nodes=NODES)


@functools.cache
def truth():
    c = jaxsde.true_moments(PARAMS, SEQUENCE, 1, resolution=RESOLUTION, nodes=NODES)
    return np.asarray(c)[ROWS, COLUMNS]


@functools.cache
def expected_raw():
    """Return <q q^T> of the whole sequence, by a road that knows no state in between."""
    q = average_filter_covariance(PARAMS, SEQUENCE, DETECTOR, BANK.weights, 0, NODES, RESOLUTION)
    return np.asarray(q)[ROWS, COLUMNS]


@functools.cache
def outputs():
    shots = jaxsde.simulate(jax.random.key(4), PARAMS, SEQUENCE, DETECTOR, 20_000)
    return jaxsde.apply_filters(shots.record, BANK)


def test_the_exact_inversion_has_no_bias():
    got = theory()
    c = np.linalg.solve(got.mixing, expected_raw() - got.bias)
    np.testing.assert_allclose(c, truth(), rtol=1e-7, atol=1e-7)


def test_average_responses_are_biased_by_jitter_alone():
    """The paper's products of average responses: off by jitter, and right without it."""
    got = theory("average")
    c = np.linalg.solve(got.mixing, expected_raw() - got.bias)
    off = c - truth()
    # Some quanta here, at a jitter of four times the paper's and more.
    assert np.abs(off).max() > 1.0
    error = np.asarray(moments_of_outputs(outputs(), theory()).C_cov)
    assert np.abs(off / np.sqrt(np.diag(error))).max() > 5
    still = dataclasses.replace(PARAMS, sigma_m=0.0, sigma_s=0.0)
    bank = jaxsde.matched_filter(still, SEQUENCE, DETECTOR)
    exact, average = (
        invert(still, SEQUENCE, DETECTOR, bank, responses=r, nodes=(1, 1), resolution=RESOLUTION)
        for r in ("exact", "average")
    )
    np.testing.assert_allclose(exact.mixing, average.mixing, rtol=1e-9, atol=1e-40)
    np.testing.assert_allclose(
        np.linalg.solve(exact.mixing, exact.bias - average.bias), 0.0, atol=0.02
    )


def test_average_responses_are_the_products_of_s16():
    """mixing = E[H_ik] E[H_jl] with E over a dense grid of frequencies, H by closed forms."""
    n = SEQUENCE.stages[1].n_samples
    t = (np.arange(n) + 0.5) * 1e-6
    inside = (np.arange(n) >= 5) & (np.arange(n) < 75)
    m = oracles.average_response(t, 1, PARAMS.omega_m, PARAMS.gamma_m, PARAMS.sigma_m)
    s = oracles.average_response(t, -1, PARAMS.omega_s, 0.0, PARAMS.sigma_s)
    shapes = np.stack([m.real, -m.imag, s.real, -s.imag])
    g = np.array([PARAMS.g_m] * 2 + [PARAMS.g_s] * 2)
    response = (shapes * inside * 1e-6) @ shapes.T * g[None]
    # Averages over a sample, the static spring and 1/kappa are left out by hand: some 6 %.
    np.testing.assert_allclose(
        theory("average").response, response, atol=0.08 * np.abs(response).max()
    )
    h = np.asarray(theory("average").response)
    direct = (h @ np.asarray(symmetric(jnp.asarray(truth()))) @ h.T)[ROWS, COLUMNS]
    np.testing.assert_allclose(theory("average").mixing @ truth(), direct, rtol=1e-9)


def test_mixing_is_the_average_of_products():
    rng = np.random.default_rng(1)
    h, w = rng.normal(size=(3, 4, 4)), np.array([0.2, 0.5, 0.3])
    root = rng.normal(size=(4, 5))
    c = root @ root.T
    expected = np.einsum("n,nik,kl,njl->ij", w, h, c, h)[ROWS, COLUMNS]
    got = mixing_matrix(jnp.asarray(h), jnp.asarray(w)) @ c[ROWS, COLUMNS]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_the_budget_is_the_noise_and_each_part_goes_with_its_cause():
    budget = noise_budget(*ARGS, resolution=RESOLUTION, nodes=NODES)
    z, w = gauss_hermite(NODES)
    _, noise = filter_response(PARAMS, SEQUENCE, DETECTOR, BANK.weights, 1, z, RESOLUTION)
    whole = np.einsum("k,kij->ij", w, noise)
    np.testing.assert_allclose(sum(budget.values()), whole, rtol=1e-9, atol=1e-24)
    for name, part in budget.items():
        part = np.asarray(part)
        assert np.linalg.eigvalsh(part).min() > -1e-3 * np.abs(whole).max(), name
    np.testing.assert_allclose(budget["shot"][ROWS, COLUMNS], theory().shot, rtol=1e-12)
    # B_s reaches motion by the static spring alone; the bath reaches the spin likewise.
    motion, spin = (
        np.trace(np.asarray(budget["diffusion"])[s, s]) for s in (slice(2), slice(2, 4))
    )
    assert spin > 5 * motion
    motion, spin = (np.trace(np.asarray(budget["thermal"])[s, s]) for s in (slice(2), slice(2, 4)))
    assert motion > 5 * spin
    # Back-action is common: its correlation of motion and spin cannot be left out.
    light = np.asarray(budget["backaction"])
    scale = np.sqrt(np.diag(light))
    assert np.abs((light / np.outer(scale, scale))[:2, 2:]).max() > 0.1


def test_shot_noise_as_an_empty_cavity_shows_it():
    """Records of an empty cavity take theory's place: same C within its error, which grows."""
    rng = np.random.default_rng(2)
    sigma = float(np.sqrt(jaxsde.engine.detect.noise_variance(DETECTOR)))
    empty = sigma * rng.normal(size=(4000, SEQUENCE.n_samples, 2))
    found = jaxsde.apply_filters(jnp.asarray(empty), BANK)
    shot = np.asarray(found).T @ np.asarray(found) / len(empty)
    expected = np.asarray(shot_moments(BANK, DETECTOR))
    spread = np.sqrt(2 / len(empty)) * np.abs(expected).max()
    assert np.abs(shot[ROWS, COLUMNS] - expected).max() < 4.5 * spread
    plain = moments_of_outputs(outputs()[:400], theory())
    measured = moments_of_outputs(outputs()[:400], theory(), shot_noise=found)
    change = np.asarray(measured.C - plain.C)[ROWS, COLUMNS]
    more = np.diag(measured.C_cov - plain.C_cov)
    assert (more > 0).all()
    assert np.abs(change / np.sqrt(more)).max() < 4
    # A receiver twice as noisy: theory with the wrong S_SN is off, its own empty cavity is not.
    wrong = dataclasses.replace(DETECTOR, S_SN=0.5 * DETECTOR.S_SN)
    assumed = dataclasses.replace(theory(), **{
        "bias": theory().bias - theory().shot + shot_moments(BANK, wrong),
        "shot": shot_moments(BANK, wrong),
    })  # fmt: skip
    again = moments_of_outputs(outputs()[:400], assumed, shot_noise=found)
    np.testing.assert_allclose(again.C, measured.C, rtol=1e-9, atol=1e-9)
    off = np.asarray(moments_of_outputs(outputs()[:400], assumed).C - plain.C)
    assert off[0, 0] > 1.0


def test_products_of_one_shot_scatter_as_isserlis_says():
    """20,000 shots with jitter: the covariance of ten products, its diagonal to 3 % (4 sigma)."""
    expected = np.asarray(sampling_covariance(*ARGS, resolution=RESOLUTION, nodes=NODES))
    q = np.asarray(outputs())
    products = q[:, ROWS] * q[:, COLUMNS]
    got = np.cov(products, rowvar=False)
    scale = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(
        got / np.outer(scale, scale), expected / np.outer(scale, scale), atol=0.12
    )


def test_estimates_of_shots_are_those_of_their_outputs():
    shots = jaxsde.simulate(jax.random.key(4), PARAMS, SEQUENCE, DETECTOR, 50)
    for responses in ("exact", "average"):
        one = jaxsde.estimate_moments(
            shots.record, BANK, PARAMS, SEQUENCE, DETECTOR, responses=responses,
            resolution=RESOLUTION, nodes=NODES,
        )  # fmt: skip
        two = moments_of_outputs(outputs()[:50], theory(responses))
        np.testing.assert_allclose(one.C, two.C, rtol=1e-9)
        np.testing.assert_allclose(one.C_cov, two.C_cov, rtol=1e-9)


def test_invert_refuses():
    with pytest.raises(ValueError, match=r"^responses: wanted one of exact, average, got 'mean'$"):
        invert(*ARGS, responses="mean")
    with pytest.raises(ValueError, match=r"^shot_noise: wanted at least 2 shots"):
        moments_of_outputs(outputs()[:5], theory(), shot_noise=outputs()[:1])

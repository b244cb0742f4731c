"""The beat: from C at the ringdown's start to <D^2>(t)."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import ensembles
from ensembles import displacement_covariance
from jaxsde import true_moments
from jaxsde.analysis.moments import exchange_correlation, occupations, pair_correlation
from jaxsde.analysis.reconstruct import beat, beat_map, maximally_correlated
from jaxsde.engine.resolution import choose_resolution

# Without jitter C and the response are independent, and the map is exact.
STILL = dataclasses.replace(ensembles.PARAMS, sigma_m=0.0, sigma_s=0.0)


def test_beat_of_the_true_state_is_the_exact_displacement():
    sequence = ensembles.SEQUENCE
    evolution = beat_map(STILL, sequence, "ringdown")
    c = true_moments(STILL, sequence, 4)
    mean, stderr = beat(evolution, c, jnp.eye(10))
    _, square = displacement_covariance(STILL, sequence, choose_resolution(STILL, sequence))
    span = sequence.span("ringdown")
    # The first microsecond still holds the cavity's correlation with the motion, not part of C.
    np.testing.assert_allclose(mean[2:], np.asarray(square)[span][2:], rtol=1e-4)
    assert np.all(np.asarray(stderr) > 0)
    np.testing.assert_allclose(evolution.time, sequence.time[span] + 0.25e-6)


def test_error_is_linear_in_the_moments():
    evolution = beat_map(STILL, ensembles.SEQUENCE, "ringdown")
    c = jnp.diag(jnp.array([3.0, 3.0, 5.0, 5.0]))
    one, two = (beat(evolution, c, f * jnp.eye(10))[1] for f in (1.0, 4.0))
    np.testing.assert_allclose(two, 2 * np.asarray(one))


def test_maximally_correlated_keeps_occupations_and_phase():
    c = true_moments(STILL, ensembles.SEQUENCE, 4)
    extreme = maximally_correlated(c, -1.0)
    np.testing.assert_allclose(occupations(extreme), occupations(c), rtol=1e-12)
    np.testing.assert_allclose(
        jnp.angle(pair_correlation(extreme)), jnp.angle(pair_correlation(c)), rtol=1e-9
    )
    n_m, n_s = (float(n) for n in occupations(c))
    bound = np.sqrt(min(n_m * (n_s + 1), n_s * (n_m + 1)))
    assert abs(complex(pair_correlation(extreme))) == pytest.approx(bound)
    # At the bound the state touches the uncertainty relation: C + i W has a zero eigenvalue.
    w = np.kron(np.eye(2), np.array([[0, 1], [-1, 0]]))
    assert np.linalg.eigvalsh(np.asarray(extreme) + 1j * w)[0] == pytest.approx(0, abs=1e-9)


def test_a_positive_mass_is_bounded_by_cauchy_and_schwarz():
    c = jnp.array(
        [[5.0, 0.0, 1.0, 0.4], [0.0, 5.0, -0.4, 1.0], [1.0, -0.4, 7.0, 0.0], [0.4, 1.0, 0.0, 7.0]]
    )
    extreme = maximally_correlated(c, 1.0)
    n_m, n_s = (float(n) for n in occupations(extreme))
    assert (n_m, n_s) == pytest.approx((2.0, 3.0))
    found = complex(exchange_correlation(extreme))
    assert abs(found) == pytest.approx(np.sqrt(n_m * n_s))
    assert np.angle(found) == pytest.approx(np.angle(complex(exchange_correlation(c))))
    assert abs(complex(pair_correlation(extreme))) == pytest.approx(0.0)


def test_a_ramp_has_no_free_beat():
    with pytest.raises(
        ValueError, match=r"stage 'ramp_down': wanted constant controls for free evolution"
    ):
        beat_map(STILL, ensembles.SEQUENCE, "ramp_down")

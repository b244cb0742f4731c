import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import light
import oracles
from jaxsde.engine import response
from jaxsde.engine.records import record_covariance
from jaxsde.engine.resolution import choose_resolution
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Sequence

DT = 0.5e-6
STILL, SEQUENCE = light.STILL, light.MIXED
RECEIVERS = light.receivers(efficiency=0.8, collection=1.0)
SINGLE = jnp.zeros((2, 1))


def random_weights(detector, sequence, first):
    """Return three filters that are blind before sample `first`, of outputs near 1."""
    rng = np.random.default_rng(0)
    shape = (3, sequence.n_samples, len(detector.quadratures))
    weights = rng.normal(size=shape) / np.sqrt(detector.S_SN / DT)
    weights[:, :first] = 0.0
    return weights


@pytest.mark.parametrize("name", RECEIVERS)
def test_filter_covariance_is_that_of_the_dense_record(name):
    detector, resolution = RECEIVERS[name], choose_resolution(STILL, SEQUENCE)
    record = light.dense_record(STILL, SEQUENCE, detector)
    record = record.reshape(record.shape[0] * record.shape[1], -1)
    for first_stage, first in ((0, 0), (2, 5), (4, 12)):
        weights = random_weights(detector, SEQUENCE, first)
        expected = oracles.filter_moments(weights.reshape(3, -1), record)
        got = response.filter_covariance(
            STILL, SEQUENCE, detector, jnp.asarray(weights), first_stage, SINGLE, resolution
        )
        np.testing.assert_allclose(got[0], expected, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("name", RECEIVERS)
def test_filter_response_is_state_and_later_noise(name):
    """From stage 2 on: q = H x + noise, with H from the dense maps by hand.

    The noise holds what the light brought to state and record alike.
    """
    detector = RECEIVERS[name]
    maps = light.dense_maps(STILL, SEQUENCE, detector)
    weights = random_weights(detector, SEQUENCE, 5)
    h, noise = response.filter_response(
        STILL, SEQUENCE, detector, jnp.asarray(weights), 2, SINGLE,
        choose_resolution(STILL, SEQUENCE),
    )  # fmt: skip
    reach, expected = np.eye(6), np.zeros((3, 6))
    for (a, c, _, _), weight in zip(maps[5:], np.moveaxis(weights, 1, 0)[5:], strict=True):
        expected += weight @ c @ reach
        reach = a @ reach
    np.testing.assert_allclose(h[0], expected, atol=1e-7 * np.abs(expected).max())
    tiny = oracles.sequence_record_covariance(maps[5:], 1e-30 * np.eye(6))
    only_noise = oracles.filter_moments(weights[:, 5:].reshape(3, -1), tiny)
    np.testing.assert_allclose(noise[0], only_noise, atol=1e-7 * np.abs(only_noise).max())


@pytest.mark.parametrize("name", ["heterodyne", "homodyne"])
def test_noise_that_state_and_record_share_counts(name):
    """Without it, as if another vacuum were reflected, filters are off by 0.3 %."""
    detector = RECEIVERS[name]
    maps = light.dense_maps(STILL, SEQUENCE, detector)
    apart = [
        (a, c, np.hstack([noise_x, 0 * noise_x]), np.hstack([0 * noise_y, noise_y]))
        for a, c, noise_x, noise_y in maps
    ]
    weights = random_weights(detector, SEQUENCE, 5).reshape(3, -1)
    right, wrong = (
        oracles.filter_moments(weights, oracles.sequence_record_covariance(m, light.start(STILL)))
        for m in (maps, apart)
    )
    assert np.abs(right - wrong).max() > 2e-3 * np.abs(right).max()


@pytest.mark.parametrize("name", ["adiabatic heterodyne", "heterodyne", "homodyne"])
def test_filters_are_averaged_over_jitter(name):
    """Two nodes in each frequency, at +-sigma, against four dense records."""
    detector = RECEIVERS[name]
    params = dataclasses.replace(STILL, sigma_m=TWO_PI * 20e3, sigma_s=TWO_PI * 8e3)
    controls = Controls(nbar=10.0, delta_pc=TWO_PI * -1.4e6)
    sequence = Sequence(
        stages=(light.stage(controls, 2), light.stage(controls, 6)), sample_interval=DT
    )
    resolution = choose_resolution(params, sequence)
    weights = random_weights(detector, sequence, 2)
    got = response.average_filter_covariance(
        params, sequence, detector, jnp.asarray(weights), 1, (2, 2), resolution
    )
    expected = 0.0
    for z_m, z_s in itertools.product((-1, 1), repeat=2):
        moved = dataclasses.replace(
            params,
            omega_m=params.omega_m + params.sigma_m * z_m,
            omega_s=params.omega_s + params.sigma_s * z_s,
        )
        record = light.dense_record(moved, sequence, detector)
        flat = record.reshape(weights[0].size, -1)
        expected = expected + oracles.filter_moments(weights.reshape(3, -1), flat) / 4
    np.testing.assert_allclose(got, expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["heterodyne", "homodyne"])
def test_filters_backwards_are_records_forwards(name):
    """The adjoint of the Steps and the record's covariance are two roads to one number."""
    detector = RECEIVERS[name]
    args = light.NARROW, light.SWITCHED, detector
    resolution = choose_resolution(*args[:2])
    record = np.asarray(record_covariance(*args, resolution, nodes=(1, 1)))
    weights = random_weights(detector, light.SWITCHED, 0)
    expected = oracles.filter_moments(weights.reshape(3, -1), record.reshape(weights[0].size, -1))
    got = response.filter_covariance(*args, jnp.asarray(weights), 0, SINGLE, resolution)
    np.testing.assert_allclose(got[0], expected, atol=1e-11 * np.abs(expected).max())

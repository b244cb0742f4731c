"""Demodulation against the field that made the trace, and against a slow mixer."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsde.analysis.demodulate import demodulate, quadrature_weights

RAW, CARRIER, DECIMATION = 20e-9, 10e6, 25  # 50 MS/s, 5 cycles in 0.5 us


def trace(i, q, carrier=CARRIER, phase=0.3):
    """Return the trace of quadratures that stand still within each interval."""
    t = (np.arange(i.shape[-1] * DECIMATION) + 0.5) * RAW
    a = np.repeat(i - 1j * q, DECIMATION, axis=-1)
    return (a * np.exp(-1j * (2 * np.pi * carrier * t + phase))).real


@pytest.mark.parametrize("carrier", [CARRIER, -CARRIER])
def test_quadratures_come_back(carrier):
    rng = np.random.default_rng(1)
    i, q = rng.normal(size=(2, 3, 40))
    got = demodulate(jnp.asarray(trace(i, q, carrier)), carrier, RAW, DECIMATION, 0.3)
    np.testing.assert_allclose(got, np.stack([i, q], axis=-1), atol=1e-10)
    # The wrong side of the local oscillator turns the sense of the quadratures.
    other = demodulate(jnp.asarray(trace(i, q, carrier)), -carrier, RAW, DECIMATION, -0.3)
    np.testing.assert_allclose(other, np.stack([i, -q], axis=-1), atol=1e-10)


def test_it_is_the_mean_of_the_mixed_signal():
    """A slow mixer over a signal that moves, with a tail that fills no interval."""
    rng = np.random.default_rng(2)
    y = rng.normal(size=DECIMATION * 8 + 7)
    t = (np.arange(y.size) + 0.5) * RAW
    theta = 2 * np.pi * CARRIER * t + 1.0
    mixed = np.stack([2 * y * np.cos(theta), -2 * y * np.sin(theta)], axis=1)
    slow = [mixed[k * DECIMATION : (k + 1) * DECIMATION].mean(axis=0) for k in range(8)]
    got = demodulate(jnp.asarray(y), CARRIER, RAW, DECIMATION, 1.0)
    np.testing.assert_allclose(got, slow, atol=1e-9)


def test_white_noise_doubles_its_density_in_each_quadrature():
    """Var = 2 S/T exactly, by the weights: S = raw_interval for unit variance."""
    weights = quadrature_weights(CARRIER, RAW, DECIMATION, 0.7)
    covariance = weights.T @ weights
    np.testing.assert_allclose(covariance, np.eye(2) * 2 * RAW / (DECIMATION * RAW), atol=1e-12)


@pytest.mark.parametrize(
    "args, message",
    [
        ((26e6, RAW, 25), r"^carrier: wanted a frequency below 2.5e\+07 Hz"),
        ((0.0, RAW, 25), "^carrier: wanted"),
        ((CARRIER, RAW, 24), r"^decimation: wanted intervals of whole cycles .* got 4.8 cycles"),
        ((CARRIER, RAW, 0), "^decimation: wanted at least one"),
        ((CARRIER, 0.0, 25), "^raw_interval: wanted a positive time in s, got 0.0"),
    ],
)
def test_refusals(args, message):
    with pytest.raises(ValueError, match=message):
        quadrature_weights(*args)


def test_a_trace_shorter_than_one_interval_is_refused():
    with pytest.raises(ValueError, match=r"^raw: wanted at least the 25 samples .* got 24"):
        demodulate(jnp.zeros(24), CARRIER, RAW, DECIMATION)

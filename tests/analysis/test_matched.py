import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import oracles
from jaxsde.analysis.matched import apply_filters, average_response, matched_filter
from jaxsde.engine.detect import Detector, quadrature_gains
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Sequence, Stage

PARAMS = Params.kohler2018(sigma_m=TWO_PI * 3e3, sigma_s=TWO_PI * 1e3)
DETECTOR = Detector()
DT = 0.5e-6
DETUNED = Controls(nbar=4.0, delta_pc=TWO_PI * 0.7e6)
SEQUENCE = Sequence(
    stages=(
        Stage(name="ramp", n_samples=5, controls=Controls(nbar=4.0, omega_m=(7e5, 6e5))),
        Stage(name="ringdown", n_samples=80, controls=DETUNED),
    ),
    sample_interval=DT,
)


@pytest.mark.parametrize("epsilon", [-1.0, 1.0])
@pytest.mark.parametrize("sigma", [0.0, 2e4])
def test_average_response_is_that_of_many_frequencies(epsilon, sigma):
    t = np.linspace(0, 100e-6, 40)
    re, im = average_response(6e5, epsilon, 1e4, sigma, jnp.asarray(t))
    expected = oracles.average_response(t, epsilon, 6e5, 1e4, sigma)
    np.testing.assert_allclose(np.asarray(re) + 1j * np.asarray(im), expected, atol=1e-12)


@pytest.mark.parametrize("epsilon", [-1.0, 1.0])
def test_filters_are_the_responses_of_s14_to_s16(epsilon):
    params = dataclasses.replace(PARAMS, epsilon=epsilon)
    bank = matched_filter(params, SEQUENCE, DETECTOR)
    assert bank.names == ("Z_m", "P_m", "Z_s", "P_s")
    assert bank.stage == 1
    assert bank.weights.shape == (4, 85, 2)
    np.testing.assert_array_equal(bank.weights[:, :5], 0)
    t = (np.arange(80) + 0.5) * DT
    m = oracles.average_response(t, 1.0, params.omega_m, params.gamma_m, params.sigma_m)
    s = oracles.average_response(t, epsilon, params.omega_s, 0.0, params.sigma_s)
    # m(t) = (Re rho_m, -Im rho_m, Re rho_s, -Im rho_s): the response of Z to P is -Im rho.
    shapes = np.stack([np.real(m), -np.imag(m), np.real(s), -np.imag(s)])
    gains = np.asarray(quadrature_gains(params, DETUNED, DETECTOR))
    expected = shapes[:, :, None] * gains / (gains @ gains) * DT
    np.testing.assert_allclose(bank.weights[:, 5:], expected, atol=1e-12 * np.abs(expected).max())


def test_a_record_of_the_state_itself_is_the_integral_of_its_response():
    """q of a free, noiseless record is the overlap of its D with m(t)."""
    still = dataclasses.replace(PARAMS, sigma_m=0.0, sigma_s=0.0, gamma_m=0.0)
    bank = matched_filter(still, SEQUENCE, DETECTOR)
    gains = np.asarray(quadrature_gains(still, DETUNED, DETECTOR))
    t = (np.arange(80) + 0.5) * DT
    d = 3.0 * np.cos(still.omega_m * t) + 2.0 * np.sin(-still.omega_s * t)
    record = np.zeros((1, 85, 2))
    record[0, 5:] = d[:, None] * gains
    q = np.asarray(apply_filters(jnp.asarray(record), bank))[0]
    shapes = [np.cos(still.omega_m * t), np.sin(still.omega_m * t)]
    shapes += [np.cos(still.omega_s * t), np.sin(-still.omega_s * t)]
    np.testing.assert_allclose(q, [(d * s).sum() * DT for s in shapes], rtol=1e-10, atol=1e-15)


def test_one_quadrature_serves_as_both_do():
    """A signal gives the same q however it is recorded: it is projected on its direction."""
    d = np.random.default_rng(0).normal(size=(3, 85))
    results = []
    for quadratures in (("I", "Q"), ("Q",), ("I",)):
        detector = dataclasses.replace(DETECTOR, quadratures=quadratures)
        gains = np.asarray(quadrature_gains(PARAMS, DETUNED, detector))
        record = jnp.asarray(d[..., None] * gains)
        results.append(
            np.asarray(apply_filters(record, matched_filter(PARAMS, SEQUENCE, detector)))
        )
    np.testing.assert_allclose(results[1], results[0], rtol=1e-10)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-10)


def test_windows_divide_the_span():
    whole = matched_filter(PARAMS, SEQUENCE, DETECTOR, start=7, stop=70)
    parts = matched_filter(PARAMS, SEQUENCE, DETECTOR, start=7, stop=70, windows=3)
    assert parts.names[:5] == ("Z_m[0]", "P_m[0]", "Z_s[0]", "P_s[0]", "Z_m[1]")
    each = np.asarray(parts.weights).reshape(3, 4, 85, 2)
    np.testing.assert_allclose(each.sum(axis=0), whole.weights, rtol=1e-14)
    used = np.abs(each).sum(axis=(1, 3)) > 0
    np.testing.assert_array_equal(used.sum(axis=0), np.r_[[0] * 12, [1] * 63, [0] * 10])
    np.testing.assert_array_equal(used.sum(axis=1), [21, 21, 21])


def test_float32_records_are_filtered_in_the_filters_precision():
    bank = matched_filter(PARAMS, SEQUENCE, DETECTOR)
    record = np.random.default_rng(0).normal(size=(2, 85, 2)).astype(np.float32)
    got = apply_filters(jnp.asarray(record), bank)
    assert got.dtype == jnp.float64
    expected = np.einsum("ntk,ptk->np", record.astype(float), np.asarray(bank.weights))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(stage="pulse"), r"^stage 'pulse': wanted the name of one stage"),
        (
            dict(stage="ramp"),
            r"^stage 'ramp': wanted constant controls for matched filters, got a ramp",
        ),
        (dict(stop=81), r"^filter window: .*<= 80, .*got start 0, stop 81; shorten the window$"),
        (dict(start=-1), r"^filter window: .*got start -1"),
        (dict(start=50, stop=50), r"^filter window: .*got start 50, stop 50"),
        (dict(windows=0), r"^windows: wanted from 1 to 20 for 80 samples, got 0$"),
        (dict(windows=21), r"^windows: wanted from 1 to 20 for 80 samples, got 21$"),
    ],
)
def test_matched_filter_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        matched_filter(PARAMS, SEQUENCE, DETECTOR, **options)


def test_matched_filter_refuses_a_dark_stage():
    dark = dataclasses.replace(SEQUENCE.stages[1], controls=Controls(nbar=0.0))
    sequence = dataclasses.replace(SEQUENCE, stages=(dark,))
    with pytest.raises(ValueError, match=r"^stage 'ringdown': nbar: "):
        matched_filter(PARAMS, sequence, DETECTOR)


@pytest.mark.parametrize("shape", [(3, 84, 2), (3, 85, 1), (85, 2)])
def test_a_record_of_the_wrong_length_is_refused(shape):
    bank = matched_filter(PARAMS, SEQUENCE, DETECTOR)
    # Past the tests' import hook, which a user's session does not have.
    with pytest.raises(
        ValueError, match=r"^record: wanted \(shots, 85, 2\) for these filters, got"
    ):
        apply_filters.__wrapped__(jnp.zeros(shape), bank)

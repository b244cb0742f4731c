"""Decimation is exact: n intervals in one Step have the law of taking them one by one."""

import jax.numpy as jnp
import numpy as np
import pytest

import oracles
from jaxsde.engine.detect import Detector, independent_noise
from jaxsde.engine.plan import segment_readout, segments, transitions
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.step import compose_steps, decimate, make_step
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Sequence, Stage

PARAMS = Params.kohler2018(sigma_m=0.0, sigma_s=0.0)
DT = 0.25e-6
PULSE = Controls(nbar=10.0, delta_pc=TWO_PI * -2.0e6, omega_m=TWO_PI * 125.5e3)
RECEIVERS = {
    "adiabatic": Detector(),
    "input_output": Detector(model="input_output", efficiency=0.9, collection=1.0),
    "homodyne": Detector.homodyne(1.0, efficiency=0.9, collection=1.0),
}


def step_of(receiver, dt, controls=PULSE):
    detector = Detector(
        **{**{f: getattr(receiver, f) for f in vars(receiver)}, "sample_interval": dt}
    )
    stage = Stage(name="s", n_samples=1, controls=controls)
    sequence = Sequence(stages=(stage,), sample_interval=dt)
    resolution = choose_resolution(PARAMS, sequence)
    (segment,) = segments(PARAMS, sequence, resolution)
    made = transitions(PARAMS, segment, jnp.zeros((1, 2)), dt, resolution, detector.model)
    readout = segment_readout(PARAMS, segment, detector)
    noise = independent_noise(detector)
    return make_step(made.A[0, :, :6], made.Q[0], readout, noise, dt, jnp.dtype(jnp.float64))


def law(step):
    """Return (response, noise covariance) of state and record together."""
    roots = np.concatenate([step.L, step.N])
    return np.concatenate([step.A, step.C]), roots @ roots.T


def assert_same_law(one, two, tolerance):
    (a1, q1), (a2, q2) = law(one), law(two)
    s = np.sqrt(np.diag(q2))
    s = np.where(s > 0, s, 1.0)
    assert np.abs((q1 - q2) / np.outer(s, s)).max() < tolerance
    scale = np.concatenate([np.ones(6), s[6:]])[:, None]
    assert np.abs((a1 - a2) / scale).max() < tolerance


@pytest.mark.parametrize("name", RECEIVERS)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
def test_a_decimated_step_is_that_of_the_longer_interval(name, count):
    fine, whole = step_of(RECEIVERS[name], DT), step_of(RECEIVERS[name], DT * count)
    assert_same_law(decimate(fine, count), whole, 1e-10)
    if count > 1:  # and not that of another
        with pytest.raises(AssertionError):
            assert_same_law(decimate(fine, count + 1), whole, 1e-4)


def test_the_record_is_the_mean_of_neighbours():
    """Three decimated samples against the dense record of six, averaged in pairs."""
    step, n = step_of(RECEIVERS["input_output"], DT), 6
    p0 = np.diag([3.0, 3.0, 3.0, 3.0, 0.5, 0.5])
    parts = tuple(np.asarray(v) for v in (step.A, step.C, step.L, step.N))
    record = oracles.record_covariance(*parts, p0, n)
    mean = np.kron(np.kron(np.eye(n // 2), [[0.5, 0.5]]), np.eye(2))
    expected = mean @ record @ mean.T
    slow = decimate(step, 2)
    parts = tuple(np.asarray(v) for v in (slow.A, slow.C, slow.L, slow.N))
    got = oracles.record_covariance(*parts, p0, n // 2)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


def test_composed_steps_add_their_records_and_carry_their_offsets():
    one, two = (step_of(RECEIVERS["adiabatic"], DT, c) for c in (PULSE, Controls(nbar=4.0)))
    rng = np.random.default_rng(0)
    shifted = [
        s.__class__(
            A=s.A, b=jnp.asarray(rng.normal(size=6)), L=s.L, C=s.C,
            d=jnp.asarray(rng.normal(size=2)), N=s.N,
        )
        for s in (one, two)
    ]  # fmt: skip
    both = compose_steps(*shifted)
    x = rng.normal(size=6)
    first, second = shifted
    middle = np.asarray(first.A) @ x + first.b
    np.testing.assert_allclose(
        np.asarray(both.A) @ x + both.b, np.asarray(second.A) @ middle + second.b, rtol=1e-12
    )
    expected = np.asarray(first.C) @ x + first.d + np.asarray(second.C) @ middle + second.d
    np.testing.assert_allclose(np.asarray(both.C) @ x + both.d, expected, rtol=1e-12)


@pytest.mark.parametrize("count", [0, -1])
def test_refuses(count):
    with pytest.raises(ValueError, match=r"^count: wanted an integer of at least 1, got "):
        decimate(step_of(RECEIVERS["adiabatic"], DT), count)

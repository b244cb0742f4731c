"""One sample's map against quadrature in fifty digits, and against itself."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles_quantum as quantum
from jaxsde.engine import propagate
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.step import Transition
from jaxsde.physics.model import SIGNALS, diffusion, drift, signals
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Sequence, Stage
from jaxsde.physics.theory import instability_gain, normal_modes

PARAMS = Params.kohler2018()
KAPPA_H = (0.01, 1.0, 10.0, 100.0, 1000.0)
DELTAS = (0.0, 1.4e6, -1.4e6, 2.0e6, -2.0e6)
exact = jax.jit(propagate.exact, static_argnums=3)


def controls_at(delta):
    return Controls(nbar=10.0, delta_pc=TWO_PI * delta, omega_m=TWO_PI * 125.5e3)


def generator(controls, model):
    rows, cross, own = signals(PARAMS, model)
    m = propagate.augment(drift(PARAMS, controls), rows)
    return m, propagate.augment_diffusion(diffusion(PARAMS, controls), cross, own)


def mapped(controls, model, h):
    """Return the engine's map over h, with the doublings that it would choose itself."""
    stage = Stage(name="s", n_samples=1, controls=controls)
    resolution = choose_resolution(PARAMS, Sequence(stages=(stage,), sample_interval=h))
    return exact(*generator(controls, model), h, resolution.doublings)


def deviations(q):
    return np.sqrt(np.diag(q))


@pytest.mark.parametrize("model", SIGNALS)
@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("kappa_h", KAPPA_H)
def test_map_and_covariance_are_those_of_fifty_digits(kappa_h, delta, model):
    controls, h = controls_at(delta), kappa_h / PARAMS.kappa
    m, d = (np.asarray(v) for v in generator(controls, model))
    a, q = quantum.mp_interval_map(m, d, h)
    got = mapped(controls, model, h)
    s = deviations(q)
    assert (s > 0).all() or kappa_h < 1  # P_s has no noise of its own
    unit = np.where(s > 0, s, 1.0)
    assert np.abs((got.Q - q) / np.outer(unit, unit)).max() < 1e-10
    assert np.linalg.norm(got.Q - q) < 1e-10 * np.linalg.norm(q)
    # The response of each variable to one in its own units: x of order 1, s of order rate x h.
    scale = np.concatenate([np.ones(6), np.abs(m[6:]).max(axis=1) * h])
    assert np.abs((got.A - a) / scale[:, None]).max() < 1e-10 * max(1.0, np.abs(a[:6]).max())


@pytest.mark.parametrize("model", SIGNALS)
@pytest.mark.parametrize("delta", [0.0, -2.0e6])
@pytest.mark.parametrize("kappa_h", [0.01, 1.0, 30.0])
def test_two_intervals_compose_to_their_sum(kappa_h, delta, model):
    controls, h1 = controls_at(delta), kappa_h / PARAMS.kappa
    h2 = 0.37 * h1
    one, two, both = (mapped(controls, model, h) for h in (h1, h2, h1 + h2))
    made = propagate.compose(one, two)
    s = deviations(np.asarray(both.Q))
    s = np.where(s > 0, s, 1.0)
    assert np.abs((made.Q - both.Q) / np.outer(s, s)).max() < 1e-12
    scale = np.abs(both.A).max(axis=1)
    scale[:6] = np.maximum(scale[:6], 1.0)  # a cavity forgets all of its start
    assert np.abs((made.A - both.A) / scale[:, None]).max() < 1e-12
    # The order matters where two maps differ.
    turned = mapped(controls_at(1.4e6), model, h2)
    swapped = propagate.compose(turned, one).A - propagate.compose(one, turned).A
    assert np.abs(swapped[:6, :6]).max() > 1e-9


def test_growth_on_the_unstable_side_is_the_eigenvalue():
    for delta, delta_m in ((-2.0e6, 5.5e3), (2.0e6, -5.35e3)):
        controls = Controls(nbar=10.0, delta_pc=TWO_PI * delta, omega_m=TWO_PI * (120e3 + delta_m))
        gain = 2 * np.linalg.eigvals(np.asarray(drift(PARAMS, controls))).real.max()
        assert float(instability_gain(PARAMS, controls)) == pytest.approx(gain, rel=1e-9)
        step = mapped(controls, "adiabatic", 0.5e-6)
        many = propagate.repeat(Transition(A=step.A[:6, :6], Q=step.Q[:6, :6]), 4000)
        more = propagate.repeat(many, 2)
        p = np.eye(6)
        sizes = [np.trace(np.asarray(t.A @ p @ t.A.T + t.Q)) for t in (many, more)]
        rate = math.log(sizes[1] / sizes[0]) / (4000 * 0.5e-6)
        assert rate == pytest.approx(gain, rel=1e-3)
        slower = np.sort(np.asarray(normal_modes(PARAMS, controls)).real)[::-1]
        assert slower[0] == pytest.approx(gain / 2, rel=1e-9) and slower[2] < slower[0]


@functools.cache
def vacuum_out(kappa_h):
    """Return the covariance of the output field's integrals when nothing couples to the cavity."""
    controls, h = Controls(nbar=0.0, delta_pc=TWO_PI * 1.4e6), kappa_h / PARAMS.kappa
    step = mapped(controls, "input_output", h)
    start = np.diag([3.0, 3.0, 3.0, 3.0, 0.5, 0.5])
    a, q = np.asarray(step.A), np.asarray(step.Q)
    return (a[:, :6] @ start @ a[:, :6].T + q)[4:, 4:] / np.array([1, 1, h, h])[:, None], h


@pytest.mark.parametrize("kappa_h", KAPPA_H)
def test_vacuum_in_gives_vacuum_out(kappa_h):
    """Each output quadrature is white with 1/4, and no sample knows the cavity that it leaves."""
    p, _ = vacuum_out(kappa_h)
    np.testing.assert_allclose(np.diag(p), [0.5, 0.5, 0.25, 0.25], rtol=1e-9)
    assert np.abs(p - np.diag(np.diag(p))).max() < 1e-9 * max(1.0, 1 / kappa_h)


def test_the_map_has_no_memory_of_how_jax_was_asked():
    controls = controls_at(-2.0e6)
    m, d = generator(controls, "input_output")
    plain = propagate.exact(m, d, 0.5e-6, 9)
    together = jax.vmap(lambda h: propagate.exact(m, d, h, 9))(jnp.array([0.5e-6, 0.5e-6]))
    np.testing.assert_allclose(together.Q[1], plain.Q, rtol=1e-12, atol=1e-25)

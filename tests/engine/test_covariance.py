import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
from jaxsde.engine import covariance as engine
from jaxsde.engine.resolution import choose_resolution
from jaxsde.physics.model import diffusion, drift, initial_covariance
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Sequence, Stage

STILL = Params.kohler2018(sigma_m=0.0, sigma_s=0.0)
DT = 0.5e-6


def short_sequence():
    """Return a sequence of 18 samples with a dark stage, two ramps, a pulse and a ringdown."""
    return Sequence(
        stages=(
            Stage(name="dark", n_samples=2, controls=Controls(nbar=0.0)),
            Stage(name="up", n_samples=3, controls=Controls(nbar=1.0, omega_m=(6e5, 7.8e5))),
            Stage(
                name="pulse",
                n_samples=4,
                controls=Controls(nbar=10.0, delta_pc=TWO_PI * -2e6, omega_m=7.8e5),
            ),
            Stage(name="down", n_samples=3, controls=Controls(nbar=4.0, omega_m=(7.8e5, 6e5))),
            Stage(name="ringdown", n_samples=6, controls=Controls(nbar=4.0, B_s=1e5)),
        ),
        sample_interval=DT,
    )


def linear_drift(params, controls):
    """Return f -> M at the fraction f of a stage, NumPy."""
    first, last = (np.array(drift(params, controls, at)) for at in (0.0, 1.0))
    return lambda f: first + (last - first) * f


def moments_of(params, sequence):
    stages = [
        (
            s.n_samples * sequence.sample_interval,
            linear_drift(params, s.controls),
            np.array(diffusion(params, s.controls)),
        )
        for s in sequence.stages
    ]
    return oracles.moment_ode(stages, initial_covariance(params))


def in_deviations(got, expected):
    s = np.sqrt(np.diagonal(expected, axis1=-2, axis2=-1))
    return np.abs((np.asarray(got) - expected) / (s[..., :, None] * s[..., None, :])).max()


def test_full_sequence_is_the_integral_of_the_moment_equations():
    sequence = Sequence.kohler2018()
    got = engine.covariance(STILL, sequence)
    assert got.shape == (5, 6, 6)
    assert in_deviations(got, np.array(moments_of(STILL, sequence))) < 1e-7


def test_sixty_microsecond_pulse_from_one_thermal_quantum_each():
    pulse = Controls(nbar=10.0, delta_pc=TWO_PI * -2.0e6, omega_m=TWO_PI * 125.5e3)
    sequence = Sequence(
        stages=(Stage(name="pulse", n_samples=120, controls=pulse),), sample_interval=DT
    )
    params = dataclasses.replace(STILL, B_s=0.0)
    (end,) = engine.covariance(params, sequence)
    n_a, n_b, ab, _ = oracles.two_modes(end)
    assert n_a == pytest.approx(10.37, abs=0.005)
    assert n_b == pytest.approx(12.91, abs=0.005)
    assert abs(ab) == pytest.approx(11.57, abs=0.005)
    assert np.angle(ab) / np.pi == pytest.approx(-0.479, abs=5e-4)


# --- jitter ---------------------------------------------------------------------------------------

JITTERY = Params.kohler2018(sigma_m=TWO_PI * 20e3, sigma_s=TWO_PI * 8e3)


@pytest.fixture(scope="module")
def conditional():
    sequence = short_sequence()
    resolution = choose_resolution(JITTERY, sequence)
    function = jax.jit(lambda z: engine.conditional_covariance(JITTERY, sequence, z, resolution))
    return sequence, function


def test_conditional_covariance_is_that_of_shifted_frequencies(conditional):
    sequence, function = conditional
    z = np.array([[1.3, -2.0], [-0.6, 1.1]])
    got = function(jnp.asarray(z))
    for i in range(2):
        off_m, off_s = JITTERY.sigma_m * z[0, i], JITTERY.sigma_s * z[1, i]
        moved = dataclasses.replace(
            JITTERY, omega_m=JITTERY.omega_m + off_m, omega_s=JITTERY.omega_s + off_s
        )
        stages = []
        for stage in sequence.stages:
            omega = stage.controls.omega_m
            if isinstance(omega, tuple):
                omega = (omega[0] + off_m, omega[1] + off_m)
            elif omega is not None:
                omega = omega + off_m
            controls = dataclasses.replace(stage.controls, omega_m=omega)
            stages.append(dataclasses.replace(stage, controls=controls))
        shifted = dataclasses.replace(sequence, stages=tuple(stages))
        assert in_deviations(got[i], np.array(moments_of(moved, shifted))) < 1e-7


@pytest.mark.slow
def test_average_over_jitter_is_that_of_a_dense_grid(conditional):
    sequence, function = conditional
    u = np.linspace(-6.5, 6.5, 41)
    z = np.stack(np.meshgrid(u, u, indexing="ij")).reshape(2, -1)
    weights = np.exp(-(z**2).sum(axis=0) / 2)
    dense = np.einsum("k,ksij->sij", weights / weights.sum(), function(jnp.asarray(z)))
    assert in_deviations(engine.covariance(JITTERY, sequence), dense) < 1e-8
    # The jitter matters: it takes correlations away.
    still = engine.covariance(dataclasses.replace(JITTERY, sigma_m=0.0, sigma_s=0.0), sequence)
    assert in_deviations(still, dense) > 1e-2


def test_gauss_hermite_integrates_polynomials():
    z, w = (np.asarray(v) for v in engine.gauss_hermite((5, 4)))
    assert w.sum() == pytest.approx(1.0)
    assert (w * z[0] ** 2 * z[1] ** 2).sum() == pytest.approx(1.0)
    assert (w * z[0] ** 8).sum() == pytest.approx(105.0)
    assert (w * z[1] ** 6).sum() == pytest.approx(15.0)
    assert (w * z[0] * z[1]).sum() == pytest.approx(0.0, abs=1e-14)


@pytest.mark.parametrize("differentiate", [jax.jacfwd, jax.jacrev])
def test_covariance_has_the_derivative_that_differences_show(differentiate):
    sequence = Sequence(stages=short_sequence().stages[2:4], sample_interval=DT)
    resolution = choose_resolution(STILL, sequence)
    names = ("g_m", "g_s", "B_s", "sigma_m", "n_m0")

    @jax.jit
    def end(u):
        values = {n: getattr(STILL, n) + u[i] for i, n in enumerate(names)}
        params = dataclasses.replace(STILL, **values)
        return engine.covariance(params, sequence, resolution=resolution, nodes=(3, 3))[-1]

    zero = jnp.zeros(len(names))
    slope = np.asarray(jax.jit(differentiate(end))(zero))
    assert np.isfinite(slope).all()  # at sigma = 0 too
    for i, step in enumerate((1.0, 1.0, 10.0, None, 1e-3)):
        if step is not None:
            move = zero.at[i].set(step)
            difference = np.asarray(end(move) - end(-move)) / (2 * step)
            np.testing.assert_allclose(
                slope[..., i], difference, rtol=1e-5, atol=1e-7 * np.abs(difference).max()
            )


def test_nodes_grow_with_jitter_and_the_average_stays_exact():
    paper = Sequence.kohler2018()
    assert engine.choose_nodes(Params.kohler2018(), paper) == engine.NODES
    wide = dataclasses.replace(Params.kohler2018(), sigma_m=TWO_PI * 1.2e3, sigma_s=TWO_PI * 600.0)
    chosen = engine.choose_nodes(wide, paper)
    assert chosen[0] > engine.NODES[0] and chosen[1] > engine.NODES[1]
    found = engine.covariance(wide, paper)
    finer = engine.covariance(wide, paper, nodes=(chosen[0] + 20, chosen[1] + 20))
    np.testing.assert_allclose(found, finer, atol=1e-5 * float(np.max(finer)))


def test_too_much_jitter_for_the_quadrature_is_said():
    wild = dataclasses.replace(Params.kohler2018(), sigma_s=TWO_PI * 5e3)
    with pytest.warns(UserWarning, match=r"^params\.sigma_s: wanted sigma_s x time of at most 4.9"):
        assert engine.choose_nodes(wild, Sequence.kohler2018())[1] == engine.MAX_NODES

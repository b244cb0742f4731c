import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
from jaxsde.physics import theory
from jaxsde.physics.model import diffusion, drift, initial_covariance
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls

RED, BLUE = TWO_PI * -2.0e6, TWO_PI * 2.0e6
PULSE = Controls(nbar=10.0, delta_pc=RED)


def gains(params, delta_pc, deltas):
    """Return G+ (1/s) of the pulse at nbar = 10 for every delta = omega_m - omega_s (rad/s)."""

    @jax.jit
    @jax.vmap
    def scan(delta):
        pulse = Controls(nbar=10.0, delta_pc=delta_pc, omega_m=params.omega_s + delta)
        return theory.instability_gain(params, pulse)

    return np.asarray(scan(jnp.asarray(deltas)))


# --- the paper's numbers ------------------------------------------------------------------------


def test_spring_couplings_of_the_pulse():
    params = Params.kohler2018()
    optical = theory.optical_coupling(params, PULSE) / TWO_PI
    static = theory.static_coupling(params, PULSE) / TWO_PI
    assert optical == pytest.approx(5.12e3, abs=5)
    assert static == pytest.approx(2.40e3, abs=1e-9)
    assert theory.spring_coupling(params, PULSE) / TWO_PI == pytest.approx(optical + static)


@pytest.mark.parametrize(
    "delta_pc, peak_at, peak", [(RED, 5.55e3, 4.122e4), (BLUE, -5.35e3, 1.182e4)]
)
def test_gain_peaks_where_and_as_high_as_the_full_matrix_has_it(delta_pc, peak_at, peak):
    deltas = TWO_PI * np.arange(-15e3, 15e3, 25.0)
    gain = gains(Params.kohler2018(), delta_pc, deltas)
    assert deltas[gain.argmax()] / TWO_PI == pytest.approx(peak_at, abs=26)
    assert gain.max() == pytest.approx(peak, abs=5)


def test_no_gain_for_two_positive_masses():
    # At red detuning: on the blue side light alone amplifies an undamped spin of positive mass.
    deltas = TWO_PI * np.arange(-15e3, 15e3, 100.0)
    assert gains(Params.kohler2018(epsilon=1.0), RED, deltas).max() < 0


def test_spin_equation_as_printed_in_s7_has_no_instability():
    """The printed +i eps omega_s b of S7 is a slip: it gives no gain where Eq. 2 gives 4.1e4 /s."""
    pulse = dataclasses.replace(PULSE, omega_m=TWO_PI * 125.55e3)
    right = np.array(drift(Params.kohler2018(), pulse))
    printed = right.copy()
    printed[2, 3], printed[3, 2] = -right[2, 3], -right[3, 2]
    assert 2 * np.linalg.eigvals(right).real.max() == pytest.approx(4.122e4, abs=5)
    assert 2 * np.linalg.eigvals(printed).real.max() == pytest.approx(-7.186e3, abs=1)


def test_sixty_microsecond_pulse_from_one_thermal_quantum_each():
    params = Params.kohler2018(B_s=0.0, n_m0=1.0, n_s0=1.0)
    pulse = dataclasses.replace(PULSE, omega_m=TWO_PI * 125.5e3)
    m, d = np.array(drift(params, pulse)), np.array(diffusion(params, pulse))
    (end,) = oracles.moment_ode([(60e-6, lambda _: m, d)], initial_covariance(params))
    n_a, n_b, ab, _ = oracles.two_modes(end)
    assert n_a == pytest.approx(10.37, abs=0.006)
    assert n_b == pytest.approx(12.91, abs=0.006)
    assert abs(ab) == pytest.approx(11.57, abs=0.006)
    assert np.angle(ab) / np.pi == pytest.approx(-0.479, abs=6e-4)


# --- normal modes and Eq. 1 ---------------------------------------------------------------------


def test_normal_modes_are_the_eigenvalues_of_the_drift_in_order():
    params = Params.kohler2018()
    modes = np.asarray(theory.normal_modes(params, PULSE))
    m = np.asarray(drift(params, PULSE))
    for mode in modes:  # singular M - lambda
        assert np.linalg.svd(m - mode * np.eye(6))[1][-1] < 1e-9 * np.linalg.norm(m)
    assert modes.sum() == pytest.approx(np.trace(m), rel=1e-12)
    assert (np.diff(modes.real) <= 0).all()
    assert theory.instability_gain(params, PULSE) == 2 * modes[0].real


def test_gain_sees_the_fraction_of_a_ramp():
    params = Params.kohler2018()
    ramp = dataclasses.replace(PULSE, omega_m=(TWO_PI * 95e3, TWO_PI * 125e3))
    held = dataclasses.replace(PULSE, omega_m=TWO_PI * 110e3)
    assert theory.instability_gain(params, ramp, 0.5) == theory.instability_gain(params, held)


@pytest.mark.parametrize("epsilon", [-1.0, 1.0])
@pytest.mark.parametrize("delta", [0.0, 0.3, -0.6, 1.0, 2.5])
def test_eq_1_against_two_modes_on_a_static_spring(epsilon, delta):
    omega_0, coupling = 3e4, 1.0  # rotating-wave terms: coupling^2 / omega_0
    params = Params(
        omega_m=omega_0 + delta / 2, omega_s=omega_0 - delta / 2, kappa=1.0,
        g_m=0.0, g_s=0.0, g_sm=coupling / 8, epsilon=epsilon,
    )  # fmt: skip
    controls = Controls(nbar=4.0)
    assert theory.spring_coupling(params, controls) == coupling
    roots = np.array(theory.two_mode_frequencies(omega_0, delta, coupling, epsilon))
    assert roots.sum() == 2 * omega_0
    assert ((roots[0] - roots[1]) ** 2).real == pytest.approx(delta**2 + epsilon * coupling**2)
    # exp(lambda t) = exp(-i omega t): of each pair of eigenvalues take the one near -i omega_0.
    modes = 1j * np.asarray(theory.normal_modes(params, controls))
    modes = modes[modes.real > omega_0 / 2]
    # Where the roots coalesce, errors count by their square roots.
    near = 2e-2 if delta**2 + epsilon * coupling**2 == 0 else 2e-4
    for root in roots:
        assert np.abs(modes - root).min() < near
    gain = theory.instability_gain(params, controls)
    assert gain == pytest.approx(2 * max(roots.imag), abs=2 * near)
    assert roots[0].imag >= 0


@pytest.mark.parametrize("delta_pc", [-150.0, 90.0])
def test_optical_coupling_sets_the_gain_when_the_cavity_is_fast(delta_pc):
    base = Params(omega_m=1.0, omega_s=1.0, kappa=200.0, g_m=1.0, g_s=1.0, epsilon=-1.0)
    controls = Controls(nbar=1.0, delta_pc=delta_pc)
    coupling = theory.optical_coupling(base, controls)

    @jax.vmap
    def scan(delta):
        return theory.instability_gain(dataclasses.replace(base, omega_m=1.0 + delta), controls)

    peak = scan(jnp.linspace(-0.03, 0.03, 601)).max()
    assert peak == pytest.approx(abs(coupling), rel=0.02)


@pytest.mark.parametrize("differentiate", [jax.grad, jax.jacfwd])
def test_gain_has_the_derivative_that_differences_show(differentiate):
    params = Params.kohler2018()

    def gain(g_m):
        return theory.instability_gain(
            dataclasses.replace(params, g_m=g_m),
            dataclasses.replace(PULSE, omega_m=TWO_PI * 124e3),
        )

    step = params.g_m * 1e-4
    slope = float(gain(params.g_m + step) - gain(params.g_m - step)) / (2 * step)
    assert differentiate(gain)(params.g_m) == pytest.approx(slope, rel=1e-5)


# --- optical spring, damping, back-action of one oscillator -------------------------------------


@pytest.mark.parametrize("which, epsilon", [("m", -1.0), ("s", -1.0), ("s", 1.0)])
@pytest.mark.parametrize("delta_pc", [-4e6, -1e6, -2e5, 0.0, 5e5, 2e6])
def test_optical_shift_is_that_of_the_eigenvalue(which, epsilon, delta_pc):
    g = TWO_PI * 1e3
    couplings = dict(g_m=g, g_s=0.0) if which == "m" else dict(g_m=0.0, g_s=g)
    params = Params.kohler2018(gamma_m=0.0, g_sm=0.0, epsilon=epsilon, **couplings)
    controls = Controls(nbar=1.0, delta_pc=TWO_PI * delta_pc)
    omega, mass = (params.omega_m, 1.0) if which == "m" else (params.omega_s, epsilon)
    modes = np.asarray(theory.normal_modes(params, controls))
    mode = modes[np.abs(modes - 1j * omega).argmin()]
    shift = theory.optical_shift(g, omega, params, controls)
    assert mass * shift.real == pytest.approx(mode.imag - omega, rel=3e-5, abs=1e-6)
    assert mass * shift.imag == pytest.approx(mode.real, rel=1e-6, abs=1e-7)
    shifted = dict(zip("ms", theory.shifted_frequencies(params, controls), strict=True))
    assert shifted[which] - omega == pytest.approx(mode.imag - omega, rel=3e-5, abs=1e-6)
    # Red light softens and cools a positive mass; a negative mass it stiffens and heats.
    assert np.sign(shift.real) == np.sign(delta_pc)
    assert np.sign(shift.imag) == np.sign(delta_pc)


def test_optical_shift_tends_to_the_static_spring():
    params = Params.kohler2018()
    controls = Controls(nbar=3.0, delta_pc=RED)
    limit = 3.0 * 7.0**2 * 2 * RED / (params.kappa**2 + RED**2)
    assert theory.optical_shift(7.0, 0.0, params, controls) == pytest.approx(limit, rel=1e-12)


def test_shifted_frequencies_follow_a_ramp():
    params = Params.kohler2018(g_m=0.0, g_s=0.0)
    ramp = dataclasses.replace(PULSE, omega_m=(2.0, 4.0))
    assert theory.shifted_frequencies(params, ramp, 0.5) == (3.0, params.omega_s)


@pytest.mark.parametrize("which, epsilon", [("m", 1.0), ("s", -1.0), ("s", 1.0)])
def test_backaction_rate_is_the_growth_of_the_occupation(which, epsilon):
    params = Params.kohler2018(gamma_m=0.0, g_sm=0.0, B_s=0.0, epsilon=epsilon)
    dark = dict(g_s=0.0) if which == "m" else dict(g_m=0.0)
    params = dataclasses.replace(params, **dark)
    controls = Controls(nbar=4.0, delta_pc=0.0)
    m, d = np.array(drift(params, controls)), np.array(diffusion(params, controls))
    # The cavity forgets in 1 / kappa = 87 ns; after that the growth is exactly linear.
    stages = [(5e-6, lambda _: m, d), (20e-6, lambda _: m, d)]
    early, late = oracles.moment_ode(stages, initial_covariance(params))
    index = "ms".index(which)
    growth = (oracles.two_modes(late)[index] - oracles.two_modes(early)[index]) / 20e-6
    g, omega = (params.g_m, params.omega_m) if which == "m" else (params.g_s, params.omega_s)
    assert growth == pytest.approx(theory.backaction_rate(g, omega, params, controls), rel=1e-8)

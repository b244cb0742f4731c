"""Closed forms: normal modes, gain, optical springs (Eq. 1 and S.3), with slips corrected."""

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from jaxsde.physics.model import drift, stage_omega_m
from jaxsde.physics.params import Leaf, Params
from jaxsde.physics.sequence import Controls, at_fraction


def normal_modes(params: Params, controls: Controls, at: Leaf = 0.0) -> Complex[Array, "6"]:
    """Return the eigenvalues of M (1/s), largest real part first.

    A mode x ~ exp(lambda t) oscillates at |Im lambda| and its square grows at 2 Re lambda.
    """
    values = jnp.linalg.eigvals(drift(params, controls, at))
    return values[jnp.argsort(-values.real)]


def instability_gain(params: Params, controls: Controls, at: Leaf = 0.0) -> Float[Array, ""]:
    """Return G+ = 2 max Re lambda(M) (1/s), the growth rate of D^2 (S.3); negative if stable."""
    return 2 * normal_modes(params, controls, at)[0].real


def optical_coupling(params: Params, controls: Controls, at: Leaf = 0.0) -> Leaf:
    """Return Omega_opt = 4 g_s g_m nbar Delta / (kappa^2 + Delta^2), rad/s."""
    nbar, delta = at_fraction(controls.nbar, at), at_fraction(controls.delta_pc, at)
    return 4 * params.g_s * params.g_m * nbar * delta / (params.kappa**2 + delta**2)


def static_coupling(params: Params, controls: Controls, at: Leaf = 0.0) -> Leaf:
    """Return the static part of the spring, 2 nbar g_sm, rad/s."""
    return 2 * at_fraction(controls.nbar, at) * params.g_sm


def spring_coupling(params: Params, controls: Controls, at: Leaf = 0.0) -> Leaf:
    """Return the net coupling Omega = Omega_opt + 2 nbar g_sm (below Eq. 2), rad/s."""
    return optical_coupling(params, controls, at) + static_coupling(params, controls, at)


def two_mode_frequencies(omega_0: Leaf, delta: Leaf, coupling: Leaf, epsilon: Leaf):
    """Return (omega_+, omega_-) of Eq. 1, omega_0 +- sqrt(delta^2 + eps Omega^2)/2, complex, rad/s.

    The root with positive imaginary part is omega_+, whose gain is 2 Im omega_+.
    """
    root = jnp.sqrt(jnp.asarray(delta**2 + epsilon * coupling**2 + 0j)) / 2
    return omega_0 + root, omega_0 - root


def optical_shift(g: Leaf, omega: Leaf, params: Params, controls: Controls, at: Leaf = 0.0):
    """Return the complex shift nbar g^2 K(omega) of an oscillator (rad/s), at finite sideband.

    K(omega) = -i/(kappa - i(Delta+omega)) + i/(kappa + i(Delta-omega)); a positive mass moves by
    the real part and is damped at -2 Im (a negative mass: both signs turned).
    """
    kappa, delta = params.kappa, at_fraction(controls.delta_pc, at)
    lobe = -1j / (kappa - 1j * (delta + omega)) + 1j / (kappa + 1j * (delta - omega))
    return at_fraction(controls.nbar, at) * g**2 * lobe


def shifted_frequencies(params: Params, controls: Controls, at: Leaf = 0.0):
    """Return (omega_m, omega_s) with their optical springs (rad/s).

    A negative mass moves the other way: omega_s + eps Re shift.
    """
    w_m = stage_omega_m(params, controls, at)
    shift_m = optical_shift(params.g_m, w_m, params, controls, at)
    shift_s = optical_shift(params.g_s, params.omega_s, params, controls, at)
    return w_m + jnp.real(shift_m), params.omega_s + params.epsilon * jnp.real(shift_s)


def backaction_rate(g: Leaf, omega: Leaf, params: Params, controls: Controls, at: Leaf = 0.0):
    """Return the rate (quanta/s) at which measurement heats an oscillator at Delta = 0.

    2 nbar g^2/kappa x kappa^2/(kappa^2 + omega^2), from S8 with c_AM = (xi + xi^dag)/sqrt(kappa).
    """
    nbar = at_fraction(controls.nbar, at)
    return 2 * nbar * g**2 * params.kappa / (params.kappa**2 + omega**2)

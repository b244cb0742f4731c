"""Drift, diffusion and measured quantity of the linear system, dx = M x dt + B dW (S6-S8).

State x = (Z_m, P_m, Z_s, P_s, c_AM, c_PM); signs of S7 corrected as docs/physics.md tells.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsde.physics.params import Leaf, Params
from jaxsde.physics.sequence import Controls

STATE = ("Z_m", "P_m", "Z_s", "P_s", "c_AM", "c_PM")
N_STATE = len(STATE)


def stage_omega_m(params: Params, controls: Controls, at: Leaf = 0.0) -> Leaf:
    """Return omega_m (rad/s) at the fraction `at` of a stage."""
    if controls.omega_m is None:
        return params.omega_m
    if isinstance(controls.omega_m, tuple):
        start, end = controls.omega_m
        return start + (end - start) * at
    return controls.omega_m


def _matrix(rows: list[list[Leaf]]) -> Float[Array, "rows columns"]:
    dtype = jnp.result_type(float)
    return jnp.stack([jnp.stack([jnp.asarray(v, dtype) for v in row]) for row in rows])


def free_drift(params: Params, controls: Controls, at: Leaf = 0.0) -> Float[Array, "6 6"]:
    """Return the uncoupled part of M (1/s): rotation and damping of motion, spin and cavity."""
    p, o = params, 0.0
    w_m, eps, half = stage_omega_m(params, controls, at), params.epsilon, params.gamma_m / 2
    delta = controls.delta_pc
    return _matrix(
        [
            [-half, w_m, o, o, o, o],
            [-w_m, -half, o, o, o, o],
            [o, o, o, eps * p.omega_s, o, o],
            [o, o, -eps * p.omega_s, o, o, o],
            [o, o, o, o, -p.kappa, delta],
            [o, o, o, o, -delta, -p.kappa],
        ]
    )


def coupling_drift(params: Params, controls: Controls) -> Float[Array, "6 6"]:
    """Return the coupling part of M (1/s): radiation pressure, modulation, static spring.

    P_m' = -2 nbar g_sm Z_s - 2 r g_m c_AM,  P_s' = -2 nbar g_sm Z_m - 2 r g_s c_AM,
    c_PM' = r (g_m Z_m + g_s Z_s),  r = sqrt(2 nbar)
    """
    p, o, nbar = params, 0.0, controls.nbar
    # sqrt has no derivative at 0: a dark stage must still give finite gradients.
    dark = jnp.asarray(nbar) == 0
    r = jnp.where(dark, 0.0, jnp.sqrt(2 * jnp.where(dark, 1.0, nbar)))
    static = -2 * nbar * p.g_sm
    return _matrix(
        [
            [o, o, o, o, o, o],
            [o, o, static, o, -2 * r * p.g_m, o],
            [o, o, o, o, o, o],
            [static, o, o, o, -2 * r * p.g_s, o],
            [o, o, o, o, o, o],
            [r * p.g_m, o, r * p.g_s, o, o, o],
        ]
    )


def drift(params: Params, controls: Controls, at: Leaf = 0.0) -> Float[Array, "6 6"]:
    """Return the drift matrix M of S6-S8 (1/s), with the signs that Eq. 2 gives.

    at: fraction of the stage, which matters during a ramp of omega_m alone.
    """
    return free_drift(params, controls, at) + coupling_drift(params, controls)


def diffusion(params: Params, controls: Controls) -> Float[Array, "6 6"]:
    """Return the diffusion B B^T (per s): growth rate of the symmetrised covariance (S6-S8).

    Z_m, P_m: 2 Gamma_m (nbar_m + 1/2);  Z_s: 4 B_s (Hermitian xi_s);  c_AM, c_PM: kappa.
    """
    n_bath = params.n_bath if controls.n_bath is None else controls.n_bath
    b_s = params.B_s if controls.B_s is None else controls.B_s
    bath = 2 * params.gamma_m * (n_bath + 0.5)
    rates = [bath, bath, 4 * b_s, 0.0, params.kappa, params.kappa]
    dtype = jnp.result_type(float)
    return jnp.diag(jnp.stack([jnp.asarray(v, dtype) for v in rates]))


def measured(params: Params) -> Float[Array, "6"]:
    """Return the row d of D = d x = g_m Z_m + g_s Z_s (rad/s)."""
    return _matrix([[params.g_m, 0.0, params.g_s, 0.0, 0.0, 0.0]])[0]


def initial_covariance(params: Params) -> Float[Array, "6 6"]:
    """Return the covariance of two thermal oscillators and a vacuum cavity.

    Var Z = Var P = 2 n + 1, Var c_AM = Var c_PM = 1/2.
    """
    m, s = 2 * params.n_m0 + 1, 2 * params.n_s0 + 1
    dtype = jnp.result_type(float)
    return jnp.diag(jnp.stack([jnp.asarray(v, dtype) for v in (m, m, s, s, 0.5, 0.5)]))


def joint_displacement(params: Params, covariance: Float[Array, "... 6 6"]) -> Float[Array, "..."]:
    """Return <D^2> = d P d^T ((rad/s)^2) of a symmetrised covariance."""
    row = measured(params)
    return jnp.einsum("i,...ij,j->...", row, covariance, row)

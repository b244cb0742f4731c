"""Drift, diffusion and measured quantity of the linear system, dx = M x dt + B dW (S6-S8).

State x = (Z_m, P_m, Z_s, P_s, c_AM, c_PM); signs of S7 corrected as docs/conventions.md tells.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsde.physics.params import Leaf, Params
from jaxsde.physics.sequence import Controls, at_fraction

STATE = ("Z_m", "P_m", "Z_s", "P_s", "c_AM", "c_PM")
N_STATE = len(STATE)

# What a receiver's model integrates over a sample: D (S9-S10), or the cavity's output field.
SIGNALS = {"adiabatic": ("D",), "input_output": ("o_AM", "o_PM")}


def stage_omega_m(params: Params, controls: Controls, at: Leaf = 0.0) -> Leaf:
    """Return omega_m (rad/s) at the fraction `at` of a stage."""
    return params.omega_m if controls.omega_m is None else at_fraction(controls.omega_m, at)


def _matrix(rows: list[list[Leaf]]) -> Float[Array, "rows columns"]:
    dtype = jnp.result_type(float)
    return jnp.stack([jnp.stack([jnp.asarray(v, dtype) for v in row]) for row in rows])


def free_drift(params: Params, controls: Controls, at: Leaf = 0.0) -> Float[Array, "6 6"]:
    """Return the uncoupled part of M (1/s): rotation and damping of motion, spin and cavity."""
    p, o = params, 0.0
    w_m, eps, half = stage_omega_m(params, controls, at), params.epsilon, params.gamma_m / 2
    delta = at_fraction(controls.delta_pc, at)
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


def instant_field(controls: Controls, at: Leaf = 0.0) -> tuple[Leaf, Leaf]:
    """Return (Re alpha, Im alpha) of a mean field that is at its target: (sqrt(nbar), 0)."""
    nbar = at_fraction(controls.nbar, at)
    # sqrt has no derivative at 0: a dark stage must still give finite gradients.
    dark = jnp.asarray(nbar) == 0
    return jnp.where(dark, 0.0, jnp.sqrt(jnp.where(dark, 1.0, nbar))), 0.0


def coupling_drift(
    params: Params, controls: Controls, at: Leaf = 0.0, field: tuple[Leaf, Leaf] | None = None
) -> Float[Array, "6 6"]:
    """Return the coupling part of M (1/s): radiation pressure, modulation, static spring.

    For a mean field alpha, from (alpha* c + alpha c^dag) D and |alpha|^2 g_sm Z_m Z_s:
    P_m' = -2 |alpha|^2 g_sm Z_s - 2 sqrt2 g_m (Re alpha c_AM - Im alpha c_PM), P_s' likewise,
    c_AM' = sqrt2 Im alpha D,  c_PM' = sqrt2 Re alpha D.  With alpha = sqrt(nbar) these are S6-S8.
    field: (Re alpha, Im alpha); by default at its target, sqrt(nbar).
    """
    p, o = params, 0.0
    re, im = instant_field(controls, at) if field is None else field
    static = -2 * (re**2 + im**2) * p.g_sm
    a, b = jnp.sqrt(2.0) * re, jnp.sqrt(2.0) * im
    return _matrix(
        [
            [o, o, o, o, o, o],
            [o, o, static, o, -2 * a * p.g_m, 2 * b * p.g_m],
            [o, o, o, o, o, o],
            [static, o, o, o, -2 * a * p.g_s, 2 * b * p.g_s],
            [b * p.g_m, o, b * p.g_s, o, o, o],
            [a * p.g_m, o, a * p.g_s, o, o, o],
        ]
    )


def drift(params: Params, controls: Controls, at: Leaf = 0.0) -> Float[Array, "6 6"]:
    """Return the drift matrix M of S6-S8 (1/s), with the signs that Eq. 2 gives.

    at: fraction of the stage, which matters during a ramp alone.
    """
    return free_drift(params, controls, at) + coupling_drift(params, controls, at)


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


def signals(
    params: Params, model: str
) -> tuple[Float[Array, "signals 6"], Float[Array, "6 signals"], Float[Array, "signals signals"]]:
    """Return (C, X, W): ds = C x dt + noise, X and W its diffusion with x and with itself (per s).

    "adiabatic": s' = D, without noise of its own.
    "input_output": the output field sqrt(2 kappa) c - xi_in (S8), s' = (o_AM, o_PM) with
        o_AM = Re = sqrt(kappa) c_AM - W_A'/2,  o_PM = -Im = sqrt(kappa) c_PM - W_P'/2,
    where W_A and W_P are the unit Wiener processes that drive c_AM and c_PM by sqrt(kappa): the
    vacuum that is reflected is the one that drives the atoms.
    """
    if model == "adiabatic":
        return measured(params)[None], jnp.zeros((N_STATE, 1)), jnp.zeros((1, 1))
    root, o = jnp.sqrt(jnp.asarray(params.kappa, jnp.result_type(float))), 0.0
    rows = _matrix([[o, o, o, o, root, o], [o, o, o, o, o, root]])
    return rows, -rows.T / 2, jnp.eye(2) / 4


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

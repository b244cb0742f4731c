"""Swept probe: atom number and polarisation from the cavity's resonance before and after (S.2)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

STEPS = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resonance:
    """Hold fits of swept transmissions.

    shift, shift_stderr: of the resonance, rad/s.  kappa: half width, rad/s.  peak, background: of
    the transmission, in its unit.  chi2: of each sweep; dof: its degrees of freedom.
    """

    shift: Float[np.ndarray, "sweeps"]
    shift_stderr: Float[np.ndarray, "sweeps"]
    kappa: Float[np.ndarray, "sweeps"]
    peak: Float[np.ndarray, "sweeps"]
    background: Float[np.ndarray, "sweeps"]
    chi2: Float[np.ndarray, "sweeps"]
    dof: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Atoms:
    """Hold what two sweeps tell: n_atoms, F_x, polarisation F_x/(2 N), with standard errors."""

    n_atoms: Float[np.ndarray, "sweeps"]
    n_atoms_stderr: Float[np.ndarray, "sweeps"]
    F_x: Float[np.ndarray, "sweeps"]
    F_x_stderr: Float[np.ndarray, "sweeps"]
    polarisation: Float[np.ndarray, "sweeps"]
    polarisation_stderr: Float[np.ndarray, "sweeps"]


def transmission(x: Float[Array, "4"], detuning: Float[Array, "points"]) -> Float[Array, "points"]:
    """Return peak kappa^2/(kappa^2 + (detuning - shift)^2) + background; x in that order.

    x = (peak, shift, kappa, background).
    """
    return x[0] / (1 + ((detuning - x[1]) / x[2]) ** 2) + x[3]


def fit_resonance(
    detuning: Float[Array, "points"],
    power: Float[Array, "sweeps points"],
    stderr: Float[Array, "sweeps points"],
    *,
    kappa: float,
) -> Resonance:
    """Fit the transmission of every sweep by weighted least squares.

    detuning: of the probe from the EMPTY cavity, rad/s.  power: transmitted, in any unit, and its
    standard error (for counts, the root of a smooth expectation, not of the count).  kappa: start
    for the half width, rad/s, which is fitted.
    Raises ValueError for fewer than 6 points, a sweep that does not hold its maximum inside, or
    errors that are not positive.
    """
    points = detuning.shape[0]
    if points < 6:
        raise ValueError(f"detuning: wanted at least 6 points, got {points}")
    if not np.all(np.asarray(stderr) > 0):
        raise ValueError("stderr: wanted positive numbers; leave out points that have none")
    at = np.asarray(jnp.argmax(power, axis=1))
    if np.any((at == 0) | (at == points - 1)):
        raise ValueError(
            f"sweep {int(np.argmax((at == 0) | (at == points - 1)))}: wanted its maximum inside, "
            "got it at the edge; sweep further"
        )
    x, cov, chi2 = _fit_sweeps(detuning, power, stderr, jnp.asarray(kappa))
    x = np.asarray(x)
    return Resonance(
        peak=x[:, 0],
        shift=x[:, 1],
        kappa=np.abs(x[:, 2]),
        background=x[:, 3],
        shift_stderr=np.sqrt(np.asarray(cov)[:, 1, 1]),
        chi2=np.asarray(chi2),
        dof=points - 4,
    )


@jax.jit
def _fit_sweeps(detuning, power, stderr, kappa):
    """Return (x, covariance, chi2) of every sweep by Levenberg and Marquardt's steps."""

    def residuals(scaled, scale, y, sigma):
        return (transmission(scaled * scale, detuning) - y) / sigma

    def one(y, sigma):
        top, floor = jnp.max(y), jnp.min(y)
        scale = jnp.stack([top - floor, kappa, kappa, top - floor])
        # Centre of what stands above half: the largest point alone is a point of noise.
        above = jnp.maximum(y - (top + floor) / 2, 0.0)
        centre = jnp.sum(above * detuning) / jnp.sum(above)
        start = jnp.stack([top - floor, centre, kappa, floor]) / scale

        def body(_, carry):
            x, damping = carry
            r = residuals(x, scale, y, sigma)
            j = jax.jacfwd(residuals)(x, scale, y, sigma)
            h = j.T @ j
            step = jnp.linalg.solve(h + damping * jnp.diag(jnp.diag(h)), -j.T @ r)
            better = jnp.sum(residuals(x + step, scale, y, sigma) ** 2) < jnp.sum(r**2)
            return jnp.where(better, x + step, x), jnp.where(better, damping / 5, damping * 5)

        x, _ = jax.lax.fori_loop(0, STEPS, body, (start, jnp.asarray(1e-2)))
        j = jax.jacfwd(residuals)(x, scale, y, sigma)
        cov = jnp.linalg.inv(j.T @ j) * scale[:, None] * scale[None]
        return x * scale, cov, jnp.sum(residuals(x, scale, y, sigma) ** 2)

    return jax.vmap(one)(power, stderr)


def atoms_from_sweeps(
    first: Resonance,
    second: Resonance,
    g_c: float,
    *,
    alpha0: float = 2 / 3,
    alpha1: float = 1 / 6,
) -> Atoms:
    """Return atom number and polarisation from sweeps before and after the spin is inverted.

    Delta_c = g_c (alpha0 N +- alpha1 F_x)/2 (S.2): their sum is g_c alpha0 N, their difference
    g_c alpha1 F_x, with the sign of F_x during the first sweep.
    g_c: rad/s, negative for light below the atomic line.  alpha0, alpha1: scalar and vector Stark
    shifts of 87Rb on its D2 line.
    """
    total, turn = first.shift + second.shift, first.shift - second.shift
    error = np.hypot(first.shift_stderr, second.shift_stderr)
    n_atoms, f_x = total / (alpha0 * g_c), turn / (alpha1 * g_c)
    polarisation = f_x / (2 * n_atoms)
    # Of a ratio r of difference to sum of independent a and b: dr = 2 (b da - a db)/(a + b)^2.
    ratio = np.hypot(second.shift * first.shift_stderr, first.shift * second.shift_stderr)
    return Atoms(
        n_atoms=n_atoms,
        n_atoms_stderr=error / abs(alpha0 * g_c),
        F_x=f_x,
        F_x_stderr=error / abs(alpha1 * g_c),
        polarisation=polarisation,
        polarisation_stderr=alpha0 / (2 * alpha1) * 2 * ratio / total**2,
    )

"""Parameters of the spin-motion-cavity system, in SI units (rad/s and 1/s)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

HBAR = 1.054571817e-34  # J s (CODATA 2018, exact)
RB87_MASS = 1.443160648e-25  # kg
TWO_PI = 2 * math.pi

# A leaf is a float, an array or a tracer, and whatever a pytree transformation puts in its place.
Leaf = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Params:
    """Hold the parameters of S6-S8; every field is a leaf that one may fit.

    omega_m, omega_s: frequencies of motion (at rest) and spin, rad/s.
    kappa: cavity HALF-linewidth, rad/s.
    g_m, g_s, g_sm: couplings of Eq. 2, rad/s.
    gamma_m: energy damping rate of the motion, 1/s.
    n_bath: mean occupation of the motion's bath.
    B_s: anomalous diffusion of the spin (S7), quanta/s.
    epsilon: sign of the spin's mass, -1 (near its highest energy) or +1.
    sigma_m, sigma_s: shot-to-shot standard deviation of the two frequencies, rad/s.
    n_m0, n_s0: initial occupations of motion and spin.
    """

    omega_m: Leaf
    omega_s: Leaf
    kappa: Leaf
    g_m: Leaf
    g_s: Leaf
    g_sm: Leaf = 0.0
    gamma_m: Leaf = 0.0
    n_bath: Leaf = 0.0
    B_s: Leaf = 0.0
    epsilon: Leaf = -1.0
    sigma_m: Leaf = 0.0
    sigma_s: Leaf = 0.0
    n_m0: Leaf = 0.0
    n_s0: Leaf = 0.0

    @staticmethod
    def kohler2018(**overrides: Leaf) -> "Params":
        """Return the paper's values (main text, S.6); B_s is not printed there.

        B_s = 3e4 quanta/s stands for "greatly exceeds the expected diffusion from measurement
        back-action" (S.2), which is 0.9e4 quanta/s for the spin at nbar = 4.
        """
        values: dict[str, Leaf] = dict(
            omega_m=TWO_PI * 95e3,
            omega_s=TWO_PI * 120e3,
            kappa=TWO_PI * 1.82e6,
            g_m=TWO_PI * 26e3,
            g_s=TWO_PI * -18e3,
            g_sm=TWO_PI * 120.0,
            gamma_m=TWO_PI * 2e3,
            n_bath=1.0,
            B_s=3e4,
            epsilon=-1.0,
            sigma_m=TWO_PI * 500.0,
            sigma_s=TWO_PI * 200.0,
            n_m0=1.0,
            n_s0=1.0,
        )
        return Params(**_known(values, overrides))

    @staticmethod
    def from_atoms(
        n_atoms: float,
        g_c: float,
        *,
        kappa: float,
        omega_m: float,
        omega_s: float,
        omega_ho: float | None = None,
        wavelength: float = 780e-9,
        mass: float = RB87_MASS,
        alpha0: float = 2 / 3,
        alpha1: float = 1 / 6,
        **others: Leaf,
    ) -> "Params":
        """Derive the couplings from atoms (below S5), for a spin F = 2 N.

            g_m = -alpha0 N g_c k_p Z_HO,   g_s = alpha1 g_c sqrt(F/8),
            g_sm = -alpha1 g_c k_p Z_HO sqrt(F/2),   Z_HO = sqrt(hbar / (2 m omega_ho)) / sqrt(N)

        n_atoms: number of atoms N.  g_c: g_0^2/Delta_ca, rad/s (negative for a red cavity).
        omega_ho: trap frequency at which Z_HO is taken, rad/s; omega_m unless given. The
            paper's 26.6 kHz and 121 Hz belong to 2 pi x 110 kHz.
        wavelength: of the probe, m.  mass: of an atom, kg.  others: further fields of Params.
        Raises ValueError unless n_atoms, wavelength, mass and omega_ho are positive.
        """
        omega_ho = omega_m if omega_ho is None else omega_ho
        for name, value in dict(
            n_atoms=n_atoms, wavelength=wavelength, mass=mass, omega_ho=omega_ho
        ).items():
            if not value > 0:
                raise ValueError(f"{name}: wanted a positive number, got {value}")
        spin = 2 * n_atoms
        k_p = TWO_PI / wavelength
        z_com = math.sqrt(HBAR / (2 * mass * omega_ho)) / math.sqrt(n_atoms)
        couplings = dict(
            g_m=-alpha0 * n_atoms * g_c * k_p * z_com,
            g_s=alpha1 * g_c * math.sqrt(spin / 8),
            g_sm=-alpha1 * g_c * k_p * z_com * math.sqrt(spin / 2),
        )
        return Params(omega_m=omega_m, omega_s=omega_s, kappa=kappa, **(couplings | others))


def _known(values: dict[str, Leaf], overrides: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Return values with overrides, refusing names that Params does not have."""
    unknown = sorted(set(overrides) - set(values))
    if unknown:
        raise ValueError(f"{unknown[0]}: no such parameter; known are {', '.join(values)}")
    return values | dict(overrides)


def is_concrete(value: Leaf) -> bool:
    """Tell whether value is a number now, not a tracer of a JAX transformation."""
    return not isinstance(value, Tracer)


_POSITIVE = ("omega_m", "omega_s", "kappa")
_NOT_NEGATIVE = ("gamma_m", "n_bath", "B_s", "sigma_m", "sigma_s", "n_m0", "n_s0")


def check_params(params: Params) -> None:
    """Raise ValueError for a field out of its range; tracers pass unexamined."""
    for field in dataclasses.fields(params):
        value = getattr(params, field.name)
        if not is_concrete(value):
            continue
        array = np.asarray(value)
        if array.size == 0 or array.dtype.kind not in "fiu" or not np.all(np.isfinite(array)):
            raise ValueError(f"params.{field.name}: wanted a finite number, got {value}")
        if field.name in _POSITIVE and not np.all(array > 0):
            raise ValueError(f"params.{field.name}: wanted a positive number, got {value}")
        if field.name in _NOT_NEGATIVE and not np.all(array >= 0):
            raise ValueError(f"params.{field.name}: wanted zero or more, got {value}")
        if field.name == "epsilon" and not np.all(np.abs(array) == 1):
            raise ValueError(
                f"params.epsilon: wanted -1 (negative mass) or +1 (positive mass), got {value}"
            )

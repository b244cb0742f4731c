"""Entanglement, purity and physicality of symmetrised covariances (Wigner), vacuum 1 for Z and P.

Two oscillators are given by C, the 4 x 4 covariance of (Z_m, P_m, Z_s, P_s); the cavity's two
quadratures follow in a 6 x 6 one.  The spin's b is a boson, [b, b^dag] = 1, whatever the sign of
its mass: epsilon turns the sense of its rotation, not its commutator.
All but check_physical are pure functions of C, batched over leading axes.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.analysis.moments import pair_correlation
from jaxsde.physics.model import N_STATE

# [Z_m, P_m], [Z_s, P_s], [c_AM, c_PM], in units of i.
_COMMUTATORS = (2.0, 2.0, -1.0)
_SIGMA = np.kron(np.diag(_COMMUTATORS), [[0.0, 1.0], [-1.0, 0.0]])

# Rounding that check_physical lets pass, in units of the type's resolution and C's largest entry.
ROUNDING = 1e4


def commutator(n_state: int = N_STATE) -> Float[Array, "n n"]:
    """Return sigma of [x_i, x_j] = i sigma_ij, for the first n_state variables of the state.

    [Z, P] = 2i for motion and spin, [c_AM, c_PM] = -i.  n_state: 2, 4 or 6, else ValueError.
    """
    if n_state not in (2, 4, 6):
        raise ValueError(
            f"n_state: wanted 2, 4 or 6 variables, whole pairs of (Z_m, P_m, Z_s, P_s, c_AM, "
            f"c_PM), got {n_state}"
        )
    return jnp.asarray(_SIGMA[:n_state, :n_state], jnp.result_type(float))


def symplectic_eigenvalues(c: Float[Array, "*batch 4 4"]) -> Float[Array, "*batch 2"]:
    """Return the two symplectic eigenvalues nu of C, smaller first; vacuum 1, n quanta 2n + 1.

    +-nu are the eigenvalues of i (sigma/2) C (Williamson's theorem); nu >= 1 if C is physical.
    NaN where C is not positive definite.
    """
    return _symplectic(c, 1.0)


def log_negativity(c: Float[Array, "*batch 4 4"]) -> Float[Array, "*batch"]:
    """Return E_N = max(0, -ln nu), in nats (natural logarithm), of the Gaussian state of C.

    nu: smaller symplectic eigenvalue of the partial transpose, P_s -> -P_s (Simon, PRL 84, 2726;
    Vidal and Werner, PRA 65, 032314).  E_N > 0 proves any state of covariance C entangled; for a
    Gaussian one, 0 proves it separable.  NaN where C is not positive definite.
    Where E_N > 0 and C is physical the two nu differ, so E_N has a derivative there.
    """
    return jnp.maximum(0.0, -jnp.log(_symplectic(c, -1.0)[..., 0]))


def _symplectic(c: Array, sense: float) -> Array:
    """Return nu of C, or with sense -1 of its partial transpose.

    With C = L L^T, +-i nu are the eigenvalues of K = L^T (sigma/2) L, antisymmetric.  Its self-dual
    and anti-self-dual parts have norms nu_2 + nu_1 and nu_2 - nu_1, and nu_1 nu_2 = det L: no
    difference of large numbers, as in the invariants of C, which fail near pure states.
    """
    root = jnp.linalg.cholesky(c)
    z_m, p_m, z_s, p_s = (root[..., i, :] for i in range(4))
    half = z_m[..., :, None] * p_m[..., None, :]
    half = half + sense * z_s[..., :, None] * p_s[..., None, :]
    k = half - jnp.swapaxes(half, -1, -2)
    one = jnp.stack([k[..., 0, 1], k[..., 0, 2], k[..., 0, 3]], axis=-1)
    dual = jnp.stack([k[..., 2, 3], -k[..., 1, 3], k[..., 1, 2]], axis=-1)
    larger = (_norm(one + dual) + _norm(one - dual)) / 2
    return jnp.stack([_root_det(root) / larger, larger], axis=-1)


def _norm(v: Array) -> Array:
    """Return |v| over the last axis, with derivative 0 at v = 0, where it has a kink."""
    square = jnp.sum(v**2, axis=-1)
    none = square == 0
    return jnp.where(none, 0.0, jnp.sqrt(jnp.where(none, 1.0, square)))


def _root_det(root: Array) -> Array:
    return jnp.prod(jnp.diagonal(root, axis1=-2, axis2=-1), axis=-1)


def purity(c: Float[Array, "*batch n n"]) -> Float[Array, "*batch"]:
    """Return Tr rho^2 = sqrt(det(sigma/2) / det C) of the Gaussian state of C, 1 if pure.

    1/sqrt(det C) for motion (n = 2) or motion and spin (n = 4); with the cavity (n = 6), whose
    vacuum variance is 1/2, half of that.  NaN where C is not positive definite.
    Raises ValueError for other n.
    """
    vacuum = float(np.sqrt(np.linalg.det(_half_sigma(c))))
    return vacuum / _root_det(jnp.linalg.cholesky(c))


def epr_variance(c: Float[Array, "*batch 4 4"]) -> Float[Array, "*batch"]:
    """Return min over phi of Var u + Var v = tr C / 2 - 4 |<a b>|; vacuum 2.

    u = (Z_m + Z_s^phi)/sqrt2, v = (P_m - P_s^phi)/sqrt2, with b turned to b exp(i phi).  Separable
    states have 2 or more (Duan et al., PRL 84, 2722 (2000)); less proves entanglement, but not
    every entangled state has less.
    """
    ab = pair_correlation(c)
    modulus = _norm(jnp.stack([ab.real, ab.imag], axis=-1))
    return jnp.trace(c, axis1=-2, axis2=-1) / 2 - 4 * modulus


def epr_phase(c: Float[Array, "*batch 4 4"]) -> Float[Array, "*batch"]:
    """Return the phi (rad, in (-pi, pi]) of epr_variance's minimum:  pi - arg <a b>.

    b exp(i phi) has Z_s^phi = Z_s cos phi - P_s sin phi, P_s^phi = Z_s sin phi + P_s cos phi.
    Any phi will do, and none has a derivative, where <a b> = 0.
    """
    ab = pair_correlation(c)
    return jnp.arctan2(ab.imag, -ab.real)


def physicality(c: Float[Array, "*batch n n"]) -> Float[Array, "*batch"]:
    """Return the smallest eigenvalue of C + i sigma/2, the unsymmetrised <x_i x_j>.

    Zero or more if C obeys the uncertainty relation C + i sigma/2 >= 0; 0 if some mode is pure.
    n = 2, 4 or 6 (ValueError if not).
    """
    half = jnp.broadcast_to(jnp.asarray(_half_sigma(c), c.dtype), c.shape)
    return jnp.linalg.eigvalsh(jax.lax.complex(c, half))[..., 0]


def check_physical(c: Float[Array, "*batch n n"], name: str = "C") -> None:
    """Raise ValueError, calling it name, for a C that is no quantum state's covariance.

    Refused are numbers not finite, asymmetry, and C + i sigma/2 < 0, each beyond a rounding error
    of ROUNDING times the type's resolution times C's largest entry.  Not for use on tracers.
    """
    values = np.asarray(c)
    if not np.all(np.isfinite(values)):
        raise ValueError(
            f"{name}: wanted finite numbers, got NaN or infinity; look for the first step or "
            f"estimate that gave them"
        )
    size = np.abs(values).max(axis=(-2, -1))
    tolerance = ROUNDING * np.finfo(values.dtype).eps * size
    skew = np.abs(values - np.swapaxes(values, -1, -2)).max(axis=(-2, -1))
    if np.any(skew > tolerance):
        raise ValueError(
            f"{name}: wanted a symmetric matrix, got elements that differ by {skew.max():.3g} from "
            f"their mirror images; pass (C + C^T)/2"
        )
    least = np.asarray(physicality(c))
    if np.all(least >= -tolerance):
        return
    worst = np.unravel_index(np.argmin(least + tolerance), least.shape)
    place = "" if least.ndim == 0 else f"[{', '.join(str(i) for i in worst)}]"
    raise ValueError(
        f"{name}{place}: wanted a covariance that obeys the uncertainty relation "
        f"C + i sigma/2 >= 0, got a smallest eigenvalue of {least[worst]:.3g} (rounding explains "
        f"{-tolerance[worst]:.1g}); give Z and P a vacuum variance of 1 and c_AM and c_PM 1/2, "
        f"and for an estimate take more shots"
    )


def _half_sigma(c: Array) -> np.ndarray:
    """Return sigma/2 of C's variables."""
    n = c.shape[-1]
    if n not in (2, 4, 6):
        raise ValueError(
            f"C: wanted the covariance of 2, 4 or 6 variables, whole pairs of (Z_m, P_m, Z_s, P_s, "
            f"c_AM, c_PM), got shape {c.shape}"
        )
    return _SIGMA[:n, :n] / 2

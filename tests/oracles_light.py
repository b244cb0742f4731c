"""The cavity's light by hand: spectra and commutators of its output; nothing of the package here.

a_out = sqrt(2 kappa) c - xi_in, of which I = Re and Q = -Im.  Sources (xi_m, xi_m^dag, xi_s, xi_in,
xi_in^dag).  Angular frequencies in rad/s; a spectrum at omega is that of exp(+i omega t).
"""

import math

import numpy as np
from scipy.integrate import solve_ivp

import oracles

QUADRATURES = np.array([[1, 1], [1j, -1j]]) / 2  # (o_AM, o_PM) = QUADRATURES (a_out, a_out^dag)


# --- stationary spectra, by eliminating amplitude after amplitude -------------------------------


def amplitudes(
    omega, *, omega_m, omega_s, epsilon, kappa, g_m, g_s, g_sm, gamma_m, nbar, delta_pc, b_s
):
    """Return (out, d): a_out and a_out^dag (2, 5, f) and D (5, f) as sums over the sources.

    From Heisenberg's equations of Eq. 2: a' = -(i omega_m + Gamma/2) a - i F_m + sqrt(Gamma) xi_m,
    b' = -i eps omega_s b - i F_s + sqrt(B_s) xi_s, F_i = r g_i (c + c^dag) + nbar g_sm Z_j and
    c' = (-kappa + i Delta) c - i r D + sqrt(2 kappa) xi_in, r = sqrt(nbar).
    """
    iw, r = 1j * np.asarray(omega), math.sqrt(nbar)
    zero = np.zeros((5, iw.size), complex)
    xi_m, xi_md, xi_s, xi, xi_d = (zero + np.eye(5)[k][:, None] for k in range(5))
    c, c_d = 1 / (iw + kappa - 1j * delta_pc), 1 / (iw + kappa + 1j * delta_pc)
    a, a_d = (1 / (iw + sign * 1j * omega_m + gamma_m / 2) for sign in (1, -1))
    b, b_d = (1 / (iw + sign * 1j * epsilon * omega_s) for sign in (1, -1))
    # Z = z F + what the baths bring; c + c^dag = x D + what the light brings.
    z_m, z_s, x = 1j * (a_d - a), 1j * (b_d - b), 1j * r * (c_d - c)
    bath_m = math.sqrt(gamma_m) * (a * xi_m + a_d * xi_md)
    bath_s = math.sqrt(b_s) * (b + b_d) * xi_s
    light = math.sqrt(2 * kappa) * (c * xi + c_d * xi_d)
    # Z_i = z_i [r g_i (light + x (g_m Z_m + g_s Z_s)) + nbar g_sm Z_j] + bath_i: two by two.
    m11, m12 = 1 - z_m * r * g_m * x * g_m, -z_m * (r * g_m * x * g_s + nbar * g_sm)
    m21, m22 = -z_s * (r * g_s * x * g_m + nbar * g_sm), 1 - z_s * r * g_s * x * g_s
    right_m, right_s = z_m * r * g_m * light + bath_m, z_s * r * g_s * light + bath_s
    det = m11 * m22 - m12 * m21
    d = g_m * (m22 * right_m - m12 * right_s) / det + g_s * (m11 * right_s - m21 * right_m) / det
    field = c * (-1j * r * d + math.sqrt(2 * kappa) * xi)
    field_d = c_d * (1j * r * d + math.sqrt(2 * kappa) * xi_d)
    return np.array([math.sqrt(2 * kappa) * field - xi, math.sqrt(2 * kappa) * field_d - xi_d]), d


def spectra(omega, *, n_bath, **system):
    """Return the symmetrised spectra of (o_AM, o_PM), (f, 2, 2), and of D, (f,); two-sided."""
    out, d = amplitudes(omega, **system)
    strength = np.array([n_bath + 1 / 2, n_bath + 1 / 2, 1.0, 1 / 2, 1 / 2])
    o = np.einsum("ij,jsf->isf", QUADRATURES, out)
    return (
        np.einsum("isf,s,jsf->fij", o, strength, o.conj()),
        np.einsum("sf,s,sf->f", d, strength, d.conj()).real,
    )


# --- state and output together, with the noise they share --------------------------------------


def drift(**system):
    """Return the generator (8, 8) of (x, integral of (o_AM, o_PM))."""
    kappa, m = system["kappa"], np.zeros((8, 8))
    m[:6, :6] = oracles.hamiltonian_drift(**system)
    out = math.sqrt(2 * kappa) * np.array([oracles.C, oracles.CD])
    rows = QUADRATURES @ out @ np.linalg.inv(oracles.T)
    assert np.abs(rows.imag).max() <= 1e-12 * np.abs(rows).max()
    m[6:, :6] = rows.real
    return m


def noise(*, gamma_m, n_bath, b_s, kappa, reflected=1.0):
    """Return (D, N): symmetrised noise and commutators/i of (x, integrals), (8, 8) per s.

    E xi_m xi_m^dag = n_bath + 1/2, E xi_in xi_in^dag = 1/2, symmetrised; [xi, xi^dag] = 1.
    reflected: 0 forgets -xi_in in a_out.
    """
    to_ladder = np.zeros((8, 5))
    to_ladder[[0, 1], [0, 1]] = math.sqrt(gamma_m)
    to_ladder[[2, 3], 2] = math.sqrt(b_s)
    to_ladder[[4, 5], [3, 4]] = math.sqrt(2 * kappa)
    to_ladder[[6, 7], [3, 4]] = -reflected
    basis = np.zeros((8, 8), complex)
    basis[:6, :6], basis[6:, 6:] = oracles.T, QUADRATURES
    made = basis @ to_ladder
    pair = np.array([[0, 1], [1, 0]])
    strength, commutator = np.zeros((5, 5)), np.zeros((5, 5))
    strength[:2, :2], strength[2, 2], strength[3:, 3:] = (n_bath + 1 / 2) * pair, 1.0, pair / 2
    commutator[0, 1] = commutator[3, 4] = 1.0
    d, n = made @ strength @ made.T, made @ (commutator - commutator.T) @ made.T / 1j
    assert max(np.abs(d.imag).max(), np.abs(n.imag).max()) <= 1e-12 * np.abs(d).max()
    return d.real, n.real


def state_commutators():
    """Return S, [x_i, x_j] = i S_ij: [Z, P] = 2i, [c_AM, c_PM] = -i."""
    s = oracles.T @ oracles.J @ oracles.T.T / 1j
    assert np.abs(s.imag).max() < 1e-15
    return s.real


def mean_field(duration, *, kappa, delta_pc, before, after, rise, start):
    """Return f -> alpha at a fraction of a stage, and alpha at its end; drive real and positive.

    alpha' = (-kappa + i Delta) alpha + E, E from before to after in `rise` as (1 - cos)/2.
    """

    def rhs(t, alpha):
        risen = (1 - math.cos(math.pi * min(t / rise, 1.0))) / 2 if rise else 1.0
        return (-kappa + 1j * delta_pc) * alpha + before + (after - before) * risen

    found = solve_ivp(
        rhs, (0.0, duration), [complex(start)], method="DOP853", rtol=1e-12, atol=1e-13,
        dense_output=True, max_step=0.05 / kappa,
    )  # fmt: skip
    return (lambda f: found.sol(f * duration)[0]), found.y[0, -1]

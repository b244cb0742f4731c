"""Slow and obvious re-derivations in NumPy and SciPy; nothing of the package is imported here.

Ladder basis l = (a, a^dag, b, b^dag, c, c^dag); state x = (Z_m, P_m, Z_s, P_s, c_AM, c_PM).
Angular frequencies in rad/s, rates in 1/s, hbar = 1.
"""

import math

import numpy as np
from scipy.integrate import solve_ivp

A, AD, B, BD, C, CD = np.eye(6, dtype=complex)  # each operator as a vector over the ladder basis
Z_M, P_M = A + AD, 1j * (AD - A)
Z_S, P_S = B + BD, 1j * (BD - B)
C_AM, C_PM = (C + CD) / math.sqrt(2), 1j * (C - CD) / math.sqrt(2)
T = np.array([Z_M, P_M, Z_S, P_S, C_AM, C_PM])  # x = T l
J = np.kron(np.eye(3), [[0, 1], [-1, 0]])  # [u, v] = u J v for u, v linear in l


# --- drift and diffusion from Eq. 2 -----------------------------------------------------------


def hamiltonian_drift(
    *, omega_m, omega_s, epsilon, kappa, g_m, g_s, g_sm, gamma_m, nbar, delta_pc, phase=0.0
):
    """Return M from Heisenberg's equations of Eq. 2, with damping of motion and cavity added.

    phase: of the mean field alpha = sqrt(nbar) e^{i phase}; the fluctuations keep their own.
    """
    alpha = math.sqrt(nbar) * np.exp(1j * phase)
    form = (  # H = sum_kl form[k, l] l_k l_l
        omega_m * np.outer(AD, A)
        + epsilon * omega_s * np.outer(BD, B)
        - delta_pc * np.outer(CD, C)
        + np.outer(alpha.conjugate() * C + alpha * CD, g_m * Z_M + g_s * Z_S)
        + nbar * g_sm * np.outer(Z_M, Z_S)
    )
    # dv/dt = i [H, v], and [l_k l_l, v] = l_k [l_l, v] + [l_k, v] l_l.
    heisenberg = np.array([1j * (form + form.T) @ J @ v for v in np.eye(6)])
    damping = np.diag([gamma_m / 2, gamma_m / 2, 0, 0, kappa, kappa])
    m = T @ (heisenberg - damping) @ np.linalg.inv(T)
    assert np.abs(m.imag).max() <= 1e-12 * np.abs(m).max()
    return m.real


def diffusion(*, gamma_m, n_bath, b_s, kappa):
    """Return dP/dt at P = 0 from da = sqrt(Gamma_m) xi_m, db = sqrt(B_s) xi_s, dc = sqrt(2 k) xi.

    Symmetrised: E|xi_m|^2 = n_bath + 1/2, E|xi_in|^2 = 1/2; xi_s is classical and Hermitian.
    """
    spectrum = np.zeros((6, 6), complex)  # E dl dl^T per dt, symmetrised
    spectrum[0, 1] = spectrum[1, 0] = gamma_m * (n_bath + 1 / 2)
    spectrum[2:4, 2:4] = b_s
    spectrum[4, 5] = spectrum[5, 4] = 2 * kappa * 1 / 2
    d = T @ spectrum @ T.T
    assert np.abs(d.imag).max() <= 1e-12 * np.abs(d).max()
    return d.real


def two_modes(covariance):
    """Return <a^dag a>, <b^dag b>, <a b>, <a^dag b> of a symmetrised covariance of Z, P, Z, P."""
    beta = np.array([[1, 1j, 0, 0], [0, 0, 1, 1j]]) / 2
    p = np.asarray(covariance)[:4, :4]
    moments, crossed = beta @ p @ beta.T, beta.conj() @ p @ beta.T
    n_a, n_b = (crossed[i, i].real - 1 / 2 for i in (0, 1))
    return n_a, n_b, moments[0, 1], crossed[0, 1]


# --- exact moments by integrating their differential equations --------------------------------


def _integrate(rhs, duration, y0, atol):
    """Return y(duration) of dy/dt = rhs(t, y), y any array."""
    result = solve_ivp(
        lambda t, y: rhs(t, y.reshape(y0.shape)).ravel(),
        (0.0, duration),
        y0.ravel(),
        method="DOP853",
        rtol=1e-12,
        atol=atol,
    )
    assert result.success, result.message
    return result.y[:, -1].reshape(y0.shape)


def moment_ode(stages, p0):
    """Return the covariance at the end of every stage, from dP/dt = M P + P M^T + D.

    stages: (duration, drift, D) each; drift(f) gives M at the fraction f of the stage.
    """
    ends, p = [], np.asarray(p0, float)
    for duration, drift, d in stages:

        def rhs(t, q, duration=duration, drift=drift, d=d):
            m = drift(t / duration)
            return m @ q + q @ m.T + d

        p = _integrate(rhs, duration, p, atol=1e-13 * np.abs(p).max())
        ends.append(p)
    return ends


def interval_map(duration, drift, d, row):
    """Return (A, Q) of one sample: (x, s) at its end = A x(0) + noise of covariance Q.

    s is the integral of row . x over the sample; A has shape (n + 1, n), Q (n + 1, n + 1).
    drift(f) gives M at the fraction f of the sample.
    """
    n = len(row)
    wide, d_wide = np.zeros((n + 1, n + 1)), np.zeros((n + 1, n + 1))
    wide[n, :n], d_wide[:n, :n] = row, d

    def joint(f):
        wide[:n, :n] = drift(f)
        return wide

    return joint_map(duration, joint, d_wide, n)


def joint_map(duration, drift, d, n):
    """Return (A, Q) of one sample of z = (x, s): z at its end = A x(0) + noise of covariance Q.

    drift(f) gives the generator of z at the fraction f, d its diffusion with whatever noise x and s
    share; n states x, and integrals s that start at zero.  An antisymmetric d, of commutators,
    gives theirs.
    """
    total = len(d)
    # Each s / unit is of the order of x: one tolerance serves all.
    unit = np.append(np.ones(n), np.abs(drift(0.0)[n:, :n]).max(axis=1) * duration)
    scale = np.outer(1 / unit, unit)

    def noise(t, q):
        m = drift(t / duration) * scale
        return m @ q + q @ m.T + d / np.outer(unit, unit)

    a = _integrate(
        lambda t, a: (drift(t / duration) * scale) @ a, duration, np.eye(total, n), atol=1e-14
    )
    q = _integrate(noise, duration, np.zeros((total, total)), atol=1e-14)
    return a * unit[:, None], q * np.outer(unit, unit)


# --- Euler-Maruyama, as a beginner would write it ----------------------------------------------


def euler_maruyama_covariance(m, d, p0, h, n):
    """Return the covariance after n Euler-Maruyama steps of length h."""
    step, p = np.eye(len(m)) + m * h, np.array(p0, float)
    for _ in range(n):
        p = step @ p @ step.T + d * h
    return p


def euler_maruyama_paths(rng, m, d, x0, h, n):
    """Return paths of shape (n + 1, shots, states) from x0 of shape (shots, states)."""
    values, vectors = np.linalg.eigh(d)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    paths = [np.array(x0, float)]
    for _ in range(n):
        x = paths[-1]
        paths.append(x + x @ m.T * h + rng.standard_normal(x.shape) @ root.T * math.sqrt(h))
    return np.array(paths)


# --- counter-based random numbers ---------------------------------------------------------------

PI_COUNTER, PI_KEY = (0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344)
ZEROS, ONES = (0, 0), (0xFFFFFFFF, 0xFFFFFFFF)

# (rounds, counter, key, output) from the kat_vectors file of Random123.
THREEFRY_KNOWN_ANSWERS = (
    (13, ZEROS, ZEROS, (0x9D1C5EC6, 0x8BD50731)),
    (13, ONES, ONES, (0xFD36D048, 0x2D17272C)),
    (13, PI_COUNTER, PI_KEY, (0xBA3E4725, 0xF27D669E)),
    (20, ZEROS, ZEROS, (0x6B200159, 0x99BA4EFE)),
    (20, ONES, ONES, (0x1CB996FC, 0xBB002BE7)),
    (20, PI_COUNTER, PI_KEY, (0xC4923A9C, 0x483DF7A0)),
)
ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)


def threefry2x32(counter, key, rounds):
    """Return the two words of Threefry-2x32 (Salmon et al. 2011) as Python integers."""
    mask = 0xFFFFFFFF
    schedule = [*key, 0x1BD11BDA ^ key[0] ^ key[1]]
    x, y = ((c + k) & mask for c, k in zip(counter, key, strict=True))
    for r in range(rounds):
        turn = ROTATIONS[r % 8]
        x = (x + y) & mask
        y = ((y << turn | y >> (32 - turn)) & mask) ^ x
        if r % 4 == 3:
            s = (r + 1) // 4
            x, y = (x + schedule[s % 3]) & mask, (y + schedule[(s + 1) % 3] + s) & mask
    return x, y


def pair_words(seed, stream, pair, shot, step, rounds):
    """Return the two words of a pair of normals: its key is the words of (stream, pair)."""
    key = threefry2x32((stream, pair), seed, rounds)
    return threefry2x32((shot, step), key, rounds)


# --- records and filters ------------------------------------------------------------------------


def record_covariance(a, c, noise_x, noise_y, p0, n):
    """Return the covariance of the record y of n samples, shape (n * outputs, n * outputs).

    x' = a x + noise_x xi and y = c x + noise_y xi, with the same white xi.
    """
    return sequence_record_covariance([(a, c, noise_x, noise_y)] * n, p0)


def sequence_record_covariance(samples, p0):
    """Return the same for samples that each have their own (a, c, noise_x, noise_y).

    y is written out as a matrix acting on all causes (x0, xi_0, ..., xi_n-1).
    """
    states, sources = len(p0), samples[0][2].shape[1]
    reach = np.zeros((states, states + len(samples) * sources))  # x_k as a combination of causes
    reach[:, :states] = np.linalg.cholesky(p0)
    rows = []
    for k, (a, c, noise_x, noise_y) in enumerate(samples):
        here = slice(states + k * sources, states + (k + 1) * sources)
        y = c @ reach
        y[:, here] += noise_y
        rows.append(y)
        reach = a @ reach
        reach[:, here] += noise_x
    big = np.array(rows).reshape(len(samples) * len(rows[0]), -1)
    return big @ big.T


def receiver_map(a, q, gains, noise, dt):
    """Return (a, c, noise_x, noise_y) of a sample: y = gains s / dt + white noise of that variance.

    a, q: of (x, s), from interval_map or joint_map.  gains: (k,), or (k, integrals).
    """
    n, k = a.shape[1], len(gains)
    to_joint = np.zeros((n + k, len(a)))
    to_joint[:n, :n], to_joint[n:, n:] = np.eye(n), np.reshape(gains, (k, -1)) / dt
    joint = to_joint @ q @ to_joint.T
    joint[n:, n:] += noise * np.eye(k)
    unit = np.sqrt(np.maximum(np.diag(joint), 1e-300))  # so that no variable is lost to rounding
    values, vectors = np.linalg.eigh(joint / np.outer(unit, unit))
    root = unit[:, None] * vectors * np.sqrt(np.clip(values, 0, None))
    return a[:n], to_joint[n:] @ a, root[:n], root[n:]


def filter_moments(weights, record):
    """Return the second moments of filters' outputs q = weights y, for a record's covariance."""
    return weights @ record @ weights.T


# --- growth, responses, jitter ------------------------------------------------------------------


def growth(t, start, gain, rate):
    """Return D_fit of S12; rate is the growth of D^2, (rad/s)^2/s."""
    t = np.asarray(t, float)
    if gain == 0:
        return start + rate * t
    return start * np.exp(gain * t) + rate / gain * (np.exp(gain * t) - 1)


def response(t, epsilon, omega, gamma):
    """Return rho(t) = exp(-i eps omega t - gamma t / 2) of S14."""
    return np.exp(-1j * epsilon * omega * np.asarray(t) - gamma * np.asarray(t) / 2)


def normal_average(function, sigma, points=4001):
    """Return the mean of function(offset) over a normal offset, by a dense grid to 10 sigma."""
    offsets = np.linspace(-10, 10, points)
    weights = np.exp(-(offsets**2) / 2)
    values = np.array([function(sigma * o) for o in offsets])
    return np.tensordot(weights / weights.sum(), values, axes=1)


def average_response(t, epsilon, omega, gamma, sigma):
    """Return the response of S14 averaged over frequencies of standard deviation sigma (S.6)."""
    return normal_average(lambda offset: response(t, epsilon, omega + offset, gamma), sigma)


def jitter_average(function, sigma_m, sigma_s, points=241):
    """Return the mean of function(offset_m, offset_s) over two independent normal offsets."""
    return normal_average(
        lambda m: normal_average(lambda s: function(m, s), sigma_s, points), sigma_m, points
    )

"""Slow and obvious maps, filters and measured oscillators; nothing of the package is imported here.

Under homodyne detection the state is (Z_m, P_m, c_AM, c_PM): motion and cavity, the spin off. Any
unit of time will do, as long as rates and times share it.
"""

import cmath
import functools
import math
from types import SimpleNamespace
from typing import NamedTuple

import mpmath
import numpy as np

import oracles

mp = mpmath.mp

# --- the exact map of an interval, in many digits -----------------------------------------------


def mp_interval_map(m, d, h, digits=50, finer=0):
    """Return (A, Q) of an interval: A = e^{m h}, Q = integral_0^h e^{m t} d e^{m^T t} dt.

    m, d: (n, n); d may be singular, m unstable or defective. Gauss-Legendre over a piece of the
    interval, then two equal pieces make one of twice the length: Q + A Q A^T and A A. Computed to
    digits, rounded once at the end. finer halves the piece so many times more, which must change
    nothing. What cancels to exactly zero comes out as 10^-digits of the terms that cancel.
    """
    with mp.workdps(digits + 15):
        m, d, h = mp.matrix(m.tolist()), mp.matrix(d.tolist()), mp.mpf(float(h))
        rate = 2 * mp.mnorm(m, mp.inf)  # no faster than this does the integrand change
        doublings = max(0, math.ceil(mp.log(rate * h, 2)) if rate * h > 1 else 0) + finer
        piece = h / 2**doublings
        terms = _series(m * piece)
        a, q = _sum(terms, mp.mpf(1)), mp.zeros(m.rows)
        for node, weight in _gauss_legendre(digits // 2, digits):
            e = _sum(terms, node)
            q += weight * piece * (e * d * e.T)
        for _ in range(doublings):
            q, a = q + a * q * a.T, a * a
        return _rounded(a), _rounded(q)


def _series(m):
    """Return the terms m^k / k! as far as they count."""
    terms = [mp.eye(m.rows)]
    while mp.mnorm(terms[-1], mp.inf) > mp.eps * mp.mpf("1e-10"):
        terms.append(terms[-1] * m / len(terms))
    return terms


def _sum(terms, x):
    """Return sum_k terms[k] x^k."""
    total = mp.zeros(terms[0].rows)
    for term in reversed(terms):
        total = total * x + term
    return total


@functools.cache
def _gauss_legendre(n, digits):
    """Return the n pairs (node, weight) on [0, 1], by Newton's method from NumPy's nodes."""
    pairs = []
    with mp.workdps(digits + 25):
        for start in np.polynomial.legendre.leggauss(n)[0]:
            x = mp.mpf(start)
            for _ in range(3 + digits.bit_length()):  # from 15 digits, each step doubles them
                low, value = mp.mpf(1), x
                for k in range(1, n):  # Bonnet: (k + 1) P_k+1 = (2 k + 1) x P_k - k P_k-1
                    low, value = value, ((2 * k + 1) * x * value - k * low) / (k + 1)
                slope = n * (x * value - low) / (x**2 - 1)
                x -= value / slope
            pairs.append(((1 + x) / 2, 1 / ((1 - x**2) * slope**2)))
    return tuple(pairs)


def _rounded(a):
    return np.array([[float(a[i, j]) for j in range(a.cols)] for i in range(a.rows)])


# --- filters -------------------------------------------------------------------------------------


def kalman_filter(steps, y, mean0, cov0):
    """Return (means, covariances, log-likelihood): after sample k, of x_k+1 given y_0 .. y_k.

    x' = A x + L xi and y = C x + N xi with the same white xi; y is emitted while x moves to x'.
    steps: one tuple (A, L, C, N) for all samples, or a list of them; y: (samples, outputs).
    """
    steps = [steps] * len(y) if isinstance(steps, tuple) else steps
    mean, cov = np.array(mean0, float), np.array(cov0, float)
    means, covs, log_likelihood = [], [], 0.0
    for (a, noise_x, c, noise_y), sample in zip(steps, y, strict=True):
        residual = sample - c @ mean
        s = c @ cov @ c.T + noise_y @ noise_y.T
        shared = a @ cov @ c.T + noise_x @ noise_y.T  # of x' and y, before y is seen
        gain = np.linalg.solve(s, shared.T).T
        mean = a @ mean + gain @ residual
        cov = a @ cov @ a.T + noise_x @ noise_x.T - gain @ shared.T
        cov = (cov + cov.T) / 2
        log_likelihood -= (
            residual @ np.linalg.solve(s, residual)
            + np.linalg.slogdet(s)[1]
            + len(sample) * math.log(2 * math.pi)
        ) / 2
        means.append(mean)
        covs.append(cov)
    return np.array(means), np.array(covs), log_likelihood


def kalman_bucy(model, record, interval, substeps, mean0, cov0):
    """Return (means, covariances) at the ends of the intervals, by Euler's method.

    model: (m, d, row, cross): dx = m x dt + noise of diffusion d, dy = row x dt + dV, dV dV = dt,
    dx dV = cross dt. record: averages of dy/dt over the intervals, held constant in each.
    """
    m, d, row, cross = model
    dt = interval / substeps
    mean, cov = np.array(mean0, float), np.array(cov0, float)
    means, covs = [], []
    for sample in np.ravel(record):
        for _ in range(substeps):
            gain = cov @ row + cross
            mean = mean + (m @ mean + gain * (sample - row @ mean)) * dt
            cov = cov + (m @ cov + cov @ m.T + d - np.outer(gain, gain)) * dt
        means.append(mean)
        covs.append(cov)
    return np.array(means), np.array(covs)


# --- homodyne detection of one oscillator through the cavity -----------------------------------


UPPER = tuple(zip(*np.triu_indices(4), strict=True))


class Conditioned(NamedTuple):
    """A homodyne record and the state conditioned on it, at the end of each interval."""

    time: np.ndarray  # (n,)
    record: np.ndarray  # (n, 1) averages over the intervals, shot noise of density 1
    mean: np.ndarray  # (n, 4)
    covariance: np.ndarray  # (n, 4, 4), symmetrised
    mean0: np.ndarray  # (4,) before the first interval
    cov0: np.ndarray  # (4, 4)
    top: np.ndarray  # (2,) largest population of the highest Fock level of motion and cavity


def homodyne_model(
    *, omega_m, kappa, g_m, gamma_m, n_bath, nbar, delta_pc, efficiency, angle, share=1.0
):
    """Return the Gaussian model (m, d, row, cross) of kalman_bucy; S_SN = 1.

    P = 2 [sqrt(eta) (cos o_AM + sin o_PM) + ...], o_AM = sqrt(kappa) c_AM - W_A'/2, and W_A also
    drives c_AM as sqrt(kappa) dW_A; o_PM likewise. share = 0 forgets that the noise is the same.
    """
    keep = np.ix_([0, 1, 4, 5], [0, 1, 4, 5])
    m = oracles.hamiltonian_drift(
        omega_m=omega_m,
        omega_s=0.0,
        epsilon=1.0,
        kappa=kappa,
        g_m=g_m,
        g_s=0.0,
        g_sm=0.0,
        gamma_m=gamma_m,
        nbar=nbar,
        delta_pc=delta_pc,
    )[keep]
    d = oracles.diffusion(gamma_m=gamma_m, n_bath=n_bath, b_s=0.0, kappa=kappa)[keep]
    direction = np.array([0.0, 0.0, math.cos(angle), math.sin(angle)])
    reach = math.sqrt(efficiency * kappa)
    return m, d, 2 * reach * direction, -share * reach * direction


def homodyne_step(model, interval):
    """Return the exact (A, L, C, N) of an interval and of the average record over it."""
    m, d, row, cross = model
    n = len(m)
    wide, d_wide = np.zeros((n + 1, n + 1)), np.ones((n + 1, n + 1))
    wide[:n, :n], wide[n, :n] = m, row
    d_wide[:n, :n], d_wide[:n, n], d_wide[n, :n] = d, cross, cross
    a, q = mp_interval_map(wide, d_wide, interval)
    root = np.linalg.cholesky(q)
    return a[:n, :n], root[:n], a[n:, :n] / interval, root[n:] / interval


def _fock(qutip, levels):
    """Return a, c, the four x, their ten symmetrised products and the top levels' projectors."""
    one = [qutip.qeye(n) for n in levels]
    a = qutip.tensor(qutip.destroy(levels[0]), one[1])
    c = qutip.tensor(one[0], qutip.destroy(levels[1]))
    x = [a + a.dag(), 1j * (a.dag() - a)]
    x += [(c + c.dag()) / math.sqrt(2), 1j * (c - c.dag()) / math.sqrt(2)]
    products = [(x[i] * x[j] + x[j] * x[i]) / 2 for i, j in UPPER]
    top = [qutip.basis(n, n - 1).proj() for n in levels]
    return a, c, x, products, [qutip.tensor(top[0], one[1]), qutip.tensor(one[0], top[1])]


def qutip_homodyne(seed, *, n_m0, interval, intervals, substeps, levels=(10, 6), **parameters):
    """Return one Conditioned trajectory of QuTiP's stochastic master equation.

    parameters: as of homodyne_model. The motion starts thermal with n_m0 quanta, the cavity in
    vacuum about its mean field. With c_out = sqrt(2 kappa) c - xi_in, cos o_AM + sin o_PM is
    Re(e^{i angle} c_out): so the measured operator is L = sqrt(2 kappa eta) e^{i angle} c, and
    QuTiP's record <L + L^dag> + dW/dt is P. substeps steps are taken in each interval.
    """
    import qutip

    v = SimpleNamespace(**parameters)
    a, c, x, products, top = _fock(qutip, levels)
    result = qutip.smesolve(
        v.omega_m * a.dag() * a
        - v.delta_pc * c.dag() * c
        + math.sqrt(v.nbar) * v.g_m * (c + c.dag()) * (a + a.dag()),
        qutip.tensor(qutip.thermal_dm(levels[0], n_m0), qutip.basis(levels[1], 0).proj()),
        np.linspace(0.0, interval * intervals, intervals * substeps + 1),
        c_ops=[
            math.sqrt(v.gamma_m * (v.n_bath + 1)) * a,
            math.sqrt(v.gamma_m * v.n_bath) * a.dag(),
            math.sqrt(2 * v.kappa * (1 - v.efficiency)) * c,
        ],
        sc_ops=[math.sqrt(2 * v.kappa * v.efficiency) * cmath.exp(1j * v.angle) * c],
        e_ops=x + products + top,
        ntraj=1,
        seeds=seed,
        options={
            "method": "taylor1.5",
            "dt": interval / substeps,
            "store_measurement": "middle",  # <L + L^dag> by the trapezoidal rule
            "store_states": False,
            "progress_bar": "",
        },
    )
    moments = np.real(result.expect)[:, ::substeps].T
    mean, cov = moments[:, :4], np.zeros((intervals + 1, 4, 4))
    for (i, j), second in zip(UPPER, moments[:, 4:14].T, strict=True):
        cov[:, i, j] = cov[:, j, i] = second - mean[:, i] * mean[:, j]
    fine = np.real(result.measurement).reshape(intervals, substeps)
    return Conditioned(
        time=interval * np.arange(1, intervals + 1),
        record=fine.mean(axis=1)[:, None],
        mean=mean[1:],
        covariance=cov[1:],
        mean0=mean[0],
        cov0=cov[0],
        top=moments[:, 14:].max(axis=0),
    )

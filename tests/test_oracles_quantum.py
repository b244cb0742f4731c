"""The oracles of maps, filters and measurement against closed forms and against each other."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from mpmath import mp

import oracles
import oracles_quantum as quantum

KAPPA = 2 * np.pi * 1.82e6
PULSE = dict(
    omega_m=2 * np.pi * 125e3,
    omega_s=2 * np.pi * 120e3,
    epsilon=-1.0,
    kappa=KAPPA,
    g_m=2 * np.pi * 26e3,
    g_s=-2 * np.pi * 18e3,
    g_sm=2 * np.pi * 120.0,
    gamma_m=2 * np.pi * 2e3,
    nbar=15.0,
)


def with_outputs(outputs, delta_pc=-2 * np.pi * 1.4e6, **change):
    """Return (m, d) of the paper's pulse, extended by integrals of D and of both cavity fields."""
    rows = np.zeros((3, 6))
    rows[0, [0, 2]], rows[1, 4], rows[2, 5] = [PULSE["g_m"], PULSE["g_s"]], KAPPA**0.5, KAPPA**0.5
    n = 6 + outputs
    m, d = np.zeros((n, n)), np.zeros((n, n))
    m[:6, :6] = oracles.hamiltonian_drift(**{**PULSE, **change}, delta_pc=delta_pc)
    m[6:, :6] = rows[:outputs]
    d[:6, :6] = oracles.diffusion(gamma_m=PULSE["gamma_m"], n_bath=1.0, b_s=1e4, kappa=KAPPA)
    return m, d


def mp_van_loan(m, d, h, digits):
    """Return (A, Q) by one expm of the doubled matrix, with digits to waste."""
    n = len(m)
    with mp.workdps(digits):
        wide = mp.zeros(2 * n)
        wide[:n, :n], wide[:n, n:] = mp.matrix((-m).tolist()), mp.matrix(d.tolist())
        wide[n:, n:] = mp.matrix(m.T.tolist())
        e = mp.expm(wide * mp.mpf(float(h)))
        a = e[n:, n:].T
        q = a * e[:n, n:]
        return tuple(np.array(v.apply(float).tolist(), float) for v in (a, q))


def assert_same(got, want, scale=1.0):
    """Assert that all digits are equal, but for what has cancelled to 1e-35 of its scale."""
    assert ((got == want) | (np.abs(got - want) < 1e-35 * scale)).all()


def scale_of(q):
    """Return sqrt(q_ii q_jj)."""
    return np.sqrt(np.outer(q.diagonal(), q.diagonal()))


# --- the exact map of an interval ---------------------------------------------------------------


@pytest.mark.parametrize("kappa_h", [1e-2, 1.0, 11.0, 1e3])
def test_map_of_damped_motion_and_of_its_integral_are_the_closed_forms(kappa_h):
    # x' = -k x + sqrt(d) xi, s' = x.
    k, d = KAPPA, 3.0 * KAPPA
    h = kappa_h / k
    a, q = quantum.mp_interval_map(np.array([[-k, 0], [1, 0]]), np.diag([d, 0]), h)
    with mp.workdps(60):
        k, d, h = mp.mpf(k), mp.mpf(d), mp.mpf(h)
        e, e2 = mp.expm1(-k * h), mp.expm1(-2 * k * h)
        a_exact = [[float(1 + e), 0.0], [float(-e / k), 1.0]]
        xs = d / k * (-e / k + e2 / (2 * k))
        q_exact = [[-e2 * d / (2 * k), xs], [xs, d / k**2 * (h + 2 * e / k - e2 / (2 * k))]]
        q_exact = [[float(v) for v in row] for row in q_exact]
    np.testing.assert_array_equal(a, a_exact)
    np.testing.assert_array_equal(q, q_exact)


def test_map_of_a_defective_and_of_an_unstable_generator():
    h = 0.3
    jordan = np.diag(np.full(3, -2.0)) + np.diag([1.0, 1.0], 1)
    a, _ = quantum.mp_interval_map(jordan, np.zeros((3, 3)), h)
    np.testing.assert_allclose(
        a, np.exp(-2 * h) * np.array([[1, h, h**2 / 2], [0, 1, h], [0, 0, 1]]), rtol=1e-15
    )
    a, q = quantum.mp_interval_map(np.array([[0.0, 1.0], [0.0, 0.0]]), np.diag([0.0, 5.0]), h)
    np.testing.assert_array_equal(a, [[1.0, h], [0.0, 1.0]])
    np.testing.assert_allclose(q, 5 * np.array([[h**3 / 3, h**2 / 2], [h**2 / 2, h]]), rtol=3e-16)
    a, q = quantum.mp_interval_map(np.array([[40.0]]), np.array([[2.0]]), 1.0)
    np.testing.assert_allclose([a[0, 0], q[0, 0]], [np.exp(40), np.expm1(80) / 40], rtol=1e-15)


@pytest.mark.parametrize("delta_pc", [-2 * np.pi * 1.4e6, 0.0])
@pytest.mark.parametrize("kappa_h", [0.01, 1.0, 1000.0])
def test_map_does_not_depend_on_digits_or_pieces(kappa_h, delta_pc):
    m, d = with_outputs(3, delta_pc)
    h = kappa_h / KAPPA
    a, q = quantum.mp_interval_map(m, d, h)
    again = quantum.mp_interval_map(m, d, h, digits=70, finer=3)
    assert_same(again[0], a)
    assert_same(again[1], q, scale_of(q))
    np.testing.assert_array_equal(q, q.T)


@pytest.mark.parametrize("kappa_h", [0.01, 1.0])
def test_map_is_van_loans_where_that_is_accurate(kappa_h):
    m, d = with_outputs(1)
    n, h = len(m), kappa_h / KAPPA
    e = scipy.linalg.expm(np.block([[-m, d], [np.zeros((n, n)), m.T]]) * h)
    a, q = quantum.mp_interval_map(m, d, h)
    error = np.abs(e[n:, n:].T @ e[:n, n:] - q) / scale_of(q)
    assert error.max() < 1e-13
    np.testing.assert_allclose(e[n:, n:].T, a, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kappa_h", [1.0, 1000.0])
def test_map_is_van_loans_in_as_many_digits_as_that_needs(kappa_h):
    m, d = with_outputs(0)
    h = kappa_h / KAPPA
    a, q = quantum.mp_interval_map(m, d, h)
    a_wide, q_wide = mp_van_loan(m, d, h, 60 + int(kappa_h))
    assert_same(a, a_wide)
    assert_same(q, q_wide, scale_of(q))


# --- the Kalman filter --------------------------------------------------------------------------


def random_steps(rng, n, states=3, outputs=2, sources=6):
    """Return n different steps, and a covariance to start from."""
    steps = [
        tuple(
            rng.normal(size=shape) / 2
            for shape in (
                (states, states),
                (states, sources),
                (outputs, states),
                (outputs, sources),
            )
        )
        for _ in range(n)
    ]
    root = rng.normal(size=(states, states))
    return steps, root @ root.T + np.eye(states)


def dense_gaussian(steps, mean0, cov0):
    """Return mean and covariance of (x_1, ..., x_n, y_0, ..., y_n-1), of all causes written out."""
    states, sources = len(mean0), steps[0][1].shape[1]
    mean = np.array(mean0, float)
    reach = np.zeros((states, states + len(steps) * sources))
    reach[:, :states] = np.linalg.cholesky(cov0)
    x_rows, x_means, y_rows, y_means = [], [], [], []
    for k, (a, noise_x, c, noise_y) in enumerate(steps):
        here = slice(states + k * sources, states + (k + 1) * sources)
        y = c @ reach
        y[:, here] += noise_y
        y_rows.append(y)
        y_means.append(c @ mean)
        reach, mean = a @ reach, a @ mean
        reach[:, here] += noise_x
        x_rows.append(reach)
        x_means.append(mean)
    rows = np.concatenate(x_rows + y_rows)
    return np.concatenate(x_means + y_means), rows @ rows.T


@pytest.mark.parametrize("shared", [True, False])
def test_kalman_filter_is_the_dense_gaussian_conditioned_on_the_record(shared):
    rng = np.random.default_rng(7)
    n, states, outputs = 7, 3, 2
    steps, cov0 = random_steps(rng, n)
    if not shared:
        left, right = np.arange(6) < 3, np.arange(6) >= 3
        steps = [(a, noise * left, c, other * right) for a, noise, c, other in steps]
    mean0, y = rng.normal(size=states), rng.normal(size=(n, outputs))
    means, covs, log_likelihood = quantum.kalman_filter(steps, y, mean0, cov0)

    mean, cov = dense_gaussian(steps, mean0, cov0)
    first = n * states
    for k in range(n):
        x, seen = slice(k * states, (k + 1) * states), slice(first, first + (k + 1) * outputs)
        gain = np.linalg.solve(cov[seen, seen], cov[seen, x]).T
        expected = mean[x] + gain @ (y[: k + 1].ravel() - mean[seen])
        np.testing.assert_allclose(means[k], expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(covs[k], cov[x, x] - gain @ cov[seen, x], rtol=0, atol=1e-9)
    dense = scipy.stats.multivariate_normal(mean[first:], cov[first:, first:]).logpdf(y.ravel())
    assert log_likelihood == pytest.approx(dense, abs=1e-9)

    split = [
        (a, np.hstack([noise, 0 * noise]), c, np.hstack([0 * other, other]))
        for a, noise, c, other in steps
    ]  # the same covariances, nothing shared
    wrong = quantum.kalman_filter(split, y, mean0, cov0)
    assert (np.abs(wrong[0] - means).max() > 0.05) == shared
    assert (abs(wrong[2] - log_likelihood) > 0.05) == shared


def test_kalman_filter_takes_one_step_for_all_samples():
    rng = np.random.default_rng(8)
    (step,), cov0 = random_steps(rng, 1)
    y = rng.normal(size=(5, 2))
    one = quantum.kalman_filter(step, y, np.zeros(3), cov0)
    many = quantum.kalman_filter([step] * 5, y, np.zeros(3), cov0)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="zip"):
        quantum.kalman_filter([step] * 4, y, np.zeros(3), cov0)


# --- homodyne detection -------------------------------------------------------------------------

HOMODYNE = dict(
    omega_m=0.8,
    kappa=1.0,
    g_m=0.1,
    gamma_m=0.2,
    n_bath=0.2,
    nbar=4.0,
    delta_pc=-0.5,
    efficiency=0.8,
    angle=1.1,
)
INTERVAL = 0.01


def rms(values):
    return np.sqrt(np.mean(values**2, axis=0))


def test_vacuum_shows_nothing_in_the_record():
    # Without motion the cavity stays in vacuum, and a filter that knows the shared noise is blind.
    model = quantum.homodyne_model(**{**HOMODYNE, "g_m": 0.0})
    y = np.random.default_rng(3).normal(size=(400, 1)) / INTERVAL**0.5
    cov0 = np.diag([1.4, 1.4, 0.5, 0.5])
    for means, covs in (
        quantum.kalman_bucy(model, y, INTERVAL, 4, np.zeros(4), cov0),
        quantum.kalman_filter(quantum.homodyne_step(model, INTERVAL), y, np.zeros(4), cov0)[:2],
    ):
        assert np.abs(means).max() < 1e-13
        np.testing.assert_allclose(covs[-1], cov0, atol=1e-13)


@pytest.fixture(scope="module")
def trajectory():
    pytest.importorskip("qutip")
    return quantum.qutip_homodyne(
        5, **HOMODYNE, n_m0=0.2, interval=INTERVAL, intervals=8000, substeps=2
    )


@pytest.mark.slow
def test_trajectory_is_well_resolved(trajectory):
    assert trajectory.top.max() < 1e-4
    assert (rms(trajectory.mean) > [0.2, 0.2, 0.02, 0.04]).all()
    np.testing.assert_allclose(trajectory.cov0, np.diag([1.4, 1.4, 0.5, 0.5]), atol=1e-4)


@pytest.mark.slow
def test_qutip_and_kalman_bucy_agree_on_the_same_record(trajectory):
    def deviation(model):
        means, covs = quantum.kalman_bucy(
            model, trajectory.record, INTERVAL, 2, trajectory.mean0, trajectory.cov0
        )
        error = np.abs(covs - trajectory.covariance).max()
        return rms(means - trajectory.mean) / rms(trajectory.mean), error

    means, covariance = deviation(quantum.homodyne_model(**HOMODYNE))
    assert means.max() < 0.01
    assert covariance < 4e-3
    # What is forgotten or has the wrong sign, then what is 5 % off: by how much it must show.
    for wrong, least in (
        (dict(share=0.0), 0.3),
        (dict(share=-1.0), 0.3),
        (dict(angle=-HOMODYNE["angle"]), 0.3),
        (dict(angle=HOMODYNE["angle"] + np.pi), 0.3),
        (dict(delta_pc=-HOMODYNE["delta_pc"]), 0.3),
        (dict(kappa=1.05 * HOMODYNE["kappa"]), 0.015),
        (dict(g_m=1.05 * HOMODYNE["g_m"]), 0.015),
        (dict(efficiency=0.95 * HOMODYNE["efficiency"]), 0.015),
    ):
        means, _ = deviation(quantum.homodyne_model(**{**HOMODYNE, **wrong}))
        assert means.min() > least, wrong


@pytest.mark.slow
def test_qutip_and_the_exact_steps_agree_on_the_same_record(trajectory):
    step = quantum.homodyne_step(quantum.homodyne_model(**HOMODYNE), INTERVAL)
    means, covs, log_likelihood = quantum.kalman_filter(
        step, trajectory.record, trajectory.mean0, trajectory.cov0
    )
    assert (rms(means - trajectory.mean) < 0.01 * rms(trajectory.mean)).all()
    np.testing.assert_allclose(covs, trajectory.covariance, rtol=0, atol=1e-3)
    # The record is as likely as one of the model's own: 5 standard deviations of its chi square.
    n = len(trajectory.record)
    _, _, c, noise_y = step
    before = np.concatenate([trajectory.cov0[None], covs[:-1]])
    s = (c @ before @ c.T + noise_y @ noise_y.T).ravel()
    chi_square = -2 * log_likelihood - np.log(2 * np.pi * s).sum()
    assert abs(chi_square - n) < 5 * (2 * n) ** 0.5

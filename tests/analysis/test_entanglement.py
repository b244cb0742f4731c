"""Invariants of Gaussian states against closed forms, Fock space and NumPy's symplectic algebra."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

import jaxsde
import oracles
from jaxsde.analysis import entanglement as ent
from jaxsde.analysis.moments import pair_correlation
from jaxsde.physics.params import TWO_PI

OMEGA = np.kron(np.eye(2), [[0.0, 1.0], [-1.0, 0.0]])  # sigma/2 of two oscillators
MIRROR = np.diag([1.0, 1.0, 1.0, -1.0])
EPS = np.finfo(float).eps


# --- the same in NumPy, by the general eigenvalue problem -----------------------------------------


def spectrum(c):
    """Return the symplectic eigenvalues: moduli of the eigenvalues of i Omega C, each twice."""
    return np.sort(np.abs(np.linalg.eigvals(1j * OMEGA @ c)))[::2]


def negativity(c):
    return max(0.0, -math.log(spectrum(MIRROR @ c @ MIRROR)[0]))


def squeezed_pair(r, phase=0.0, n_a=0.0, n_b=0.0):
    """Return the covariance after exp(r (a^dag b^dag e^(i phase) - h.c.)) on thermal states."""
    ch, sh = math.cosh(r), math.sinh(r)
    mix = np.array([[np.cos(phase), np.sin(phase)], [np.sin(phase), -np.cos(phase)]])
    s = np.block([[ch * np.eye(2), sh * mix], [sh * mix, ch * np.eye(2)]])
    return s @ np.diag([2 * n_a + 1] * 2 + [2 * n_b + 1] * 2) @ s.T


def rotation(angle):
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def local(one, two):
    return np.block([[one, np.zeros((2, 2))], [np.zeros((2, 2)), two]])


def symplectic(rng, n=4):
    h = rng.normal(size=(n, n)) * 0.4
    return expm(OMEGA[:n, :n] @ (h + h.T))


def random_state(seed, least):
    """Return (C, nu): S diag(nu) S^T with the smallest nu given."""
    rng = np.random.default_rng(seed)
    nu = np.array([least, least + rng.exponential(1.0)])
    s = symplectic(rng)
    c = s @ np.diag(np.repeat(nu, 2)) @ s.T
    return (c + c.T) / 2, nu


FUNCTIONS = {
    "nu_1": lambda c: ent.symplectic_eigenvalues(c)[..., 0],
    "nu_2": lambda c: ent.symplectic_eigenvalues(c)[..., 1],
    "log_negativity": ent.log_negativity,
    "purity": ent.purity,
    "epr_variance": ent.epr_variance,
    "epr_phase": ent.epr_phase,
    "physicality": ent.physicality,
}
_compiled = jax.jit(lambda c: [f(c) for f in FUNCTIONS.values()])


def all_of(c):
    """Return nu_1, nu_2, E_N, purity and EPR variance."""
    return np.array(_compiled(jnp.asarray(c)))[:5]


# --- commutators ----------------------------------------------------------------------------------


def test_commutators_are_those_of_the_ladder_operators():
    expected = -1j * oracles.T @ oracles.J @ oracles.T.T
    np.testing.assert_allclose(ent.commutator(), expected, atol=1e-15)
    for n in (2, 4):
        np.testing.assert_allclose(ent.commutator(n), expected[:n, :n], atol=1e-15)
    with pytest.raises(ValueError, match="n_state: wanted 2, 4 or 6 variables"):
        ent.commutator(3)


@pytest.mark.parametrize("epsilon", [-1.0, 1.0])
@pytest.mark.parametrize("delta_pc", [-2e6, 0.0, 2e6])
def test_the_model_keeps_the_commutators_of_a_boson_for_both_masses(epsilon, delta_pc):
    """Only damping makes sigma decay, and the diffusion is enough to make up for it."""
    params = jaxsde.Params.kohler2018(epsilon=epsilon)
    controls = jaxsde.Controls(nbar=10.0, delta_pc=TWO_PI * delta_pc)
    m, sigma = np.asarray(jaxsde.drift(params, controls)), np.asarray(ent.commutator())
    decay = m @ sigma + sigma @ m.T
    rates = np.repeat([params.gamma_m, 0.0, 2 * params.kappa], 2)
    np.testing.assert_allclose(decay, -rates[:, None] * sigma, atol=1e-14 * np.abs(m).max())
    # d(C + i sigma/2)/dt gains D - i (M sigma + sigma M^T)/2 from noise, per unit of time.
    gained = np.linalg.eigvalsh(np.asarray(jaxsde.diffusion(params, controls)) - 0.5j * decay)
    assert gained[0] > -1e-14 * params.kappa


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("r, phase", [(0.05, 0.7), (0.6, 0.0), (0.6, -2.5), (2.0, 0.7), (4.0, 2.0)])
def test_two_mode_squeezed_vacuum(r, phase):
    c = jnp.asarray(squeezed_pair(r, phase))
    # C itself is rounded by EPS cosh 2r, which moves its eigenvalue exp(-2r) by that much.
    rel = 4 * EPS * math.exp(4 * r) + 1e-14
    np.testing.assert_allclose(ent.symplectic_eigenvalues(c), 1.0, rtol=rel)
    assert float(ent.log_negativity(c)) == pytest.approx(2 * r, abs=rel)
    assert float(ent.purity(c)) == pytest.approx(1.0, rel=rel)
    assert float(ent.epr_variance(c)) == pytest.approx(2 * math.exp(-2 * r), rel=rel)
    assert abs(float(ent.physicality(c))) < 4 * EPS * math.exp(2 * r)
    # <a b> = e^(i phase) sinh r cosh r, and the minimum turns it to a negative real number.
    turned = complex(pair_correlation(c)) * np.exp(1j * float(ent.epr_phase(c)))
    assert turned == pytest.approx(-math.sinh(r) * math.cosh(r), rel=1e-12)


@pytest.mark.parametrize("r, n_a, n_b", [(0.2, 0.8, 0.3), (1.0, 0.8, 0.3), (0.7, 0.5, 0.5)])
def test_two_mode_squeezed_thermal_states(r, n_a, n_b):
    a, b, s = 2 * n_a + 1, 2 * n_b + 1, math.sinh(r) ** 2
    c = squeezed_pair(r, 0.4, n_a, n_b)
    nu, e_n, purity, epr = np.split(all_of(c), [2, 3, 4])
    np.testing.assert_allclose(nu, [b, a], rtol=1e-13)
    # Variances one and two, correlation k; one = two gives ln a - 2r.
    one, two, k = a + (a + b) * s, b + (a + b) * s, (a + b) / 2 * math.sinh(2 * r)
    least = (one + two) / 2 - math.sqrt((one - two) ** 2 / 4 + k**2)
    assert e_n[0] == pytest.approx(max(0.0, -math.log(least)), abs=1e-13)
    assert (e_n[0] > 0.1) == (r > 0.5)
    assert purity[0] == pytest.approx(1 / (a * b), rel=1e-13)
    assert epr[0] == pytest.approx((a + b) * math.exp(-2 * r), rel=1e-13)


@pytest.mark.parametrize("seed", range(4))
def test_product_states_are_not_entangled(seed):
    rng = np.random.default_rng(seed)
    nu = 1 + rng.exponential(0.5, 2)
    root = local(symplectic(rng, 2), symplectic(rng, 2)) @ np.diag(np.repeat(np.sqrt(nu), 2))
    *got, e_n, _, epr = all_of(root @ root.T)
    np.testing.assert_allclose(got, np.sort(nu), rtol=1e-12)
    assert e_n == 0.0 and epr >= 2.0


def test_the_vacuum_is_where_the_scales_begin():
    np.testing.assert_array_equal(all_of(np.eye(4)), [1.0, 1.0, 0.0, 1.0, 2.0])
    with_cavity = jnp.asarray(np.diag([1.0] * 4 + [0.5] * 2))
    assert float(ent.purity(with_cavity)) == pytest.approx(1.0, rel=1e-15)
    assert abs(float(ent.physicality(with_cavity))) < 1e-15
    assert float(ent.purity(3 * jnp.eye(2))) == pytest.approx(1 / 3, rel=1e-15)


def test_a_beam_splitter_entangles_squeezed_states():
    """Squeezed in Z and in P, mixed half and half: a two-mode squeezed vacuum of the same r."""
    r = 0.8
    c = np.diag(np.exp([-2 * r, 2 * r, 2 * r, -2 * r]))
    for angle, expected in ((0.0, 0.0), (0.3, None), (np.pi / 4, 2 * r)):
        mix = np.kron(rotation(angle), np.eye(2))
        turned = mix @ c @ mix.T
        *nu, e_n, _, epr = all_of(turned)
        np.testing.assert_allclose(nu, 1, rtol=1e-13)
        expected = negativity(turned) if expected is None else expected
        assert e_n == pytest.approx(expected, abs=1e-12)
    assert epr == pytest.approx(2 * math.exp(-2 * r))


@pytest.mark.parametrize("seed", range(3))
def test_local_rotations_change_nothing(seed):
    c, _ = random_state(seed, 1.3)
    turn = local(rotation(0.9), rotation(-2.1))
    np.testing.assert_allclose(all_of(turn @ c @ turn.T), all_of(c), rtol=1e-12)
    # Local squeezing changes only the EPR variance.
    squeeze = local(np.diag([2.0, 0.5]), np.eye(2))
    np.testing.assert_allclose(all_of(squeeze @ c @ squeeze.T)[:4], all_of(c)[:4], rtol=1e-11)


def test_epr_variance_is_the_minimum_over_the_phase():
    c, _ = random_state(5, 1.1)
    angles = np.linspace(-np.pi, np.pi, 2001)
    sums = []
    for phi in [*angles, float(ent.epr_phase(jnp.asarray(c)))]:
        turn = local(np.eye(2), rotation(-phi))  # b -> b exp(i phi)
        rows = np.array([[1, 0, 1, 0], [0, 1, 0, -1]]) / math.sqrt(2) @ turn
        sums.append(np.trace(rows @ c @ rows.T))
    least = all_of(c)[4]
    assert sums[-1] == pytest.approx(least, rel=1e-12)
    # The grid's nearest point is at most 1.6e-3 rad away: larger by 1.2e-6 of 4 |<a b>|.
    assert least <= min(sums[:-1]) * (1 + 1e-12) < least * (1 + 1e-4)


# --- random states and Fock space -----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_random_states_of_known_spectrum(seed):
    c, nu = random_state(seed, 1.0 + 0.1 * (seed % 2))
    got_nu, e_n, purity, epr = np.split(all_of(c), [2, 3, 4])
    np.testing.assert_allclose(got_nu, nu, rtol=1e-11)
    np.testing.assert_allclose(got_nu, spectrum(c), rtol=1e-10)
    assert e_n[0] == pytest.approx(negativity(c), abs=1e-10)
    assert purity[0] == pytest.approx(1 / (nu[0] * nu[1]), rel=1e-11)
    assert e_n[0] > 0 or epr[0] >= 2  # Duan's criterion is the weaker one
    ent.check_physical(jnp.asarray(c))
    flipped = jnp.asarray(MIRROR @ c @ MIRROR)  # a state still if and only if not entangled (Simon)
    assert (float(ent.physicality(flipped)) < -1e-9) == (e_n[0] > 1e-9)


def test_fock_space_gives_the_same():
    """Tr rho^2, ln |rho^T_b|_1 and <x_i x_j> of a mixed entangled state in 26 x 26 levels."""
    n = 26
    a = np.kron(np.diag(np.sqrt(np.arange(1, n)), 1), np.eye(n))
    b = np.kron(np.eye(n), np.diag(np.sqrt(np.arange(1, n)), 1))
    generator = 0.35 * np.exp(0.9j) * a.T @ b.T + 0.3 * a @ b.T + 0.08j * a.T @ a.T
    u = expm(generator - generator.conj().T)
    thermal = [(q := k / (1 + k)) ** np.arange(n) * (1 - q) for k in (0.15, 0.05)]
    rho = (u * np.kron(*thermal)) @ u.conj().T
    x = [a + a.T, 1j * (a.T - a), b + b.T, 1j * (b.T - b)]
    products = np.array([[np.sum((rho @ p) * q.T) for q in x] for p in x])
    np.testing.assert_allclose(products.imag, np.asarray(ent.commutator(4)) / 2, atol=1e-6)
    c = jnp.asarray(products.real)
    transposed = rho.reshape(n, n, n, n).transpose(0, 3, 2, 1).reshape(n * n, n * n)
    expected = math.log(np.abs(np.linalg.eigvalsh(transposed)).sum())
    assert expected > 0.3
    assert float(ent.log_negativity(c)) == pytest.approx(expected, abs=1e-5)
    assert float(ent.purity(c)) == pytest.approx(np.sum(np.abs(rho) ** 2), abs=1e-6)
    assert float(ent.physicality(c)) == pytest.approx(np.linalg.eigvalsh(products)[0], abs=1e-6)


# --- the uncertainty relation ---------------------------------------------------------------------


FORBIDDEN = dict(
    quiet=np.diag([0.99, 1.0, 1.0, 1.0]),
    squeezed=np.diag([1.0, 1.0, 0.4, 2.0]),
    correlated=np.eye(4) + 0.1 * np.eye(4)[::-1],
    transposed=MIRROR @ squeezed_pair(0.1) @ MIRROR,
    cavity=np.diag([1.0, 1.0, 1.0, 1.0, 0.5, 0.49]),
    spectrum=random_state(3, 0.98)[0],
    indefinite=np.diag([1.0, -1.0, 1.0, 1.0]),
)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_violates_the_uncertainty_relation_is_found_out(name):
    c = FORBIDDEN[name]
    least = np.linalg.eigvalsh(c + 0.5j * np.asarray(ent.commutator(len(c))))[0]
    assert least < -1e-4
    assert float(ent.physicality(jnp.asarray(c))) == pytest.approx(least, rel=1e-10)
    with pytest.raises(ValueError, match=r"C of the pulse: .*uncertainty.*more shots") as e:
        ent.check_physical(jnp.asarray(c), "C of the pulse")
    assert f"{least:.3g}" in str(e.value)


def test_the_check_scales_its_tolerance_and_names_the_place():
    good = squeezed_pair(3.0)
    ent.check_physical(jnp.asarray(good))
    ent.check_physical(jnp.asarray(good, jnp.float32))
    slack = ent.ROUNDING * EPS * np.abs(good).max()
    ent.check_physical(jnp.asarray(good - 0.5 * slack * np.eye(4)))
    with pytest.raises(ValueError, match="uncertainty relation"):
        ent.check_physical(jnp.asarray(good - 2 * slack * np.eye(4)))
    batch = jnp.asarray(np.stack([[good, np.eye(4)], [0.9 * np.eye(4), 0.99 * np.eye(4)]]))
    with pytest.raises(ValueError, match=r"P\[1, 0\]: .*-0\.1 "):
        ent.check_physical(batch, "P")


@pytest.mark.parametrize(
    "message, c",
    [
        ("finite numbers", np.diag([np.nan, 1.0, 1.0, 1.0])),
        ("finite numbers", np.diag([np.inf, 1.0, 1.0, 1.0])),
        ("symmetric", 2 * np.eye(4) + 1e-3 * np.eye(4, k=1)),
        ("2, 4 or 6 variables", np.eye(3)),
    ],
)
def test_what_is_no_covariance_is_refused(message, c):
    with pytest.raises(ValueError, match=message):
        ent.check_physical(jnp.asarray(c))
    if len(c) == 3:
        with pytest.raises(ValueError, match=message):
            ent.purity(jnp.asarray(c))


def test_an_indefinite_matrix_has_no_entanglement():
    assert np.isnan(all_of(np.diag([1.0, -1.0, -1.0, 1.0]))[:4]).all()


# --- gradients, batches, precision ----------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_finite_differences(name):
    f, c, step = jax.jit(FUNCTIONS[name]), squeezed_pair(0.9, 0.7, 0.4, 0.1), 1e-5
    rng = np.random.default_rng(2)
    gradient = np.asarray(jax.grad(f)(jnp.asarray(c)))
    for _ in range(4):
        way = rng.normal(size=(4, 4))
        way = way + way.T
        up, down = (float(f(jnp.asarray(c + s * step * way))) for s in (1, -1))
        assert np.sum(gradient * way) == pytest.approx((up - down) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n != "epr_phase"])
def test_gradients_stay_finite_where_the_state_is_pure(name):
    f = jax.jit(FUNCTIONS[name])
    for r in (0.0, 0.4):
        c = jnp.asarray(squeezed_pair(r))
        assert np.isfinite(jax.grad(f)(c)).all() and np.isfinite(jax.jacfwd(f)(c)).all()
    if name == "log_negativity":  # E_N = 2r
        along = (squeezed_pair(r + 1e-6) - squeezed_pair(r - 1e-6)) / 2e-6
        assert np.sum(jax.grad(f)(c) * along) == pytest.approx(2.0, rel=1e-8)


def test_leading_axes_are_a_batch_and_float32_will_do():
    states = np.stack([random_state(seed, 1.2)[0] for seed in range(6)]).reshape(2, 3, 4, 4)
    whole = _compiled(jnp.asarray(states))
    each = [[_compiled(jnp.asarray(c)) for c in row] for row in states]
    np.testing.assert_allclose(whole, np.moveaxis(each, 2, 0), rtol=1e-10, atol=1e-14)
    single = _compiled(jnp.asarray(states, jnp.float32))
    assert {value.dtype for value in single} == {np.dtype("float32")}
    np.testing.assert_allclose(single, whole, rtol=2e-3, atol=1e-4)

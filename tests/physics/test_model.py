import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
from jaxsde.physics import model
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls


def random_case(seed, epsilon):
    rng = np.random.default_rng(seed)
    names = ("omega_m", "omega_s", "kappa", "gamma_m", "n_bath", "B_s")
    positive = {name: rng.uniform(0.1, 3.0) for name in names}
    coupling = {name: rng.normal() for name in ("g_m", "g_s", "g_sm")}
    params = Params(**positive, **coupling, epsilon=epsilon)
    return params, Controls(nbar=rng.uniform(0, 5), delta_pc=rng.normal())


def oracle_drift(params, controls):
    names = ("omega_m", "omega_s", "epsilon", "kappa", "g_m", "g_s", "g_sm", "gamma_m")
    return oracles.hamiltonian_drift(
        **{name: getattr(params, name) for name in names},
        nbar=controls.nbar,
        delta_pc=controls.delta_pc,
    )


def oracle_diffusion(params):
    return oracles.diffusion(
        gamma_m=params.gamma_m, n_bath=params.n_bath, b_s=params.B_s, kappa=params.kappa
    )


@pytest.mark.parametrize("epsilon", [-1.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_drift_is_what_the_hamiltonian_gives(seed, epsilon):
    params, controls = random_case(seed, epsilon)
    expected = oracle_drift(params, controls)
    np.testing.assert_allclose(model.drift(params, controls), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("epsilon", [-1.0, 1.0])
def test_drift_at_the_papers_scale(epsilon):
    params = Params.kohler2018(epsilon=epsilon)
    controls = Controls(nbar=10.0, delta_pc=TWO_PI * -2e6)
    expected = oracle_drift(params, controls)
    np.testing.assert_allclose(model.drift(params, controls), expected, rtol=1e-12, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_diffusion_follows_from_the_noise_conventions(seed):
    params, controls = random_case(seed, -1.0)
    expected = oracle_diffusion(params)
    np.testing.assert_allclose(model.diffusion(params, controls), expected, rtol=1e-13, atol=1e-15)


def test_diffusion_takes_the_overrides_of_a_stage():
    params, controls = random_case(0, -1.0)
    controls = dataclasses.replace(controls, B_s=0.0, n_bath=7.0)
    expected = oracle_diffusion(dataclasses.replace(params, B_s=0.0, n_bath=7.0))
    np.testing.assert_allclose(model.diffusion(params, controls), expected, rtol=1e-13, atol=1e-15)


def test_uncoupled_system_stays_in_its_thermal_state():
    params = Params.kohler2018(n_bath=3.0, n_m0=3.0, n_s0=2.0, B_s=0.0)
    m = model.drift(params, Controls(nbar=0.0, delta_pc=1e6))
    p = model.initial_covariance(params)
    rate = m @ p + p @ m.T + model.diffusion(params, Controls(nbar=0.0))
    np.testing.assert_allclose(rate, 0.0, atol=1e-8)
    n_a, n_b, ab, adb = oracles.two_modes(p)
    assert (n_a, n_b, ab, adb) == (3.0, 2.0, 0.0, 0.0)
    assert p[4, 4] == p[5, 5] == 0.5


def test_spin_diffusion_counts_quanta_per_second():
    params = Params.kohler2018(B_s=3e4)
    d = model.diffusion(params, Controls(nbar=0.0))
    assert (d[2, 2] + d[3, 3]) / 4 == 3e4


def test_ramp_is_linear_and_the_rest_of_the_matrix_does_not_move():
    params, controls = random_case(1, -1.0)
    ramp = dataclasses.replace(controls, omega_m=(2.0, 6.0))
    for at, omega in ((0.0, 2.0), (0.25, 3.0), (1.0, 6.0)):
        expected = oracle_drift(dataclasses.replace(params, omega_m=omega), controls)
        got = model.drift(params, ramp, at)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)
    held = dataclasses.replace(controls, omega_m=5.0)
    assert model.drift(params, held, 0.7)[0, 1] == 5.0
    assert model.drift(params, controls, 0.7)[0, 1] == params.omega_m


def test_measured_displacement():
    params, _ = random_case(2, -1.0)
    np.testing.assert_array_equal(model.measured(params), [params.g_m, 0, params.g_s, 0, 0, 0])
    x = np.random.default_rng(0).normal(size=(3, 100, 6))
    covariance = np.einsum("bni,bnj->bij", x, x) / 100
    direct = np.mean((params.g_m * x[..., 0] + params.g_s * x[..., 2]) ** 2, axis=1)
    got = model.joint_displacement(params, jnp.asarray(covariance))
    np.testing.assert_allclose(got, direct, rtol=1e-12)


@pytest.mark.parametrize("differentiate", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("nbar, delta_pc", [(0.0, 0.0), (4.0, 0.0), (0.0, 1e6)])
def test_gradients_are_finite_and_right_in_the_dark_and_on_resonance(differentiate, nbar, delta_pc):
    params = jax.tree.map(jnp.asarray, Params.kohler2018())
    controls = Controls(nbar=jnp.asarray(nbar), delta_pc=jnp.asarray(delta_pc))
    d_params, d_controls = differentiate(model.drift, argnums=(0, 1))(params, controls)
    d_noise = differentiate(model.diffusion)(params, controls)
    for leaf in jax.tree.leaves((d_params, d_controls, d_noise)):
        assert leaf.shape == (6, 6)
        assert jnp.isfinite(leaf).all()
    root = np.sqrt(2 * nbar)
    assert d_params.g_m[1, 4] == pytest.approx(-2 * root)
    assert d_params.g_m[5, 0] == pytest.approx(root)
    assert d_controls.delta_pc[4, 5] == 1.0 == -d_controls.delta_pc[5, 4]
    assert d_noise.B_s[2, 2] == 4.0
    assert d_noise.gamma_m[0, 0] == 2 * params.n_bath + 1


def test_drift_works_under_vmap_and_jit():
    params, controls = random_case(3, -1.0)
    omegas = jnp.array([1.0, 2.0])

    @jax.jit
    @jax.vmap
    def drifts(omega):
        return model.drift(dataclasses.replace(params, omega_m=omega), controls)

    for omega, got in zip(omegas, drifts(omegas), strict=True):
        one = oracle_drift(dataclasses.replace(params, omega_m=float(omega)), controls)
        np.testing.assert_allclose(got, one, rtol=1e-12, atol=1e-13)

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsde.physics.params import TWO_PI, Params, check_params

FIELDS = [f.name for f in dataclasses.fields(Params)]


def test_kohler2018_holds_the_printed_values():
    params = Params.kohler2018()
    in_hertz = dict(
        omega_m=95e3, omega_s=120e3, kappa=1.82e6, g_m=26e3, g_s=-18e3, g_sm=120.0,
        gamma_m=2e3, sigma_m=500.0, sigma_s=200.0,
    )  # fmt: skip
    for name, value in in_hertz.items():
        assert getattr(params, name) == pytest.approx(TWO_PI * value, rel=1e-14), name
    assert (params.n_bath, params.epsilon) == (1.0, -1.0)
    check_params(params)


def test_from_atoms_gives_the_papers_couplings():
    params = Params.from_atoms(
        3000,
        TWO_PI * -3.94e3,
        kappa=TWO_PI * 1.82e6,
        omega_m=TWO_PI * 95e3,
        omega_s=TWO_PI * 120e3,
        omega_ho=TWO_PI * 110e3,
        B_s=5.0,
    )
    assert params.g_m / TWO_PI == pytest.approx(26.6e3, abs=50)
    assert params.g_s / TWO_PI == pytest.approx(-18.0e3, abs=50)
    assert params.g_sm / TWO_PI == pytest.approx(121.6, abs=0.1)  # printed without its fraction
    assert params.B_s == 5.0
    check_params(params)


def test_from_atoms_takes_the_zero_point_length_at_omega_m_unless_told():
    common = dict(kappa=1e7, omega_m=TWO_PI * 95e3, omega_s=TWO_PI * 120e3)
    usual = Params.from_atoms(3000, -2e4, **common)
    other = Params.from_atoms(3000, -2e4, omega_ho=4 * common["omega_m"], **common)
    assert usual == Params.from_atoms(3000, -2e4, omega_ho=common["omega_m"], **common)
    assert other.g_m == pytest.approx(usual.g_m / 2, rel=1e-14)
    assert other.g_sm == pytest.approx(usual.g_sm / 2, rel=1e-14)
    assert other.g_s == usual.g_s


@pytest.mark.parametrize("name", ["n_atoms", "wavelength", "mass", "omega_ho"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_from_atoms_refuses(name, value):
    arguments = dict(n_atoms=3000.0, g_c=-2e4, kappa=1e7, omega_m=6e5, omega_s=7e5)
    with pytest.raises(ValueError, match=rf"^{name}: wanted a positive number, got {value}"):
        Params.from_atoms(**(arguments | {name: value}))


def test_overrides_replace_and_unknown_ones_are_refused():
    assert Params.kohler2018(g_m=3.0).g_m == 3.0
    with pytest.raises(ValueError, match=r"^gm: no such parameter; known are omega_m, .*n_s0$"):
        Params.kohler2018(gm=3.0)


def test_every_field_is_a_leaf():
    leaves, tree = jax.tree.flatten(Params.kohler2018())
    assert len(leaves) == len(FIELDS) == 14
    again = jax.tree.unflatten(tree, range(14))
    assert [getattr(again, name) for name in FIELDS] == list(range(14))


def test_params_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Params.kohler2018().g_m = 1.0


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [math.nan, math.inf, np.array([]), np.array(["x"])])
def test_check_params_refuses_what_is_no_finite_number(name, value):
    with pytest.raises(ValueError, match=rf"^params\.{name}: wanted a finite number, got "):
        check_params(Params.kohler2018(**{name: value}))


@pytest.mark.parametrize("name", ["omega_m", "omega_s", "kappa"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.array([1.0, -1.0])])
def test_check_params_refuses_what_is_not_positive(name, value):
    with pytest.raises(ValueError, match=rf"^params\.{name}: wanted a positive number, got "):
        check_params(Params.kohler2018(**{name: value}))


@pytest.mark.parametrize("name", ["gamma_m", "n_bath", "B_s", "sigma_m", "sigma_s", "n_m0", "n_s0"])
def test_check_params_refuses_negative_rates_and_accepts_zero(name):
    check_params(Params.kohler2018(**{name: 0.0}))
    with pytest.raises(ValueError, match=rf"^params\.{name}: wanted zero or more, got -1e-09"):
        check_params(Params.kohler2018(**{name: -1e-9}))


@pytest.mark.parametrize("value", [0, 0.5, -2.0, np.array([1.0, 0.0])])
def test_check_params_refuses_a_mass_sign_other_than_one(value):
    with pytest.raises(ValueError, match=r"^params\.epsilon: wanted -1 .* or \+1 .*, got "):
        check_params(Params.kohler2018(epsilon=value))


def test_check_params_accepts_arrays_couplings_of_any_sign_and_tracers():
    check_params(Params.kohler2018(omega_m=jnp.array([1.0, 2.0]), g_m=-1.0, epsilon=1))

    @jax.jit
    def traced(kappa):
        check_params(Params.kohler2018(kappa=kappa))
        return kappa

    assert traced(-1.0) == -1.0

"""Entanglement of motion and spin in the paper's experiment, and where noise ends it."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
import oracles
from jaxsde.analysis import entanglement as ent
from jaxsde.analysis.moments import occupations, pair_correlation
from jaxsde.engine.resolution import choose_resolution
from jaxsde.physics.params import TWO_PI

OMEGA = np.kron(np.eye(2), [[0.0, 1.0], [-1.0, 0.0]])  # sigma/2 of two oscillators
MIRROR = np.diag([1.0, 1.0, 1.0, -1.0])


def negativity(c):
    """Return E_N by NumPy's eigenvalues of i Omega C~."""
    return max(0.0, -math.log(np.abs(np.linalg.eigvals(1j * OMEGA @ MIRROR @ c @ MIRROR)).min()))


QUIET = dict(B_s=0.0, gamma_m=0.0, sigma_m=0.0, sigma_s=0.0, n_m0=0.0, n_s0=0.0)


@pytest.mark.parametrize("epsilon", [-1.0, 1.0])
@pytest.mark.parametrize("delta_pc", [-2.0e6, 2.0e6])
@pytest.mark.parametrize("changes", [{}, QUIET])
def test_the_papers_sequence_is_physical_throughout(epsilon, delta_pc, changes):
    params = jaxsde.Params.kohler2018(epsilon=epsilon, **changes)
    sequence = jaxsde.Sequence.kohler2018(delta_pc=TWO_PI * delta_pc, t_ringdown=20e-6)
    c = jaxsde.covariance(params, sequence, nodes=(5, 5))
    ent.check_physical(c, "covariance")
    ent.check_physical(c[:, :4, :4], "C")
    # The cavity is all but in vacuum, so a thousandth less variance is too little.
    with pytest.raises(ValueError, match="less"):
        ent.check_physical(0.999 * c, "less")
    # Of the four cases only the quiet negative mass, red-detuned, leaves the pulse entangled.
    entangled = np.asarray(ent.log_negativity(c[:, :4, :4])) > 0
    at = [s.name for s in sequence.stages].index("pulse")
    assert entangled[at] == (epsilon == -1 and delta_pc < 0 and changes == QUIET)


@functools.cache
def pulse(epsilon=-1.0, delta_pc=-2.0e6, delta=5.5e3, **changes):
    """Return (C of the package, C of NumPy) after 20 and 60 us of the pulse, nbar 10."""
    params = jaxsde.Params.kohler2018(**{**QUIET, "epsilon": epsilon, **changes})
    omega_m = params.omega_s + TWO_PI * delta
    controls = jaxsde.Controls(nbar=10.0, delta_pc=TWO_PI * delta_pc, omega_m=omega_m)
    counts = dict(first=40, then=80)
    stages = tuple(jaxsde.Stage(name=k, n_samples=n, controls=controls) for k, n in counts.items())
    sequence = jaxsde.Sequence(stages=stages, sample_interval=0.5e-6)
    c = jaxsde.covariance(params, sequence, nodes=(1, 1))
    p = {k: getattr(params, k) for k in ("omega_s", "epsilon", "g_m", "g_s", "g_sm")}
    both = dict(kappa=params.kappa, gamma_m=params.gamma_m)
    light = dict(nbar=10.0, delta_pc=TWO_PI * delta_pc)
    m = oracles.hamiltonian_drift(**p, **both, **light, omega_m=omega_m)
    d = oracles.diffusion(**both, n_bath=params.n_bath, b_s=params.B_s)
    start = np.diag([2 * params.n_m0 + 1] * 2 + [2 * params.n_s0 + 1] * 2 + [0.5] * 2)
    ends = oracles.moment_ode([(t, lambda f: m, d) for t in (20e-6, 40e-6)], start)
    return np.asarray(c)[:, :4, :4], np.array(ends)[:, :4, :4]


@pytest.mark.parametrize(
    "case, expected",
    [
        # From vacuum, without bath and B_s: entangled within 20 us, then limited by back-action.
        (dict(), (0.417, 0.589)),
        # Optical and static spring oppose one another: a fifth to a quarter of that.
        (dict(delta_pc=2.0e6, delta=-5.5e3), (0.079, 0.153)),
        # Further from resonance a photon that makes spring measures less.
        (dict(delta_pc=-10.0e6), (0.470, 1.184)),
        # A positive mass swaps quanta and is heated.
        (dict(epsilon=1.0), (0.0, 0.0)),
        # Occupations of 1 only delay it; the bath takes two thirds, B_s all.
        (dict(n_m0=1.0, n_s0=1.0), (0.0, 0.304)),
        (dict(gamma_m=TWO_PI * 2e3), (0.227, 0.191)),
        (dict(B_s=3e4), (0.0, 0.0)),
    ],
    ids=["red", "blue", "far", "positive", "thermal", "bath", "B_s"],
)
def test_the_pulse_entangles_motion_and_spin_when_it_is_quiet(case, expected):
    c, oracle = pulse(**case)
    np.testing.assert_allclose(c, oracle, rtol=1e-8, atol=1e-8 * np.abs(oracle).max())
    e_n = np.asarray(ent.log_negativity(jnp.asarray(c)))
    np.testing.assert_allclose(e_n, [negativity(p) for p in oracle], atol=1e-6)
    np.testing.assert_allclose(e_n, expected, atol=6e-4)
    assert (np.asarray(ent.physicality(jnp.asarray(c))) > 0).all()


def test_the_quiet_pulse_beats_duans_bound_with_a_boson_whatever_its_mass():
    c = jnp.asarray(pulse()[0])
    epr = np.asarray(ent.epr_variance(c))
    np.testing.assert_allclose(epr, [1.337, 1.121], atol=6e-4)
    n_m, n_s = occupations(c)
    np.testing.assert_allclose(epr, 2 * (1 + n_m + n_s - 2 * np.abs(pair_correlation(c))))
    # Were [b, b^dag] = epsilon, these states would break the uncertainty relation.
    turned = np.asarray(c[1]) + 0.5j * np.diag([1.0, 1, -1, -1]) @ np.asarray(ent.commutator(4))
    assert np.linalg.eigvalsh(turned)[0] < -0.1


def test_the_gradient_reaches_the_parameters_of_the_experiment():
    drive = jaxsde.Controls(nbar=10.0, delta_pc=-2e6 * TWO_PI, omega_m=TWO_PI * 125.5e3)
    stages = (jaxsde.Stage(name="pulse", n_samples=40, controls=drive),)
    sequence = jaxsde.Sequence(stages=stages, sample_interval=0.5e-6)
    resolution = choose_resolution(jaxsde.Params.kohler2018(**QUIET), sequence)

    @jax.jit
    def entanglement(g_sm):
        params = jaxsde.Params.kohler2018(**QUIET, g_sm=g_sm)
        c = jaxsde.covariance(params, sequence, resolution=resolution, nodes=(1, 1))
        return ent.log_negativity(c[0, :4, :4])

    g_sm, step = TWO_PI * 120.0, TWO_PI * 0.1
    slope = float(entanglement(g_sm + step) - entanglement(g_sm - step)) / (2 * step)
    assert slope > 0
    assert float(jax.grad(entanglement)(g_sm)) == pytest.approx(slope, rel=1e-5)

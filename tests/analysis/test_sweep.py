"""Swept probe: atom number and polarisation from counts of known expectation."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxsde.analysis.sweep import atoms_from_sweeps, fit_resonance, transmission

TWO_PI = 2 * np.pi
G_C, KAPPA, ATOMS, POLARISATION = -TWO_PI * 3.94e3, TWO_PI * 1.82e6, 3000.0, 0.8
DETUNING = TWO_PI * np.linspace(-11e6, 3e6, 57)
SWEEPS = 300


def shift(sign):
    return G_C * (2 / 3 * ATOMS + sign * 2 * ATOMS * POLARISATION / 6) / 2


def sweeps(sign, seed):
    x = jnp.array([300.0, shift(sign), KAPPA, 8.0])
    mean = np.asarray(transmission(x, jnp.asarray(DETUNING)))
    counts = np.random.default_rng(seed).poisson(mean, (SWEEPS, len(mean))).astype(float)
    return counts, np.broadcast_to(np.sqrt(mean), counts.shape)


@pytest.fixture(scope="module")
def fits():
    made = []
    for sign, seed in ((1, 0), (-1, 1)):
        counts, error = sweeps(sign, seed)
        made.append(
            fit_resonance(
                jnp.asarray(DETUNING), jnp.asarray(counts), jnp.asarray(error), kappa=1.4 * KAPPA
            )
        )
    return made


def test_fits_are_scipys(fits):
    counts, error = sweeps(1, 0)
    for k in range(3):
        found, cov = scipy.optimize.curve_fit(
            lambda d, p, s, w, b: p / (1 + ((d - s) / w) ** 2) + b,
            DETUNING,
            counts[k],
            [300.0, shift(1), KAPPA, 8.0],
            error[k],
            absolute_sigma=True,
        )
        assert fits[0].shift[k] == pytest.approx(found[1], rel=1e-5)
        assert fits[0].kappa[k] == pytest.approx(abs(found[2]), rel=1e-4)
        assert fits[0].shift_stderr[k] == pytest.approx(np.sqrt(cov[1, 1]), rel=1e-3)


def test_atoms_are_unbiased_and_their_errors_cover(fits):
    """300 pairs: mean z within 3.5/sqrt(300), share within one error within 3.5 of binomial."""
    atoms = atoms_from_sweeps(*fits, G_C)
    truth = dict(n_atoms=ATOMS, F_x=2 * ATOMS * POLARISATION, polarisation=POLARISATION)
    for name, true in truth.items():
        z = (getattr(atoms, name) - true) / getattr(atoms, name + "_stderr")
        assert abs(z.mean()) < 3.5 / np.sqrt(SWEEPS), name
        assert abs(np.mean(np.abs(z) < 1) - 0.683) < 3.5 * np.sqrt(0.683 * 0.317 / SWEEPS), name
    for fit in fits:
        assert fit.chi2.mean() == pytest.approx(fit.dof, abs=4 * np.sqrt(2 * fit.dof / SWEEPS))
    # The sweeps in the other order are those of an inverted spin.
    inverted = atoms_from_sweeps(fits[1], fits[0], G_C)
    np.testing.assert_allclose(inverted.polarisation, -atoms.polarisation)


def test_refusals():
    good = jnp.ones((1, 8)).at[0, 4].set(3.0)
    x = jnp.arange(8.0)
    with pytest.raises(ValueError, match=r"^detuning: wanted at least 6 points, got 3"):
        fit_resonance(x[:3], good[:, :3], good[:, :3], kappa=1.0)
    with pytest.raises(ValueError, match=r"^stderr: wanted positive numbers"):
        fit_resonance(x, good, 0 * good, kappa=1.0)
    with pytest.raises(ValueError, match=r"^sweep 0: wanted its maximum inside"):
        fit_resonance(x, jnp.arange(8.0)[None], good, kappa=1.0)

import numpy as np
import pytest

from jaxsde.lab.gallery import modes
from jaxsde.lab.gallery.draw_modes import plus
from jaxsde.lab.gallery.settings import KHZ, Settings


@pytest.fixture(scope="module")
def record():
    """The dataset of Figs. 1a and 1b at five detunings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modes, "DELTAS", np.array([-14.0, -4.0, 0.0, 4.0, 14.0]) * KHZ)
        told = []
        made = modes.make_modes(Settings(shots=60, seed=3), lambda *a: told.append(a))
    assert told[-1] == (10, 10)
    return made


def test_the_spring_is_that_of_the_papers_pulse(record):
    assert record.facts["spring"] / KHZ == pytest.approx(7.52, abs=0.005)


def test_theory_is_equation_1(record):
    delta, spring = record["delta"], record.facts["spring"]
    repelled = np.sqrt(delta**2 + spring**2) / 2
    np.testing.assert_allclose(record["theory_real"][0], np.stack([repelled, -repelled], 1))
    np.testing.assert_allclose(record["theory_imag"][0], 0, atol=1e-9)
    gain = np.sqrt(np.maximum(spring**2 - delta**2, 0.0))
    np.testing.assert_allclose(2 * record["theory_imag"][1][:, 0], gain, atol=1e-6)


def test_two_positive_masses_do_not_grow(record):
    z = record["imag"][0] / record["imag_error"][0]
    # Ten numbers with errors of a few percent of themselves.
    assert np.all(np.abs(z) < 5)
    assert np.abs(2 * record["imag"][0]).max() < 0.1 * record.facts["spring"]


def test_the_gain_of_a_negative_mass_is_that_of_equation_1(record):
    rows = np.arange(5)
    gain = 2 * record["imag"][1][rows, plus(record, 1)]
    theory = 2 * record["theory_imag"][1][:, 0]
    error = 2 * record["imag_error"][1][rows, plus(record, 1)]
    # Beyond the rotating wave the exact gain differs by some 1e-3 of itself.
    assert np.all(np.abs(gain - theory) < 5 * error + 3e-3 * theory)
    assert gain[2] == pytest.approx(record.facts["spring"], rel=0.01)
    # Between +-Omega the two frequencies are one.
    lost = record["real"][1][1:4][np.arange(3), plus(record, 1)[1:4]]
    assert np.all(np.abs(lost) < 0.2 * KHZ)


def test_levels_repel(record):
    split = np.ptp(record["real"][0], axis=1)
    wanted = np.sqrt(record["delta"] ** 2 + record.facts["spring"] ** 2)
    np.testing.assert_allclose(split, wanted, rtol=0.02)

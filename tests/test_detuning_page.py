"""bench/detuning.py finds known peaks; docs/open-question-detuning.md says what it kept."""

import importlib
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
import scipy.linalg

from jaxsde.physics.model import drift

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs" / "open-question-detuning.md"
DATA = json.loads((ROOT / "docs" / "data" / "open-question-detuning.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def bench():
    sys.path.append(str(ROOT / "bench"))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(ROOT / "bench"))


@pytest.fixture(scope="module")
def chain(bench):
    return bench("detuning_chain")


@pytest.fixture(scope="module")
def peak(bench):
    return bench("detuning_peak")


@pytest.fixture(scope="module")
def pushed(chain):
    """Return a short pulse with the push: its setting, delta, mean D, mean x after each stage."""
    setting, delta = chain.Setting(t_c=20e-6, pushed=True), 4.0 * chain.KHZ
    mean, ends = chain.mean_motion(setting, delta, np.zeros((2, 1)))
    return setting, delta, np.asarray(mean)[0], np.asarray(ends)[:, 0]


@pytest.mark.parametrize("at", [-4.3, 5.55, 14.0])
def test_the_peak_of_a_resonance_is_found(chain, peak, at):
    delta = np.arange(-14.0, 26.0, 2.0)
    ellipse = np.sqrt(np.maximum(0.0, 1 - ((delta - at) / 7.5) ** 2)) * 4e4
    parabola = np.maximum(0.0, 1 - ((delta - at) / 9.0) ** 2) * 4e4
    # A half ellipse is no parabola: 0.2 kHz is what a grid of 2 kHz makes of that.
    assert abs(peak.peak_of(delta * chain.KHZ, ellipse).at / chain.KHZ - at) < 0.2
    exact = peak.peak_of(delta * chain.KHZ, parabola)
    np.testing.assert_allclose([exact.at / chain.KHZ, exact.height], [at, 4e4], rtol=1e-3)


def test_points_that_say_nothing_do_not_move_the_peak(chain, peak):
    delta = np.arange(-6.0, 24.0, 2.0)
    gain = np.maximum(0.0, 1 - ((delta - 7.0) / 9.0) ** 2)
    error = np.where(gain > 0, 0.02, 0.1)
    rng = np.random.default_rng(0)
    found = [
        peak.peak_of(delta * chain.KHZ, gain + error * rng.standard_normal(delta.size), error).at
        for _ in range(60)
    ]
    mean, spread = np.mean(found) / chain.KHZ, np.std(found, ddof=1) / chain.KHZ
    assert spread < 0.5
    assert abs(mean - 7.0) < 4 * spread / np.sqrt(60) + 0.02


def test_the_bare_pulse_peaks_where_theory_does_once_transients_are_over(chain, peak):
    delta = np.arange(-0.5, 13.6, 2.0) * chain.KHZ
    steady = peak.peak_of(delta, chain.steady_gain(chain.Setting(), delta)).at / chain.KHZ
    assert abs(steady - 5.55) < 0.15
    made = chain.expect(chain.Setting(), delta)
    late, _ = peak.fit_peak(delta, made.traces(), (12e-6, 140e-6))
    early, _ = peak.fit_peak(delta, made.traces(), (12e-6, 50e-6))
    assert abs(late.at / chain.KHZ - 5.55) < 0.6
    assert early.at / chain.KHZ > late.at / chain.KHZ + 2  # what a short window adds


def test_the_push_moves_the_mean_as_the_affine_solution_does(chain, pushed):
    setting, delta, _, ends = pushed
    pulse = next(s for s in chain.sequence(setting, delta).stages if s.name == "pulse")
    p, affine = setting.params, np.zeros((7, 7))
    affine[:6, :6] = drift(p, pulse.controls)
    affine[[1, 3], 6] = -2 * setting.nbar * p.g_m, -2 * setting.nbar * p.g_s
    wanted = scipy.linalg.expm(affine * 20e-6)[:6, 6]
    np.testing.assert_allclose(ends[2], wanted, atol=1e-3 * np.abs(wanted).max())


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_one_collective_atom_moves_as_the_linear_mean_says(bench, pushed):
    atoms, shots = bench("detuning_atoms"), 400
    setting, delta, wanted, _ = pushed
    out, sequence = atoms.simulate_atoms(setting, delta, atoms.Kind(), shots, 3)
    seen, span = out[:, 0], sequence.span("pulse")
    error = seen.std(axis=0, ddof=1) / np.sqrt(shots)
    # The cavity's response to D beyond first order is D/kappa, some 6 % of a D of 0.1 MHz.
    apart = np.abs(seen.mean(axis=0) - wanted)[span]
    allowed = 4.5 * error[span] + 0.08 * np.abs(wanted[span]).max()
    assert np.abs(wanted[span]).max() > 10 * error[span].mean()
    assert np.all(apart < allowed)


def test_what_is_needed_is_as_kept(bench):
    needed = bench("detuning").rounded(bench("detuning_needed").needed())
    assert needed == DATA["needed"]


def test_the_page_has_the_numbers_that_were_kept(bench):
    text = PAGE.read_text(encoding="utf-8")
    assert bench("detuning_report").filled(text, DATA) == text

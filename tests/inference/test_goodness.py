import dataclasses

import jax
import numpy as np
import pytest

import jaxsde
import pulse_and_ringdown as tiny
from jaxsde.physics.params import TWO_PI
from pulse_and_ringdown import DETECTOR, FREE, OFF, PARAMS, SEQUENCE, calibrate, shots


def names(goodness, limit=3.5):
    return {check.name for check in goodness.checks if abs(check.z) > limit}


def quadrature_wave(frequency, size):
    """Return a line in Q with a phase of its own in each shot."""
    phase = np.random.default_rng(0).uniform(0, TWO_PI, 100)[:, None]
    wave = size * np.cos(TWO_PI * frequency * SEQUENCE.time + phase)
    return wave[:, :, None] * np.array([0.0, 1.0])


def test_the_true_model_holds():
    for seed in (1, 2):
        good = jaxsde.goodness_of_fit(tiny.fit(seed=seed))
        assert good.holds, good.text
        assert good.text == "the model holds"
        assert good.strange.size == 0
        # A sum of 24,000 squares has a standard deviation of 219.
        assert abs(good.chi2 - good.dof) < 4 * np.sqrt(2 * good.dof)
        assert good.dof == 100 * 240 - 3
        assert {s.stage for s in good.spectra} == {"pulse", "ringdown"}


def test_the_wrong_sign_of_the_mass_is_noticed():
    fit = calibrate(dataclasses.replace(OFF, epsilon=1.0), shots(), FREE)
    good = jaxsde.goodness_of_fit(fit)
    assert not good.holds
    assert any(name.endswith("as held") for name in names(good)), good.text


def test_clipped_records_are_noticed():
    y = np.array(shots().record)
    fit = calibrate(OFF, np.clip(y, -2 * y.std(), 2 * y.std()), FREE)
    good = jaxsde.goodness_of_fit(fit)
    assert {"tails", "chi^2 in ringdown"} <= names(good)
    assert "too short tails (clipped?)" in good.text


def test_a_third_oscillator_is_noticed_at_its_frequency():
    y = np.array(shots().record)
    fit = calibrate(OFF, y + quadrature_wave(150e3, 0.25 * y.std()), FREE)
    good = jaxsde.goodness_of_fit(fit)
    assert {"whiteness", "spectrum in ringdown"} <= names(good)
    assert "a line at 150 kHz" in good.text
    (ringdown,) = [s for s in good.spectra if s.stage == "ringdown"]
    assert ringdown.frequency[np.argmax(ringdown.power)] == pytest.approx(150e3)


def test_jitter_that_is_left_out_is_noticed():
    much = dataclasses.replace(PARAMS, sigma_m=TWO_PI * 6e3, sigma_s=TWO_PI * 4e3)
    record = jaxsde.simulate(jax.random.key(4), much, SEQUENCE, DETECTOR, 100).record
    fit = calibrate(dataclasses.replace(OFF, sigma_m=0.0, sigma_s=0.0), record, FREE)
    good = jaxsde.goodness_of_fit(fit)
    assert names(good) & {"sigma_m", "sigma_s", "gamma_m as held"}, good.text
    assert "vary" in good.text or "varies" in good.text


def test_a_shot_that_does_not_fit_is_named():
    record = np.array(shots().record)
    record[7] *= 1.5
    good = jaxsde.goodness_of_fit(calibrate(OFF, record, FREE))
    assert good.strange.tolist() == [7]
    assert "shots that do not fit: 7 (z = +" in good.text


def test_other_objectives_are_refused():
    with pytest.raises(ValueError, match=r"^fit: wanted .* objective='likelihood', got 'moments'"):
        jaxsde.goodness_of_fit(tiny.fit("moments"))

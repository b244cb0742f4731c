"""Frequency of every shot, and its spread without estimation noise."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsde.analysis.larmor import frequency_spread, line_frequencies

DT, N, TWO_PI = 1e-6, 400, 2 * np.pi
OMEGA, SIGMA, REACH, WHITE = TWO_PI * 120e3, TWO_PI * 400, TWO_PI * 8e3, 0.6
T = (np.arange(N) + 0.5) * DT


def shots(rng, count, sigma=SIGMA, white=WHITE):
    """Return (records of precession of random phase and amplitude, frequencies)."""
    omega = OMEGA + sigma * rng.normal(size=(count, 1))
    size, phase = 1 + rng.rayleigh(size=(count, 1)), rng.uniform(0, TWO_PI, (count, 1))
    noise = white * rng.normal(size=(count, N))
    return jnp.asarray(size * np.cos(omega * T + phase) + noise), omega[:, 0], size[:, 0]


def test_the_frequency_is_that_of_the_shot_and_its_noise_that_of_theory():
    """600 shots: variance of z within 4 sqrt(2/600) of 1, mean within 4/sqrt(600)."""
    signal, omega, size = shots(np.random.default_rng(0), 600)
    found, power = line_frequencies(signal, DT, OMEGA, REACH)
    error = np.sqrt(28.1 * WHITE**2 * DT / ((N * DT) ** 3 * size**2 / 2))
    z = (found - omega) / error
    assert abs(z.mean()) < 4 / np.sqrt(600)
    assert abs(np.mean(z**2) - 1) < 4 * np.sqrt(2 / 600)
    # Peak power of a Hann window: (size n/4)^2.
    assert np.median(power / (size * N / 4) ** 2) == pytest.approx(1, abs=0.05)


def test_a_clean_line_is_found_to_its_digits_anywhere_in_the_reach():
    for offset in (-7e3, -1234.5, 0.0, 6.9e3):
        omega = OMEGA + TWO_PI * offset
        found, _ = line_frequencies(jnp.asarray(np.cos(omega * T + 1))[None], DT, OMEGA, REACH)
        # What is left is the line's own image at -omega, which a Hann window holds below 1e-5.
        assert found[0] == pytest.approx(omega, abs=TWO_PI * 0.5)


@pytest.mark.parametrize("against_still", [False, True])
def test_the_spread_is_unbiased_and_its_error_covers(against_still):
    """40 sets of 120 shots: mean of the variances within 4 of its errors, rms z within 0.45 of 1.

    Estimation noise, were it left in, would add 14 % to sigma^2, seven of these errors.
    """
    rng = np.random.default_rng(1)
    made = []
    for _ in range(40):
        still = shots(rng, 120, 0.0, 2.0)[0] if against_still else None
        made.append(frequency_spread(shots(rng, 120, white=2.0)[0], DT, OMEGA, REACH, still=still))
    variance = np.array([m.variance for m in made])
    error = variance.std(ddof=1) / np.sqrt(len(made))
    assert abs(variance.mean() - SIGMA**2) < 4 * error
    assert error < 0.03 * SIGMA**2
    quoted = np.sqrt(np.mean([m.variance_stderr**2 for m in made]))
    assert quoted == pytest.approx(variance.std(ddof=1), rel=0.45)
    assert np.mean([m.noise for m in made]) > 4 * error
    assert made[0].sigma_stderr == pytest.approx(made[0].variance_stderr / (2 * made[0].sigma))
    means = np.array([(m.mean - OMEGA) / m.mean_stderr for m in made])
    assert abs(means.mean()) < 4 / np.sqrt(40) and 0.6 < means.std() < 1.5


def test_without_jitter_the_spread_is_zero_within_its_error():
    rng = np.random.default_rng(2)
    made = frequency_spread(shots(rng, 300, 0.0)[0], DT, OMEGA, REACH)
    assert abs(made.variance) < 4 * made.variance_stderr
    assert made.sigma == np.sqrt(max(made.variance, 0.0))


def test_refusals():
    with pytest.raises(ValueError, match=r"^signal: wanted at least 8 shots for a spread, got 3"):
        frequency_spread(jnp.ones((3, N)), DT, OMEGA, REACH)
    with pytest.raises(ValueError, match=r"^reach: wanted from 1\.571e\+04 rad/s, the resolution"):
        line_frequencies(jnp.ones((9, N)), DT, OMEGA, 1e3)
    with pytest.raises(ValueError, match=r"^reach: .* to below 7\.54e\+05, got 8e\+05"):
        line_frequencies(jnp.ones((9, N)), DT, OMEGA, 8e5)

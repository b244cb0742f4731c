"""Gaps: what is filled, how far filters carry it, and means that know of it."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsde.analysis import gaps
from jaxsde.analysis.filters import band_pass, low_pass, sosfiltfilt

BAND, LOW = band_pass((85e3, 150e3), 1e-6), low_pass(120e3, 1e-6)


def test_gaps_are_bridged_by_straight_lines():
    x = np.arange(12.0).reshape(2, 6, 1) ** 2
    bad = np.zeros((2, 6), bool)
    bad[0, [0, 2, 3]] = True
    bad[1] = True
    got = gaps.fill_gaps(x, bad)
    assert x[0, 2, 0] == 4  # the input stays
    np.testing.assert_allclose(got[0, :, 0], [1, 1, 6, 11, 16, 25])
    np.testing.assert_array_equal(got[1], 0)
    assert gaps.fill_gaps(x, np.zeros_like(bad)) is x


def test_reaches_is_a_dilation():
    bad = np.random.default_rng(0).random((5, 60)) < 0.05
    for reach in (0, 1, 7, 80):
        slow = np.array(
            [[row[max(t - reach, 0) : t + reach + 1].any() for t in range(60)] for row in bad]
        )
        np.testing.assert_array_equal(gaps.reaches(bad, reach), slow)


def test_beyond_their_reach_filters_hold_a_thousandth_of_a_gap():
    """Energy of what one wrong sample does to the filtered power, far from it and near it."""
    reach = gaps.filter_reach(BAND)
    n = 1001
    impulse = np.zeros(n)
    impulse[500] = 1.0
    energy = np.asarray(sosfiltfilt(BAND, jnp.asarray(impulse))) ** 2
    away = np.abs(np.arange(n) - 500) > reach
    share = energy[away].sum() / energy.sum()
    assert 1e-5 < share <= gaps.BEYOND
    assert gaps.filter_reach(BAND, LOW) == reach + gaps.filter_reach(LOW)


def test_means_and_errors_without_gaps_are_numpys():
    x = np.random.default_rng(1).normal(size=(40, 7))
    held = gaps.GroupedMean(n_samples=7, n_shots=40)
    held.add(x[:25], np.ones((25, 7), bool))
    held.add(x[25:], np.ones((15, 7), bool))
    mean, error, each = held.result()
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(error, x.std(axis=0, ddof=1) / np.sqrt(40), rtol=1e-12)
    np.testing.assert_allclose(each, x, rtol=1e-12)


def test_means_and_errors_with_gaps_are_those_of_the_good_samples():
    rng = np.random.default_rng(2)
    x, good = rng.normal(size=(30, 4)), rng.random((30, 4)) < 0.8
    good[:, 3] = False
    good[5] = False
    held = gaps.GroupedMean(n_samples=4, n_shots=30)
    held.add(np.where(good, x, 1e9), good)
    mean, error, each = held.result()
    assert len(each) == good.any(axis=1).sum() < 30
    for t in range(3):
        y = x[good[:, t], t]
        assert mean[t] == pytest.approx(y.mean(), rel=1e-9)
        assert error[t] == pytest.approx(y.std(ddof=1) / np.sqrt(y.size), rel=1e-9)
    assert np.isnan(mean[3])


def test_many_shots_are_grouped_and_keep_mean_and_scatter(monkeypatch):
    """Scatter from 50 groups has a relative error of 1/sqrt(98) = 10 %."""
    monkeypatch.setattr(gaps, "GROUPS", 50)
    x = np.random.default_rng(3).normal(size=(5000, 3)).cumsum(axis=1)
    held = gaps.GroupedMean(n_samples=3, n_shots=5000)
    for part in np.split(x, 7 * [0] + [1700, 1900]):
        held.add(part, np.ones(part.shape, bool))
    mean, error, each = held.result()
    assert each.shape == (50, 3)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(each.mean(axis=0), mean, rtol=1e-10)
    exact = x.std(axis=0, ddof=1) / np.sqrt(5000)
    assert np.all(np.abs(error / exact - 1) < 0.4)
    correlation = np.corrcoef(each, rowvar=False)[0, 2]
    assert correlation == pytest.approx(np.corrcoef(x, rowvar=False)[0, 2], abs=0.4)

"""Contours of Delta chi^2 = 1 against the definition, and against iminuit."""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from growing import traces
from jaxsde.analysis.contours import profile_contours
from jaxsde.analysis.growth import bin_traces, minimise, whitened


@functools.cache
def fitted():
    made = traces(3.0, (1.5e4, 3e4, 4e4), (2e5, 1.5e5, 1e5), shots=200, seed=3)
    n = len(made)
    data = bin_traces(made, np.zeros(n), np.full(n, 100e-6), np.zeros(n), 8)
    best = minimise(data)
    return data, best, profile_contours(data, best, angles=48)


def vector():
    _, best, _ = fitted()
    return np.array([float(best.D_0), *np.ravel(np.stack([best.gain, best.diffusion], 1))])


def residuals(x):
    data, best, _ = fitted()
    x = jnp.asarray(x)
    return np.ravel(whitened(data, best.power, x[0], x[1::2], x[2::2])[0])


def least(fixed):
    """Return chi^2 at {index: value}, everything else at its own best, by SciPy."""
    free = [i for i in range(7) if i not in fixed]

    def of(y):
        x = vector()
        x[list(fixed)], x[free] = list(fixed.values()), y
        return residuals(x)

    found = scipy.optimize.least_squares(of, vector()[free], xtol=1e-12, ftol=1e-14)
    return 2 * found.cost


def test_contours_are_where_the_profile_is_one_above_the_minimum():
    _, best, contours = fitted()
    floor = float(np.sum(best.chi2))
    assert np.asarray(contours.closed).all()
    for trace, angle in ((0, 0), (0, 17), (1, 30), (2, 5), (2, 40)):
        g, b = np.asarray(contours.points)[trace, angle]
        above = least({1 + 2 * trace: g, 2 + 2 * trace: b}) - floor
        assert above == pytest.approx(1.0, abs=0.005), (trace, angle)


def test_the_range_of_the_contour_is_where_the_profile_of_one_parameter_is_one_above():
    _, best, contours = fitted()
    floor = float(np.sum(best.chi2))
    for trace, which in ((0, 0), (1, 1), (2, 0)):
        for end in (contours.low, contours.high):
            above = least({1 + 2 * trace + which: float(end[trace, which])}) - floor
            assert above == pytest.approx(1.0, abs=0.01)


def test_iminuit_finds_the_same_minimum_and_the_same_contour():
    iminuit = pytest.importorskip("iminuit")
    _, best, contours = fitted()
    fit = iminuit.Minuit(
        lambda x: float(np.sum(residuals(x) ** 2)),
        vector() * np.array([1.1, 0.9, 1.1, 1.1, 0.9, 1.1, 1.1]),
    )
    fit.strategy = 2
    fit.migrad(ncall=20000)
    assert fit.valid
    np.testing.assert_allclose(fit.values, vector(), rtol=3e-3, atol=3e-3)
    assert fit.fval == pytest.approx(float(np.sum(best.chi2)), abs=1e-3)
    # cl 0.3935 of two parameters is Delta chi^2 = 1.
    theirs = np.array(fit.mncontour("x1", "x2", cl=1 - np.exp(-0.5), size=12))
    ours = np.asarray(contours.points)[0]
    scale = np.ptp(ours, axis=0)
    closed = np.concatenate([ours, ours[:1]]) / scale
    fine = np.concatenate([np.linspace(a, b, 50) for a, b in itertools.pairwise(closed)])
    for point in theirs / scale:
        assert np.min(np.linalg.norm(fine - point, axis=1)) < 0.01
    np.testing.assert_allclose(np.ptp(theirs, axis=0) / scale, 1.0, atol=0.05)


def test_an_open_contour_is_said_to_be_open():
    """D_0 of its own and hardly any growth: gain and diffusion trade without end."""
    made = traces(3.0, (0.0,), (1e3,), shots=40, seed=5)
    data = bin_traces(made, np.zeros(1), np.full(1, 8e-6), np.zeros(1), 8)
    contours = profile_contours(data, minimise(data), delta=9.0, angles=48)
    assert not bool(contours.closed[0])
    assert np.isnan(np.asarray(contours.points)).any()

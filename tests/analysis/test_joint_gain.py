import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from growing import TIME, rows, trace_of, traces
from jaxsde.analysis.growth import bin_traces, minimise
from jaxsde.analysis.joint_gain import choose_window, fit_gain_jointly

WINDOW = dict(start=0.0, stop=90e-6)
GAINS, DIFFUSIONS = (1.5e4, 3e4, 4e4), (2e5, 1.5e5, 1e5)


@functools.cache
def fit(common=True):
    made = traces(3.0, GAINS, DIFFUSIONS, shots=400, seed=2)
    return fit_gain_jointly(made, **WINDOW, common=common, angles=24)


def test_traces_share_their_start_or_do_not():
    joint, apart = fit(), fit(common=False)
    for got in (joint, apart):
        assert got.converged and got.closed.all()
        assert np.abs((got.gain - GAINS) / got.gain_stat).max() < 3.5
        assert np.abs((got.diffusion - DIFFUSIONS) / got.diffusion_stat).max() < 3.5
        assert np.abs((got.D_0 - 3.0) / got.D_0_stat).max() < 3.5
        assert ((got.gain_range[:, 0] < got.gain) & (got.gain < got.gain_range[:, 1])).all()
        np.testing.assert_allclose(got.gain_error, np.hypot(got.gain_stat, got.gain_sys))
        inside = np.abs(got.contours.mean(axis=1) - np.stack([got.gain, got.diffusion], 1))
        assert (inside < 0.5 * np.ptp(got.contours, axis=1)).all()
    assert len(set(joint.D_0)) == 1 and len(set(apart.D_0)) == 3
    assert joint.dof == 3 * 8 - 7 and apart.dof == 5
    # What the others know of D_0 helps each.
    assert (joint.gain_stat < apart.gain_stat).all()
    assert (joint.D_0_stat < apart.D_0_stat).all()


def test_systematic_error_is_half_the_range_over_three_windows():
    made = traces(3.0, GAINS, DIFFUSIONS, shots=400, seed=2)
    room = fit().data.time.shape[1]  # the same program
    gains = []
    for stop in (81e-6, 90e-6, 99e-6):
        data = bin_traces(made, np.zeros(3), np.full(3, stop), np.zeros(3), 8, samples=room)
        gains.append(np.asarray(minimise(data).gain) / float(data.second))
    np.testing.assert_allclose(gains[1], fit().gain, rtol=1e-9)
    np.testing.assert_allclose(fit().gain_sys, np.ptp(gains, axis=0) / 2, rtol=1e-9)


def test_quoted_errors_are_true_and_estimates_unbiased():
    """150 experiments of 100 shots: pulls of mean 0 and width 1, to 4 of their own errors."""
    rng = np.random.default_rng(7)
    pulls = []
    for _ in range(150):
        got = fit_gain_jointly(
            [trace_of(rows(rng, 3.0, g, b, 100)) for g, b in ((3e4, 2e5), (4e4, 1e5))],
            **WINDOW, angles=24,
        )  # fmt: skip
        pulls.append((got.gain - (3e4, 4e4)) / got.gain_stat)
    pulls = np.array(pulls)
    assert np.abs(pulls.mean(axis=0)).max() < 4 / np.sqrt(150)
    assert np.abs(pulls.std(axis=0) - 1).max() < 4 / np.sqrt(300)


def test_ignoring_correlation_quotes_errors_that_are_too_small():
    """90 bins of 1 us whose correlation is left out, against the 8 bins with theirs."""
    made = traces(3.0, GAINS, DIFFUSIONS, shots=400, seed=2)
    data = bin_traces(made, np.zeros(3), np.full(3, 90e-6), np.zeros(3), 90)
    factor = np.linalg.inv(np.asarray(data.whiten))
    alone = 1 / np.sqrt(np.sum(factor**2, axis=2))
    blind = dataclasses.replace(data, whiten=jnp.asarray(alone[:, :, None] * np.eye(90)))
    naive = np.sqrt(np.asarray(minimise(blind).covariance)[:, 0, 0]) / float(data.second)
    assert (naive < 0.6 * np.sqrt(fit().covariance[:, 0, 0])).all(), naive
    assert 1e-3 < fit().p_value[0] < 0.999


def test_the_window_stops_where_growth_does():
    """Growth that saturates at 60 us: chi^2 refuses later stops, errors refuse early ones."""
    rng = np.random.default_rng(4)
    made = []
    for gain in (3e4, 4e4):
        each = rows(rng, 3.0, gain, 1e5, 2000)
        late = np.maximum(TIME - 60e-6, 0.0)
        made.append(trace_of(each * np.exp(-2 * gain * late)))
    options = dict(starts=[0.0, 10e-6], stops=[40e-6, 60e-6, 90e-6], origin=0.0)
    got = choose_window(made, 1e9, **options)
    assert got.stop == 60e-6
    assert got.p_value.shape == (2, 3)
    assert got.p_value[0, 2] < 0.01 < 0.05 <= got.p_value[0, 1]
    assert got.linear.all()
    # A cavity so narrow that <|D|> = sqrt(2/pi <D^2>) passes kappa/2 near 50 us.
    top = np.sqrt(2 / np.pi * float(max(np.asarray(m.mean)[100] for m in made)))
    assert choose_window(made, 2 * top, **options).stop == 40e-6
    with pytest.raises(ValueError, match=r"^fit window: wanted one with a p-value .*0 of 3 stops"):
        choose_window(made, 1e-3, **options)


def test_nothing_to_fit_is_refused():
    with pytest.raises(ValueError, match=r"^traces: wanted at least one"):
        fit_gain_jointly([], **WINDOW)

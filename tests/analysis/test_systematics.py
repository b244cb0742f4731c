"""Draws of the parameters: each against the estimate that a laboratory would make with it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
from jaxsde.analysis.inversion import COLUMNS, ROWS
from jaxsde.analysis.moments import QUANTITIES, derived_quantities
from jaxsde.analysis.systematics import (
    filter_second_moments,
    moved,
    record_moments,
    systematic_moments,
)
from pulse_and_ringdown import DETECTOR, PARAMS, SEQUENCE

BANK = jaxsde.matched_filter(PARAMS, SEQUENCE, DETECTOR, start=5, stop=75)
NODES = (3, 3)
SPREAD = {
    "g_m": 0.03 * PARAMS.g_m, "omega_m": 2 * np.pi * 200.0, "B_s": 3e4, "nbar": 0.2,
    "detector.efficiency": 0.01,
}  # fmt: skip


@functools.cache
def record():
    return jaxsde.simulate(jax.random.key(2), PARAMS, SEQUENCE, DETECTOR, 300).record


@functools.cache
def drawn(draws=60):
    return systematic_moments(
        jax.random.key(3), record_moments(record(), BANK), PARAMS, SEQUENCE, DETECTOR, SPREAD,
        draws=draws, start=5, stop=75, nodes=NODES,
    )  # fmt: skip


def test_second_moments_of_outputs_need_no_outputs():
    moments = record_moments(record(), BANK)
    used = np.flatnonzero(np.any(np.asarray(BANK.weights), axis=0).reshape(-1))
    weights = BANK.weights.reshape(4, -1)[None][:, :, used]
    q = np.asarray(jaxsde.apply_filters(record(), BANK))
    expected = (q.T @ q / len(q))[ROWS, COLUMNS]
    np.testing.assert_allclose(filter_second_moments(weights, moments)[0], expected, rtol=1e-9)
    # Blocks of shots add up.
    halves = [record_moments(r, BANK) for r in (record()[:100], record()[100:])]
    np.testing.assert_allclose((halves[0] + 2 * halves[1]) / 3, moments, rtol=1e-9, atol=1e-40)


@pytest.mark.parametrize("draw", [0, 37])
def test_every_draw_is_the_estimate_with_its_own_filters(draw):
    """The slow twin: filters and inversion made anew, applied to every record."""
    got = drawn()
    offsets = {name: float(x[draw]) for name, x in got.drawn.items()}
    p, s, d = moved(PARAMS, SEQUENCE, DETECTOR, 1, offsets)
    assert float(p.g_m) != PARAMS.g_m
    assert float(s.stages[1].controls.omega_m) == pytest.approx(float(p.omega_m))
    bank = jaxsde.matched_filter(p, s, d, start=5, stop=75)
    # The pulse, and what its phases share with the ringdown's, is that of the nominal parameters:
    # the exact inversion with the drawn ones differs by as little as that does.
    expected = jaxsde.estimate_moments(record(), bank, p, s, d, nodes=NODES).C
    c = np.asarray(got.C)[draw]
    nominal = np.asarray(drawn().C).mean(axis=0)
    off = np.abs(c - np.asarray(expected)[ROWS, COLUMNS])
    moved_by = np.abs(c - nominal).max()
    assert off.max() < 0.1 * moved_by, (off, moved_by)
    np.testing.assert_allclose(
        got.values[draw], derived_quantities(jnp.asarray(c)), rtol=1e-9, atol=1e-12
    )


def test_intervals_are_the_central_68_percent_and_about_the_estimate():
    got = drawn()
    estimate = jaxsde.derived(
        jaxsde.estimate_moments(record(), BANK, PARAMS, SEQUENCE, DETECTOR, nodes=NODES).C
    )
    for name in ("n_m", "n_s", "abs_ab"):
        low, high = got.interval(name)
        values = np.asarray(got.values)[:, QUANTITIES.index(name)]
        assert np.mean((values > low) & (values < high)) == pytest.approx(0.68, abs=0.02)
        assert low - (high - low) < estimate[name][0] < high + (high - low)


def test_what_scales_the_gain_scales_the_occupation():
    """An efficiency alone: A^2 goes with it, and n + bias with 1/A^2."""
    alone = systematic_moments(
        jax.random.key(1), record_moments(record(), BANK), PARAMS, SEQUENCE, DETECTOR,
        {"detector.efficiency": 0.01}, draws=50, start=5, stop=75, nodes=NODES,
    )  # fmt: skip
    offset = alone.drawn["detector.efficiency"]
    n_m = np.asarray(alone.values)[:, 0]
    assert np.corrcoef(offset, n_m)[0, 1] < -0.99
    assert offset.std() == pytest.approx(0.01, rel=0.4)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(uncertainties={"epsilon": 1.0}), r"^uncertainties: wanted names among .*'epsilon'$"),
        (dict(uncertainties={"g_m": 0.0}), r"^uncertainties\['g_m'\]: wanted a positive number"),
        (dict(uncertainties={}), r"^uncertainties: wanted the standard error"),
        (dict(draws=1), r"^draws: wanted at least 2"),
        (dict(stop=70), r"^moments: wanted \(65, 65\), .* got \(70, 70\)"),
    ],
)
def test_systematic_moments_refuses(change, message):
    options = dict(uncertainties=SPREAD, start=5, stop=75) | change
    with pytest.raises(ValueError, match=message):
        systematic_moments(
            jax.random.key(0), record_moments(record(), BANK), PARAMS, SEQUENCE, DETECTOR,
            nodes=NODES, **options,
        )  # fmt: skip


def test_moved_is_what_was_asked():
    p, s, d = moved(PARAMS, SEQUENCE, DETECTOR, 1, {"nbar": 0.5, "detector.S_SN": 1e-22})
    assert s.stages[1].controls.nbar == SEQUENCE.stages[1].controls.nbar + 0.5
    assert s.stages[0] == SEQUENCE.stages[0] and p == PARAMS
    assert d == dataclasses.replace(DETECTOR, S_SN=DETECTOR.S_SN + 1e-22)

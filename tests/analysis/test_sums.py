"""Sums in one fixed order, and estimates from sums against those from the shots themselves."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
import streams
from jaxsde.analysis.displacement import mean_squared_displacement
from jaxsde.analysis.gain import fit_gain
from jaxsde.analysis.moments import estimate_moments
from jaxsde.analysis.sums import (
    CELL,
    cell_sums,
    filter_outputs,
    layout,
    make_reduction,
    ordered_sum,
    summed_displacement,
    summed_moments,
    tree_sum,
    unpack,
)
from jaxsde.lab.experiment import ringdown_filters
from jaxsde.lab.spec import build_sequence

E = streams.experiment()
SEQUENCE = build_sequence(E)
BANK = ringdown_filters(E, SEQUENCE)
OPTIONS = dict(band=E.analysis.band, cycle_average=E.analysis.cycle_average)
WINDOW = (8e-6, 34.5e-6)


@pytest.fixture(scope="module")
def records():
    rng = np.random.default_rng(1)
    t = SEQUENCE.time
    turn = np.cos(2 * np.pi * 120e3 * t + 2 * np.pi * rng.random((700, 1)))
    size = rng.normal(size=(700, 1, 1)) * np.exp(2e4 * t)[None, :, None]
    noise = rng.normal(size=(700, t.size, 2))
    return 1e-7 * (size * turn[:, :, None] + noise)


@pytest.fixture(scope="module")
def reduction():
    return make_reduction(E.params, SEQUENCE, E.detector, window=WINDOW, products=True, **OPTIONS)


@pytest.fixture(scope="module")
def sums(records, reduction):
    """Sums of 700 shots in two cells; the surplus of the second would spoil them if it counted."""
    wide = np.full((2 * CELL, *records.shape[1:]), 1e300)
    wide[: len(records)] = records
    live = np.arange(2 * CELL) < len(records)
    parts = []
    for i in (0, CELL):
        record = jnp.asarray(wide[i : i + CELL])
        clipped = jnp.full(CELL, 3, jnp.int32)
        q = filter_outputs(record, BANK.weights)
        parts.append(
            np.asarray(cell_sums(reduction, record, q, clipped, jnp.asarray(live[i : i + CELL])))
        )
    return unpack(reduction, tree_sum(parts))


def test_sums_hold_what_the_layout_says(sums, reduction):
    assert {name: value.shape for name, value in sums.items()} == layout(reduction)
    assert sums["shots"] == 700 and sums["clipped"] == 3 * 700
    assert (reduction.first, reduction.width) == (8, 27)


def test_displacement_and_gain_from_sums_are_those_from_shots(records, sums, reduction):
    wanted = mean_squared_displacement(
        jnp.asarray(records), E.params, SEQUENCE, E.detector, **OPTIONS
    )
    made = summed_displacement(reduction, sums, SEQUENCE.time)
    for name in ("mean", "stderr", "noise_bias"):
        np.testing.assert_allclose(getattr(made, name), getattr(wanted, name), rtol=1e-9)
    assert made.n_shots == wanted.n_shots == 700
    fits = [fit_gain([trace], start=8e-6, stop=32e-6) for trace in (made, wanted)]
    for field in dataclasses.fields(fits[0]):
        one, other = (np.asarray(getattr(fit, field.name), float) for fit in fits)
        # A gain at its bound is zero up to where the descent stopped.
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9, err_msg=field.name)
    with pytest.raises(ValueError, match=r"wanted samples whose scatter was kept, 27 from"):
        fit_gain([made], start=8e-6, stop=50e-6)


def test_moments_from_sums_are_those_from_shots(records, sums):
    resolution = jaxsde.choose_resolution(E.params, SEQUENCE)
    args = BANK, E.params, SEQUENCE, E.detector
    wanted = estimate_moments(jnp.asarray(records), *args, resolution=resolution)
    made = summed_moments(sums, *args, resolution)
    assert made.n_shots == 700
    for name in ("C", "C_cov", "raw", "bias"):
        scale = float(jnp.max(jnp.abs(getattr(wanted, name))))
        np.testing.assert_allclose(
            getattr(made, name), getattr(wanted, name), rtol=1e-8, atol=1e-9 * scale
        )
    with pytest.raises(ValueError, match="wanted at least 2"):
        summed_moments(sums | {"shots": np.array(1.0)}, *args, resolution)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12, 13, 64, 100])
def test_the_tree_does_not_depend_on_runs_of_powers_of_two(count):
    x = np.random.default_rng(count).normal(size=(count, 5)) * 10.0 ** np.arange(-2, 3)
    whole = tree_sum(x)
    np.testing.assert_allclose(whole, x.sum(axis=0), rtol=1e-12, atol=1e-12)
    for run in (2, 4, 16):
        parts = [tree_sum(x[i : i + run]) for i in range(0, count, run)]
        assert np.array_equal(tree_sum(parts), whole)
    assert count < 4 or not np.array_equal(
        tree_sum([tree_sum(x[i : i + 3]) for i in range(0, count, 3)]), whole
    )


def test_nothing_has_no_sum():
    with pytest.raises(ValueError, match="wanted at least one"):
        tree_sum([])


def test_ordered_sum_is_the_sum():
    x = np.random.default_rng(0).normal(size=(64, 3))
    np.testing.assert_allclose(ordered_sum(jnp.asarray(x)), x.sum(axis=0), rtol=1e-13)

"""Streaming: whatever the blocks, what shots in memory give; gaps left out of what they reach."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
import laboratory
from jaxsde.analysis.filters import band_pass, low_pass
from jaxsde.analysis.gaps import filter_reach
from jaxsde.lab.experiment import ringdown_filters
from jaxsde.lab.record_stream import stream
from jaxsde.lab.recordings import RecordError
from jaxsde.lab.records import open_records
from jaxsde.lab.spec import build_sequence

E = laboratory.experiment()
SEQUENCE = build_sequence(E)
BANK = ringdown_filters(E, SEQUENCE)
REACH = filter_reach(band_pass(E.analysis.band, 1e-6), low_pass(E.analysis.cycle_average, 1e-6))


def run(path, size=16, **options):
    return stream(open_records(path), E, SEQUENCE, BANK, size=size, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = laboratory.write(tmp_path_factory.mktemp("a") / "all.h5", laboratory.noise())
    return path, run(path)


def test_blocks_give_what_shots_in_memory_give(whole):
    path, made = whole
    record = jnp.asarray(laboratory.noise())
    expected = jaxsde.mean_squared_displacement(record, E.params, SEQUENCE, E.detector)
    scale = float(jnp.abs(expected.mean).max())
    for other in (made, run(path, size=13)):
        np.testing.assert_allclose(other.displacement.mean, expected.mean, atol=1e-10 * scale)
        np.testing.assert_allclose(other.displacement.stderr, expected.stderr, rtol=1e-8)
        np.testing.assert_allclose(other.displacement.each, expected.each, atol=1e-9 * scale)
        q = jaxsde.apply_filters(record, BANK)
        np.testing.assert_allclose(other.outputs, q, rtol=1e-9, atol=1e-12 * np.abs(q).max())
    assert made.used == laboratory.SHOTS and made.losses.missing == 0
    np.testing.assert_array_equal(made.shown, laboratory.noise())


def test_gaps_reach_what_filters_mix_them_into_and_no_more(whole, tmp_path):
    """Shot 0 has a gap, shot 2 is clipped, shot 3 is missing altogether."""
    _, clean = whole
    x = laboratory.noise().copy()
    x[0, 40:45] = np.nan
    x[2, 180, 1] = 1.0  # far beyond adc_max
    x[3] = np.nan
    path = laboratory.write(tmp_path / "gaps.h5", x, adc_max=1.0, adc_min=-1.0)
    made = run(path)
    assert (made.losses.missing, made.losses.with_missing) == (5 + laboratory.N, 2)
    assert (made.losses.clipped, made.used) == (1, laboratory.SHOTS - 1)
    assert (
        len(made.outputs) == laboratory.SHOTS - 2
    )  # 2 and 3; the gap of 0 lies before the filters
    away = np.arange(laboratory.N) > 44 + REACH
    away &= np.arange(laboratory.N) < 180 - REACH
    assert away.any()
    each, before = (np.asarray(m.displacement.each) for m in (made, clean))
    kept = [i for i in range(laboratory.SHOTS) if i != 3]
    mean = before[kept].mean(axis=0)
    stderr = np.asarray(clean.displacement.stderr)
    off = (np.asarray(made.displacement.mean) - mean) / stderr
    assert np.abs(off[away]).max() < 0.05  # standard errors
    # Within reach of its gap the shot counts for nothing: the others' mean stands.
    others = before[[i for i in kept if i != 0]].mean(axis=0)
    for t in (42, 55, 44 + REACH - 1, 40 - REACH + 1):
        if t >= 0:
            np.testing.assert_allclose(made.displacement.mean[t], others[t], rtol=1e-3)
            assert abs(mean[t] / others[t] - 1) > 1e-3
    assert np.all(np.isfinite(each))
    assert len(made.shown) == laboratory.SHOTS - 3
    with_clipped = run(path, keep_clipped=True)
    assert len(with_clipped.outputs) == laboratory.SHOTS - 1


def test_nothing_left_is_an_error(tmp_path):
    path = laboratory.write(tmp_path / "nan.h5", np.full((16, laboratory.N, 2), np.nan))
    with pytest.raises(RecordError, match=r"nan\.h5: no shot with a good sample is left"):
        run(path)


def test_an_empty_cavity_shows_the_noise_of_the_filters_bandwidth(whole):
    """64 shots: mean over the record within 4 standard errors, which are a few per cent of it."""
    _, made = whole
    d = made.displacement
    ratio = 1 + (np.asarray(d.each) / np.asarray(d.noise_bias)).mean(axis=1)
    error = ratio.std(ddof=1) / np.sqrt(len(ratio))
    assert error < 0.05
    assert abs(ratio.mean() - 1) < 4 * error
    half = dataclasses.replace(E.detector, S_SN=float(E.detector.S_SN) / 2)
    less = jaxsde.mean_squared_displacement(
        jnp.asarray(laboratory.noise()), E.params, SEQUENCE, half
    )
    wrong = 1 + (np.asarray(less.each) / np.asarray(less.noise_bias)).mean()
    assert abs(wrong - 1) > 8 * error

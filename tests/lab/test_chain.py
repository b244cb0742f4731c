"""The chain on records: as the main job has it, and B_s and an empty cavity beside it."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxsde
import laboratory
from jaxsde.lab.chain import analyse_chain, chain_rows
from jaxsde.lab.export import header_of
from jaxsde.lab.figures import available
from jaxsde.lab.matching import experiment_of
from jaxsde.lab.recordings import RecordError
from jaxsde.lab.records import open_records
from jaxsde.lab.spec import build_sequence


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return (chain of the shots, chain of the same with an empty cavity's noise, folder)."""
    folder = tmp_path_factory.mktemp("records")
    source = open_records(laboratory.write(folder / "shots.h5"))
    empty = open_records(laboratory.write(folder / "empty.h5", laboratory.noise()))
    experiment = experiment_of(source, None)
    plain = analyse_chain(experiment, source)
    return plain, analyse_chain(experiment, source, empty=empty), folder


def test_it_is_the_chain_of_the_library(made):
    plain, _, _ = made
    e, sequence = laboratory.experiment(), build_sequence(laboratory.experiment())
    bank = jaxsde.matched_filter(e.params, sequence, e.detector)
    record = jax.numpy.asarray(laboratory.record())
    expected = jaxsde.estimate_moments(record, bank, e.params, sequence, e.detector)
    np.testing.assert_allclose(plain.results.moments.C, expected.C, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(plain.results.moments.C_cov, expected.C_cov, rtol=1e-6, atol=1e-6)
    d = jaxsde.mean_squared_displacement(record, e.params, sequence, e.detector)
    np.testing.assert_allclose(
        plain.results.main.displacement.mean, d.mean, atol=1e-6 * float(np.abs(d.mean).max())
    )
    rows = {row.name: row for row in chain_rows(plain)}
    assert {"n_m", "n_s", "abs_ab", "gain"} <= set(rows)
    # 64 shots against exact theory: within 4 standard errors, or the chain is wrong.
    assert abs(rows["n_m"].z) < 4 and abs(rows["n_s"].z) < 4
    assert plain.results.growth is not None and plain.results.growth.shots == laboratory.SHOTS
    assert plain.diffusion is None and "B_s" not in rows
    assert "displacement" in available(plain.results)


def test_an_empty_cavitys_noise_is_subtracted_and_agrees(made):
    plain, dark, _ = made
    value, error = dark.shot_noise
    assert error < 0.05 and abs(value - 1) < 4 * error
    rows = {row.name: row for row in chain_rows(dark)}
    assert rows["shot_noise"].theory == 1.0
    assert set(dark.losses) == {"records", "empty cavity"}
    before, after = (c.results.main.displacement for c in (plain, dark))
    change = np.asarray(after.mean + after.noise_bias - before.mean - before.noise_bias)
    # What is subtracted has changed, not what was measured.
    np.testing.assert_allclose(change, 0, atol=1e-9 * float(np.abs(before.mean).max()))
    assert np.all(np.asarray(after.stderr) >= np.asarray(before.stderr))
    n = [float(np.trace(np.asarray(c.results.moments.C))) for c in (plain, dark)]
    assert n[0] == pytest.approx(n[1], rel=0.2) and n[0] != n[1]


def test_too_few_shots_are_told(made):
    _, _, folder = made
    x = laboratory.record()[:3].copy()
    x[:2, 190] = np.nan
    source = open_records(laboratory.write(folder / "few.h5", x))
    with pytest.raises(RecordError, match=r"few\.h5: wanted at least 2 shots without a gap in 'ri"):
        analyse_chain(experiment_of(source, None), source)


def test_without_a_pulse_b_s_is_estimated(made):
    """The same shots, said to have no pulse: 64 of them, within 4 standard errors."""
    _, _, folder = made
    e = laboratory.experiment()
    calm = dataclasses.replace(e.analysis, pulse=None, fit_window=None)
    header = header_of(dataclasses.replace(e, analysis=calm))
    source = open_records(laboratory.write(folder / "calm.h5", header=header))
    chain = analyse_chain(experiment_of(source, None), source)
    (row,) = [row for row in chain_rows(chain) if row.name == "B_s"]
    assert row.theory == float(e.params.B_s) and abs(row.z) < 4
    assert row.value == chain.diffusion.B_s

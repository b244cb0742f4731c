"""Streamed analysis: a run's fits to sums, with reference and gain scan, against those to shots."""

import numpy as np
import pytest

import tiny
from jaxsde.lab.blocks import make_block
from jaxsde.lab.config import dump_experiment
from jaxsde.lab.experiment import run_experiment
from jaxsde.lab.parts import blocks_of, open_experiment
from jaxsde.lab.streamed import analyse_sums, state_moments
from jaxsde.lab.table import table_rows


@pytest.mark.slow
def test_results_of_every_ensemble_are_those_of_the_run_in_memory():
    text = dump_experiment(tiny.experiment())
    experiment, parts = open_experiment(text)
    totals = {}
    for name, part in parts.items():
        (block,) = blocks_of(part, 512)
        totals[name] = make_block(text, block, "estimates").arrays["sums"]
    steps = []
    made = analyse_sums(
        experiment, text, tuple(parts.values()), totals, "estimates", lambda *a: steps.append(a)
    )
    wanted = run_experiment(experiment)
    assert steps[-1] == ("analyse", 8, 8)
    assert made.reference is not None and wanted.reference is not None
    assert made.growth is not None and wanted.growth is not None
    for one, other in zip(table_rows(made), table_rows(wanted), strict=True):
        assert (one.name, one.note) == (other.name, other.note)
        np.testing.assert_allclose(
            [one.value, one.error or 0], [other.value, other.error or 0], rtol=1e-4
        )
    for name in ("displacement", "stderr", "theory", "expected", "clipped"):
        np.testing.assert_allclose(
            getattr(made.growth, name), getattr(wanted.growth, name), rtol=1e-6
        )
    for name in ("mean", "stderr"):
        np.testing.assert_allclose(
            getattr(made.reference.displacement, name),
            getattr(wanted.reference.displacement, name),
            rtol=1e-7,
        )
    np.testing.assert_allclose(made.beat.mean, wanted.beat.mean, rtol=1e-6)


def test_means_of_state_moments():
    total = np.zeros((3, 23))
    total[:, 0], total[:, 1], total[:, 2:] = 8.0, 24.0, 4.0
    made = state_moments(total.reshape(-1), 4)
    np.testing.assert_array_equal(made.displacement, 2.0)
    np.testing.assert_allclose(made.stderr, np.sqrt((6 - 4) / 3))
    assert made.covariance.shape == (3, 21) and np.all(made.covariance == 1)

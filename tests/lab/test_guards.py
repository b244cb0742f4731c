"""What overflowed is named with its stage and gain."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import pytest

from jaxsde import simulate
from jaxsde.lab.config import ExperimentError, build_sequence, load_experiment
from jaxsde.lab.guards import check_finite, total_shots

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def test_total_shots_counts_every_ensemble():
    paper = load_experiment(EXAMPLES / "kohler2018.toml")
    assert total_shots(paper) == 200 + 200 + 11 * 1000
    assert total_shots(load_experiment(EXAMPLES / "anomalous_diffusion.toml")) == 200


def test_finite_shots_pass_and_others_are_named():
    paper = load_experiment(EXAMPLES / "kohler2018.toml")
    sequence = build_sequence(paper)
    shots = simulate(jax.random.key(0), paper.params, sequence, paper.detector, 3)
    check_finite(shots, sequence, paper)
    states = shots.states.at[1, 2:].set(jnp.nan)
    broken = dataclasses.replace(shots, states=states, status=jnp.array([0, 1, 0]))
    with pytest.raises(ExperimentError, match=r"^stage 'pulse': 1 of 3 shots overflowed .* shot 1"):
        check_finite(broken, sequence, paper)

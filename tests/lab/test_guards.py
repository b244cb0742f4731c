"""What overflowed is named with its stage and gain."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import pytest

from jaxsde import Detector, Technical, simulate
from jaxsde.lab.config import ExperimentError, build_sequence, load_experiment
from jaxsde.lab.experiment import run_experiment
from jaxsde.lab.guards import (
    check_finite,
    check_memory,
    engine_errors,
    exact_resolution,
    total_shots,
)
from jaxsde.physics.params import TWO_PI

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def test_total_shots_counts_every_ensemble():
    paper = load_experiment(EXAMPLES / "kohler2018.toml")
    assert total_shots(paper) == 200 + 200 + 11 * 1000
    assert total_shots(load_experiment(EXAMPLES / "anomalous_diffusion.toml")) == 200


def test_the_engine_s_errors_name_the_file_and_its_field():
    paper = load_experiment(EXAMPLES / "kohler2018.toml")
    for said, wanted in {
        "tolerance: wanted x: y": "simulation.tolerance: wanted x: y",
        "sequence.sample_interval: wanted": "detector.sample_interval: wanted",
        "stage 'pulse': nbar: wanted": "stage 'pulse': nbar: wanted",
    }.items():
        with pytest.raises(ExperimentError) as caught, engine_errors(paper):
            raise ValueError(said)
        assert str(caught.value) == f"{EXAMPLES / 'kohler2018.toml'}: {wanted}"
    with pytest.raises(ExperimentError, match=r"^tolerance"), engine_errors(paper):
        raise ExperimentError("tolerance: as it is")
    nameless = dataclasses.replace(paper, source="")
    with pytest.raises(ExperimentError, match=r"^simulation\.method: x"), engine_errors(nameless):
        raise ValueError("method: x")


def test_a_tolerance_that_cannot_be_met_is_told_before_anything_runs():
    paper = load_experiment(EXAMPLES / "kohler2018.toml")
    fast = TWO_PI * 300e6
    wild = dataclasses.replace(
        paper.stages[3], nbar=(0.0, 400.0), delta_pc=(-fast, fast), duration=0.5e-6
    )
    hard = dataclasses.replace(
        paper, stages=(*paper.stages[:3], wild, paper.stages[4]), tolerance=1e-12
    )
    message = r"kohler2018\.toml: simulation\.tolerance: wanted the covariance to 1e-12 .* loosen"
    for method in ("exact", "interaction_euler"):
        with pytest.raises(ExperimentError, match=message):
            run_experiment(dataclasses.replace(hard, method=method, substeps=1))


def test_theory_is_made_at_the_tolerance_of_the_file():
    paper = load_experiment(EXAMPLES / "kohler2018.toml")
    sequence = build_sequence(paper)
    made = {
        tolerance: exact_resolution(dataclasses.replace(paper, tolerance=tolerance), sequence)
        for tolerance in (1e-4, 1e-10)
    }
    for tolerance, resolution in made.items():
        assert resolution.tolerance == tolerance and 0 < resolution.ramp_error <= tolerance
    assert made[1e-4].ramp_substeps < made[1e-10].ramp_substeps


def test_memory_of_a_wandering_homodyne_angle_is_that_of_both_quadratures():
    paper = load_experiment(EXAMPLES / "kohler2018.toml")

    def most(detector):
        big = dataclasses.replace(paper, shots=10**9, gain_scan=None, detector=detector)
        with pytest.raises(ExperimentError) as caught:
            check_memory(big)
        return int(str(caught.value).rpartition("at most ")[2].partition(" shots")[0])

    both, one = most(Detector(model="input_output")), most(Detector.homodyne())
    assert most(Detector.homodyne(technical=Technical(phase_drift=1.0))) == both < one


def test_finite_shots_pass_and_others_are_named():
    paper = load_experiment(EXAMPLES / "kohler2018.toml")
    sequence = build_sequence(paper)
    shots = simulate(jax.random.key(0), paper.params, sequence, paper.detector, 3)
    check_finite(shots, sequence, paper)
    states = shots.states.at[1, 2:].set(jnp.nan)
    broken = dataclasses.replace(shots, states=states, status=jnp.array([0, 1, 0]))
    with pytest.raises(ExperimentError, match=r"^stage 'pulse': 1 of 3 shots overflowed .* shot 1"):
        check_finite(broken, sequence, paper)

"""Sequences that experiments stand for: the examples against the library's own."""

import dataclasses
import math
from pathlib import Path

import pytest

from jaxsde.engine.detect import Detector
from jaxsde.lab.config import Experiment, load_experiment
from jaxsde.lab.spec import ExperimentError, build_sequence
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence, Switching

TWO_PI = 2 * math.pi
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def kohler() -> Experiment:
    return load_experiment(EXAMPLES / "kohler2018.toml")


def test_kohler2018_is_the_library_s(kohler):
    assert kohler.params == Params.kohler2018()
    assert kohler.detector == Detector()
    assert build_sequence(kohler) == Sequence.kohler2018()
    assert build_sequence(kohler, t_c=100e-6) == Sequence.kohler2018(t_c=100e-6)
    assert build_sequence(kohler, t_c=0) == Sequence.kohler2018(t_c=0)
    minus = TWO_PI * -9e3
    assert build_sequence(kohler, delta=minus) == Sequence.kohler2018(delta=minus)
    assert kohler.gain_scan is not None
    kilohertz = [delta / TWO_PI / 1e3 for delta in kohler.gain_scan.delta]
    assert kilohertz == pytest.approx([-8.25 + 2.75 * i for i in range(11)])
    assert (kohler.shots, kohler.seed, kohler.method, kohler.dtype) == (
        200,
        2018,
        "exact",
        "float64",
    )
    assert kohler.analysis.fit_window == (12e-6, 54e-6)


@pytest.mark.parametrize(
    ("name", "params", "sequence"),
    [
        ("fig2", {}, dict(nbar=15.0, delta_pc=TWO_PI * -1.4e6, delta=TWO_PI * 8.05e3)),
        ("positive_mass", dict(epsilon=1.0), {}),
        ("inverted_detuning", {}, dict(delta_pc=TWO_PI * 2e6, delta=TWO_PI * -5.35e3)),
    ],
)
def test_variations_differ_as_the_paper_says(name, params, sequence):
    experiment = load_experiment(EXAMPLES / f"{name}.toml")
    assert experiment.params == Params.kohler2018(**params)
    assert build_sequence(experiment) == Sequence.kohler2018(**sequence)


def test_anomalous_diffusion_has_no_pulse():
    experiment = load_experiment(EXAMPLES / "anomalous_diffusion.toml")
    assert experiment.params == Params.kohler2018(omega_s=TWO_PI * 110e3)
    sequence = build_sequence(experiment)
    assert [(stage.name, stage.n_samples) for stage in sequence.stages] == [
        ("preparation", 120),
        ("measurement", 1000),
    ]
    assert [stage.controls.B_s for stage in sequence.stages] == [0.0, None]
    with pytest.raises(ExperimentError, match=r"^analysis\.pulse: "):
        build_sequence(experiment, coupled=False)
    with pytest.raises(ExperimentError, match=r"^analysis\.pulse: "):
        build_sequence(experiment, t_c=10e-6)


def test_reference_without_coupling_stays_at_rest(kohler):
    reference, coupled = build_sequence(kohler, coupled=False), build_sequence(kohler)
    assert [s.n_samples for s in reference.stages] == [s.n_samples for s in coupled.stages]
    assert all(s.controls.omega_m == kohler.params.omega_m for s in reference.stages)
    before, pulse, after = (reference.stages[i].controls for i in (1, 2, 3))
    assert (pulse.nbar, pulse.delta_pc) == (before.nbar, before.delta_pc) == (1.0, 0.0)
    assert after.nbar == 4.0


def test_reference_keeps_the_probe_with_which_the_stage_before_it_ends(kohler):
    minus = TWO_PI * -2e6
    ramps = dataclasses.replace(kohler.stages[1], nbar=(1.0, 4.0), delta_pc=(0.0, minus))
    pulse = dataclasses.replace(kohler.stages[2], nbar=(4.0, 10.0))
    moving = dataclasses.replace(
        kohler, stages=(kohler.stages[0], ramps, pulse, *kohler.stages[3:])
    )
    before, calm = (build_sequence(moving, coupled=False).stages[i].controls for i in (1, 2))
    assert (before.nbar, before.delta_pc) == ((1.0, 4.0), (0.0, minus))
    assert (calm.nbar, calm.delta_pc) == (4.0, minus) and not calm.is_ramp
    assert build_sequence(moving).stages[2].controls.nbar == (4.0, 10.0)


def test_switching_is_the_sequence_s(kohler):
    assert build_sequence(kohler).switching is None
    slow = dataclasses.replace(kohler, switching=Switching(rise_time=1e-6))
    for coupled in (True, False):
        assert build_sequence(slow, coupled=coupled).switching == Switching(rise_time=1e-6)


def test_reference_needs_a_stage_before_the_pulse(kohler):
    alone = dataclasses.replace(kohler, stages=kohler.stages[2:])
    with pytest.raises(ExperimentError, match=r"^stage 'pulse': wanted a stage before it"):
        build_sequence(alone, coupled=False)

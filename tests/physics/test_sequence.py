import math

import jax
import numpy as np
import pytest

from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Sequence, Stage, check_sequence, whole_samples


def one_stage(n_samples=4, interval=1e-6, **controls):
    stage = Stage(
        name="only", n_samples=n_samples, controls=Controls(**(dict(nbar=1.0) | controls))
    )
    return Sequence(stages=(stage,), sample_interval=interval)


def two_stages(first="a", second="b"):
    dark = Controls(nbar=0.0)
    stages = (
        Stage(name=first, n_samples=3, controls=dark),
        Stage(name=second, n_samples=2, controls=dark),
    )
    return Sequence(stages=stages, sample_interval=0.5)


def test_samples_times_and_spans():
    sequence = two_stages()
    assert sequence.n_samples == 5
    np.testing.assert_array_equal(sequence.stage_index, [0, 0, 0, 1, 1])
    np.testing.assert_allclose(sequence.time, [0.25, 0.75, 1.25, 1.75, 2.25])
    assert (sequence.span("a"), sequence.span("b")) == (slice(0, 3), slice(3, 5))


def test_span_refuses_a_name_that_is_not_one_stage():
    with pytest.raises(ValueError, match=r"^stage 'c': .*got 0 stages so called.* has a, b$"):
        two_stages().span("c")
    with pytest.raises(ValueError, match=r"^stage 'a': .*got 2 stages so called"):
        two_stages(second="a").span("a")


def test_kohler2018_is_the_papers_sequence():
    sequence = Sequence.kohler2018(delta=TWO_PI * 5e3, t_c=60e-6, nbar=10.0, delta_pc=-TWO_PI * 2e6)
    check_sequence(sequence)
    names = [stage.name for stage in sequence.stages]
    assert names == ["preparation", "ramp_up", "pulse", "ramp_down", "ringdown"]
    assert [stage.n_samples for stage in sequence.stages] == [120, 20, 120, 20, 1000]
    rest, up, pulse, down, ringdown = (stage.controls for stage in sequence.stages)
    assert [c.nbar for c in (rest, up, pulse, down, ringdown)] == [1, 1, 10, 4, 4]
    assert [c.delta_pc for c in (rest, up, down, ringdown)] == [0, 0, 0, 0]
    assert pulse.delta_pc == -TWO_PI * 2e6
    assert [c.is_ramp for c in (rest, up, pulse, down, ringdown)] == [0, 1, 0, 1, 0]
    assert pulse.omega_m == pytest.approx(TWO_PI * 125e3, rel=1e-14)
    assert up.omega_m == (rest.omega_m, pulse.omega_m) == down.omega_m[::-1]
    assert ringdown.omega_m == rest.omega_m == TWO_PI * 95e3
    # S.3: the spin's anomalous diffusion belongs to the measurement interval alone.
    assert [c.B_s for c in (rest, up, pulse)] == [0, 0, 0]
    assert down.B_s is None and ringdown.B_s is None


def test_kohler2018_without_a_pulse():
    names = [stage.name for stage in Sequence.kohler2018(t_c=0.0).stages]
    assert names == ["preparation", "ramp_up", "ramp_down", "ringdown"]


def test_controls_are_leaves_and_counts_are_static():
    sequence = Sequence.kohler2018()

    @jax.jit
    def traced(s):
        assert s.n_samples == sequence.n_samples
        return s.stages[2].controls.nbar, s.stages[1].controls.omega_m[1]

    nbar, end = traced(sequence)
    assert (nbar, end) == (10.0, pytest.approx(TWO_PI * 125.5e3))


@pytest.mark.parametrize("count", [1, 7, 120, 123_457])
@pytest.mark.parametrize("interval", [0.1e-6, 0.5e-6, 1 / 3e6])
def test_whole_samples_survives_the_rounding_of_decimal_times(count, interval):
    assert whole_samples("pulse", count * interval, interval) == count


def test_whole_samples_refuses_a_part_of_a_sample_and_tells_the_nearest():
    with pytest.raises(
        ValueError,
        match=r"^stage 'pulse': duration: wanted a whole number of samples of 0\.5 us, "
        r"got 60\.3 us \(120\.6 samples\); use 60 us or 60\.5 us$",
    ):
        whole_samples("pulse", 60.3e-6, 0.5e-6)
    with pytest.raises(ValueError, match=r"\(0\.2 samples\); use 0\.5 us$"):
        whole_samples("pulse", 0.1e-6, 0.5e-6)


@pytest.mark.parametrize("value", [0.0, -1e-6, math.nan, math.inf])
def test_whole_samples_refuses_times_that_are_not_positive(value):
    with pytest.raises(ValueError, match=r"^stage 'x': duration: wanted a positive time, got "):
        whole_samples("x", value, 1e-6)
    with pytest.raises(ValueError, match=r"^sample_interval: wanted a positive time in s, got "):
        whole_samples("x", 1e-6, value)


def test_kohler2018_names_the_stage_that_does_not_fit():
    with pytest.raises(ValueError, match=r"^stage 'pulse': duration: wanted a whole number"):
        Sequence.kohler2018(t_c=60.3e-6)
    with pytest.raises(ValueError, match=r"^stage 'ringdown': duration: wanted a positive time"):
        Sequence.kohler2018(t_ringdown=-1e-6)


def test_check_sequence_refuses_an_empty_one():
    with pytest.raises(ValueError, match=r"^sequence\.stages: wanted at least one stage, got none"):
        check_sequence(Sequence(stages=(), sample_interval=1e-6))


@pytest.mark.parametrize("interval", [0.0, -1.0, math.nan])
def test_check_sequence_refuses_the_interval(interval):
    with pytest.raises(ValueError, match=r"^sequence\.sample_interval: wanted a positive time"):
        check_sequence(one_stage(interval=interval))


@pytest.mark.parametrize("count", [0, -1, 2.5])
def test_check_sequence_refuses_a_count_of_samples(count):
    sequence = one_stage()
    # Past the constructor, whose types the tests' import hook checks and a user's session does not.
    object.__setattr__(sequence.stages[0], "n_samples", count)
    with pytest.raises(
        ValueError, match=r"^stage 'only': n_samples: wanted an integer of at least"
    ):
        check_sequence(sequence)


@pytest.mark.parametrize(
    "field, value",
    [
        ("nbar", -1.0),
        ("nbar", math.nan),
        ("B_s", -1.0),
        ("n_bath", -0.1),
        ("omega_m", -1.0),
        ("omega_m", (1.0, math.inf)),
    ],
)
def test_check_sequence_refuses_controls(field, value):
    with pytest.raises(ValueError, match=rf"^stage 'only': {field}: .*zero or more, got "):
        check_sequence(one_stage(**{field: value}))


def test_check_sequence_wants_a_finite_detuning_of_either_sign():
    check_sequence(one_stage(delta_pc=-1e7))
    with pytest.raises(
        ValueError, match=r"^stage 'only': delta_pc: wanted one finite number, got inf"
    ):
        check_sequence(one_stage(delta_pc=math.inf))


def test_check_sequence_wants_two_ends_of_a_ramp():
    with pytest.raises(ValueError, match=r"omega_m: wanted a pair \(start, end\), got 3 values"):
        check_sequence(one_stage(omega_m=(1.0, 2.0, 3.0)))

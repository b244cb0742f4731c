"""Numbers as people read them, and the phase of free evolution."""

import dataclasses
import math
import pathlib

import pytest

import tiny
from jaxsde.lab.config import build_sequence, load_experiment
from jaxsde.lab.table import (
    Row,
    _near,
    clipped_samples,
    format_error,
    format_number,
    free_phase,
    table_rows,
)

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (10.6456, 1.48, "10.6"),
        (-0.29488, 0.03407, "-0.295"),
        (40856.2, 3466.0, "40900"),
        (41222.26, None, "41220"),
        (26.1372, 0.7614, "26.14"),
        (0.0, None, "0"),
        (None, None, "-"),
        (math.nan, None, "nan"),
        (6.2057849e10, 1.6e10, "6.2e+10"),
    ],
)
def test_numbers_have_the_digits_that_mean_something(value, error, shown):
    assert format_number(value, error) == shown


@pytest.mark.parametrize(
    ("error", "shown"), [(1.4803, "1.5"), (0.0341, "0.034"), (3466.0, "3500"), (None, "-")]
)
def test_errors_have_two_digits(error, shown):
    assert format_error(error) == shown


def test_z_needs_an_error_and_theory():
    row = Row(name="n", label="n", value=3.0, error=0.5, theory=2.0, unit="", note="")
    assert row.z == 2.0
    assert dataclasses.replace(row, error=None).z is None
    assert dataclasses.replace(row, theory=None).z is None


def test_phases_are_compared_on_the_same_turn():
    value, theory = _near(3.1, -3.1 + 4 * math.pi)
    assert theory == pytest.approx(-3.1)
    assert value == pytest.approx(3.1 - 2 * math.pi)


def test_what_the_digitiser_clipped_is_the_last_row():
    results = tiny.tiny_results()
    assert "clipped" not in [row.name for row in table_rows(results)]
    made = tiny.with_everything(results)
    row = table_rows(made)[-1]
    # 12 shots in each of two ensembles of 150 samples, and 3 traces of 10 shots.
    assert made.main.sequence.n_samples == 150 and made.growth is not None
    samples = 2 * 12 * 150 + 3 * 10 * made.growth.displacement.shape[1]
    assert clipped_samples(made) == (12, samples)
    assert (row.name, row.unit, row.error, row.theory) == ("clipped", "%", None, None)
    assert row.value == pytest.approx(100 * 12 / samples)
    assert row.note.startswith(f"12 of {samples:,} samples were beyond the range of the ADC")


def test_a_scan_that_is_not_there_clips_nothing_twice():
    made = tiny.with_everything(tiny.tiny_results())
    alone = dataclasses.replace(made.experiment, gain_scan=None)
    assert clipped_samples(dataclasses.replace(made, experiment=alone)) == (9, 2 * 12 * 150)


def test_theory_of_a_ramped_pulse_says_that_it_is_a_mean():
    results = tiny.tiny_results()
    for made, said in ((results, False), (tiny.with_everything(results), True)):
        (row,) = [row for row in table_rows(made) if row.name == "gain"]
        assert ("averaged over the ramp" in row.note) == said


@pytest.mark.parametrize("epsilon", [-1.0, 1.0])
def test_free_phase_is_the_beat_over_the_ramp(epsilon):
    experiment = load_experiment(ROOT / "examples" / "kohler2018.toml")
    params = dataclasses.replace(experiment.params, epsilon=epsilon)
    experiment = dataclasses.replace(experiment, params=params)
    # Mean of 125.5 and 95 kHz less 120 kHz, for 10 us.
    expected = 2 * math.pi * (110.25e3 - 120e3) * 10e-6
    sign = 1 if epsilon < 0 else -1
    assert free_phase(experiment, build_sequence(experiment)) == pytest.approx(sign * expected)

"""The tables of docs/accuracy.md hold what bench/accuracy.py computes, but for its timings."""

import importlib
import pathlib
import re
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def accuracy():
    sys.path.append(str(ROOT / "bench"))
    try:
        yield importlib.import_module("accuracy")
    finally:
        sys.path.remove(str(ROOT / "bench"))


def table(name: str) -> list[list[str]]:
    """Return the rows of the page's table of that name, its head first."""
    (text,) = re.findall(rf"<!-- {name} -->\n((?:\|.*\n)+)", PAGE)
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines()]
    return [[cell.strip() for cell in row] for row in (rows[0], *rows[2:])]


def number(text: str) -> float:
    """Return the number that a cell begins with."""
    found = re.match(r"[-+]?[\d.,]+(?:e[-+]?\d+)?", text)
    assert found is not None, text
    return float(found[0].replace(",", ""))


def test_biases_are_those_of_the_maps(accuracy):
    said, made = table("bias"), accuracy.bias_table()
    assert said[0] == made[0] and len(said) == len(made) == 17
    for a, b in zip(said[1:], made[1:], strict=True):
        assert a[:3] == b[:3]
        # To the two digits shown, where one more may have been rounded away.
        values = ([number(cell) for cell in row[3:]] for row in (a, b))
        np.testing.assert_allclose(*values, rtol=0.06, err_msg=f"{a}")


def test_the_spurious_gain_is_omega_squared_dt(accuracy):
    (said,) = re.findall(r"<!-- gain -->([\d.]+) omega\^2 dt", PAGE)
    assert f"{accuracy.spurious_gain(1e-9):.5f}" == said == "1.00000"
    assert abs(accuracy.spurious_gain(20e-9) - 1) > 1e-5


def test_the_exact_method_shows_rounding_alone(accuracy):
    for stage in accuracy.STAGES:
        steps, found = accuracy.curve(stage, "exact")
        assert len(steps) == 13
        assert 1e-15 < found.max() < 1e-11


def test_steps_for_an_error_are_those_of_the_curves(accuracy):
    made = accuracy.cost_table(dict.fromkeys((*accuracy.METHODS, "composed"), 5e-8))
    said = table("cost")
    assert len(said) == len(made) == 12
    for a, b in zip(said[1:], made[1:], strict=True):
        assert [a[0], a[3]] == [b[0], b[3]]
        for k in (4, 5, 6):  # error, step, steps
            assert number(a[k]) == pytest.approx(number(b[k]), rel=0.06)


def test_times_follow_from_the_cost_of_a_step():
    for row in table("cost")[1:]:
        each, rate, time = (number(row[k]) for k in (1, 2, 7))
        step, steps = number(row[5]), number(row[6])
        assert time == pytest.approx(1000 * steps * each * 1e-9, rel=0.1)
        if "composed" not in row[0]:
            assert rate == pytest.approx(each / step, rel=0.1)


def test_bias_of_rounded_coefficients(accuracy):
    for row in table("float32")[1:]:
        dt, steps = number(row[0]) * 1e-9, number(row[1])
        got = accuracy.rounded(dt, round(steps) * dt)
        # Rounding to two digits of the number of steps, and of one digit of the error.
        assert number(row[4]) == pytest.approx(got, rel=0.4)


def test_the_estimate_of_a_ramps_error_is_the_error(accuracy):
    rows = table("ramps")[1:]
    (first, *_) = [i for i, row in enumerate(rows) if row[0].startswith("omega_m")]
    row = rows[first + 2]
    name, tolerance = rows[first][0], number(row[2])
    assert tolerance == 1e-8
    count, estimate, true = accuracy.ramps.chosen(name, tolerance)
    assert count == number(row[3])
    assert estimate == pytest.approx(number(row[4]), rel=0.02)
    assert true == pytest.approx(number(row[5]), rel=0.02)
    assert estimate == pytest.approx(true, rel=0.05)


def test_every_ramp_keeps_its_tolerance_and_its_order():
    for row in table("ramps")[1:]:
        assert not row[1] or abs(number(row[1]) - 4) <= 0.2
        tolerance, estimate, true = (number(row[k]) for k in (2, 4, 5))
        assert estimate <= tolerance and true <= tolerance
        assert true == pytest.approx(estimate, rel=0.1)


def test_the_propagator_is_exact(accuracy):
    said, made = table("propagator"), accuracy.propagator_table()
    assert [row[0] for row in said] == [row[0] for row in made]
    for a, b in zip(said[1:], made[1:], strict=True):
        for x, y in zip(a[1:], b[1:], strict=True):
            # Rounding differs between machines; its size does not.
            x, y = (number(cell.removeprefix("below ")) for cell in (x, y))
            assert y < max(10 * x, 1e-15)


def test_figures_are_there_and_small():
    names = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGE)
    assert len(names) == 4
    for name in names:
        assert (ROOT / "docs" / name).stat().st_size < 150_000

import numpy as np
import pytest

from jaxsde.inference.descent import (
    LEVEL_ERROR,
    check_determined,
    curvature,
    decrement_of,
    descend,
    inside,
)
from jaxsde.inference.point import Point

MATRIX = np.array([[4.0, 1.0], [1.0, 2.0]])
NONE = np.zeros(0)


def point(u, loss, gradient, information, complete=None):
    complete = information if complete is None else complete
    return Point(
        u=np.asarray(u, float), loss=loss, gradient=np.asarray(gradient, float),
        information=np.asarray(information, float), complete=np.asarray(complete, float),
        scores=NONE, log_likelihoods=NONE, squares=NONE, counts=NONE, offsets=NONE,
    )  # fmt: skip


def bowl(u, level=0, shifts=(0.0,)):
    """Return the Point of a quartic bowl around (1, -0.5), moved by a level's shift."""
    x = np.asarray(u) - np.array([1.0, -0.5]) - shifts[level]
    loss = 0.5 * x @ MATRIX @ x + 0.1 * np.sum(x**4)
    return point(u, loss, MATRIX @ x + 0.4 * x**3, MATRIX)


def free_everywhere(u):
    return np.zeros(len(u))


def run(evaluate, levels=1, edges=free_everywhere, **options):
    options = dict(max_steps=60, tolerance=0.01, tell=lambda *a: None) | options
    return descend(evaluate, levels, np.zeros(2), ("a", "b"), edges, **options)


def test_the_least_loss_is_found():
    found = run(bowl)
    assert found.converged and found.reason == ""
    np.testing.assert_allclose(found.point.u, [1.0, -0.5], atol=0.01)
    assert (np.diff(found.loss) < 0).all()
    assert found.decrement < 0.01


def test_more_accurate_levels_are_taken_until_they_change_nothing():
    shifts = (0.0, 0.1, 0.11, 0.1101, 0.1101)
    found = run(lambda u, level: bowl(u, level, shifts), levels=5)
    assert found.converged
    assert found.level == 2
    assert found.level_error < LEVEL_ERROR
    np.testing.assert_allclose(found.point.u, np.array([1.0, -0.5]) + 0.11, atol=0.01)


def test_levels_that_never_agree_are_no_convergence():
    found = run(lambda u, level: bowl(u, level, (0.0, 0.2, 0.4, 0.6)), levels=4)
    assert not found.converged
    assert "the average over jitter still moves the optimum by" in found.reason


def test_a_parameter_is_held_at_an_edge_that_the_loss_pushes_it_to():
    """The optimum of a, 1, lies beyond 0.5; b's best is then that of the bowl on the edge."""

    def edges(u):
        return np.array([1.0 if u[0] >= 0.5 else 0.0, 0.0])

    found = run(bowl, edges=edges)
    assert found.converged
    assert found.at_edge == ("a",)
    at = found.point
    assert at.u[0] >= 0.5
    assert abs(at.gradient[1]) < 0.02


def test_an_edge_that_the_loss_leaves_holds_nothing():
    at = point([0.0, 0.0], 0.0, [-1.0, 1.0], MATRIX)
    np.testing.assert_array_equal(inside(at, lambda u: np.array([-1.0, 0.0])), [True, True])
    np.testing.assert_array_equal(inside(at, lambda u: np.array([1.0, -1.0])), [False, False])


def test_the_decrement_is_the_step_in_standard_errors():
    at = point([0.0, 0.0], 0.0, MATRIX @ [0.3, 0.0], MATRIX)
    both = np.array([True, True])
    assert decrement_of(at, both) == pytest.approx(0.3 * np.sqrt(MATRIX[0, 0]))


def test_a_curvature_that_is_none_gives_way_to_the_complete_one():
    negative = np.diag([1.0, -0.5])
    np.testing.assert_array_equal(curvature(point([0, 0], 0.0, [0, 0], negative, MATRIX)), MATRIX)
    np.testing.assert_array_equal(curvature(point([0, 0], 0.0, [0, 0], MATRIX)), MATRIX)


def test_what_no_datum_tells_is_named():
    with pytest.raises(RuntimeError, match=r"^free: these data do not determine b; hold at least"):
        check_determined(point([0, 0], 0.0, [0, 0], np.diag([1.0, 0.0])), ("a", "b"))
    together = np.array([[1.0, 1.0], [1.0, 1.0]])
    with pytest.raises(RuntimeError, match=r"do not determine a and b; .* give a prior"):
        check_determined(point([0, 0], 0.0, [0, 0], together), ("a", "b"))
    check_determined(point([0, 0], 0.0, [0, 0], MATRIX), ("a", "b"))


def test_a_start_without_a_loss_is_refused():
    with pytest.raises(ValueError, match=r"^params: the start gives no finite loss; start closer"):
        run(lambda u, level: point(u, np.inf, [0, 0], MATRIX))


def test_a_gradient_that_is_wrong_is_no_convergence():
    found = run(lambda u, level: point(u, 1.0, [1.0, 1.0], MATRIX))
    assert not found.converged
    assert found.reason == "no step lowers the loss any more"

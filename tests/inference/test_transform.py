import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsde.inference.transform import check_free, with_free
from jaxsde.physics.params import Params

PARAMS = Params.kohler2018(n_s0=0.0)


def test_free_fields_move_by_factors_and_keep_their_sign():
    moved = with_free(PARAMS, ("g_m", "g_s"), jnp.log(jnp.array([1.5, 0.25])))
    assert float(moved.g_m) == pytest.approx(1.5 * PARAMS.g_m)
    assert float(moved.g_s) == pytest.approx(0.25 * PARAMS.g_s)
    assert moved.g_s < 0
    assert (moved.B_s, moved.kappa, moved.epsilon) == (PARAMS.B_s, PARAMS.kappa, PARAMS.epsilon)


def test_nothing_moves_at_zero():
    moved = with_free(PARAMS, ("g_m",), jnp.zeros(1))
    np.testing.assert_array_equal(jax.tree.leaves(moved), jax.tree.leaves(PARAMS))


def test_the_derivative_at_zero_is_the_value():
    slope = jax.jacfwd(lambda u: with_free(PARAMS, ("g_s",), u).g_s)(jnp.zeros(1))
    assert float(slope[0]) == pytest.approx(PARAMS.g_s)


def test_names_are_returned_as_a_tuple():
    assert check_free(PARAMS, ["B_s", "g_m"]) == ("B_s", "g_m")


@pytest.mark.parametrize(
    "free, message",
    [
        ((), r"^free: wanted at least one of omega_m, .*, got none$"),
        (("g_m", "g_x"), r"^free: wanted names out of omega_m, .*, got 'g_x'$"),
        (("epsilon",), r"^free: wanted names out of .*, got 'epsilon'$"),
        (("g_m", "g_m"), r"^free: wanted each name once, got 'g_m' 2 times$"),
        (("n_s0",), r"^free: n_s0 starts at 0, .*; start it at a guess of the right sign"),
    ],
)
def test_check_free_refuses(free, message):
    with pytest.raises(ValueError, match=message):
        check_free(PARAMS, free)

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsde.engine.detect import Detector
from jaxsde.inference.transform import (
    Gaussian,
    LogNormal,
    Model,
    check_free,
    check_priors,
    edges_of,
    make_free,
    placed,
    residual,
    u_of,
    value_of,
    values_of,
)
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Sequence

PARAMS = Params.kohler2018(n_s0=0.0)
MODEL = Model(params=PARAMS, sequence=Sequence.kohler2018(), detector=Detector())


def free(name, bounds=None):
    return make_free([MODEL], name, {} if bounds is None else {name: bounds}, (0,), name)


def at(name, u, bounds=None):
    return placed(MODEL, (free(name, bounds),), jnp.asarray([u]), 0)


@pytest.mark.parametrize(
    "name, bounds",
    [
        ("g_m", None),
        ("g_s", None),
        ("B_s", (0.0, math.inf)),
        ("g_s", (-math.inf, 1e5)),
        ("kappa", (TWO_PI * 1e6, TWO_PI * 3e6)),
        ("detector.angle", None),
        ("nbar", None),
    ],
)
def test_scales_begin_at_the_start_and_have_inverses(name, bounds):
    one = free(name, bounds)
    assert float(value_of(one, 0.0)) == pytest.approx(one.start)
    for u in (-0.7, 0.4):
        assert u_of(one, float(value_of(one, u))) == pytest.approx(u, abs=1e-9)
    assert one.low < float(value_of(one, 3.0)) < one.high


def test_magnitudes_move_by_factors_and_keep_their_sign():
    for name in ("g_m", "g_s"):
        moved = getattr(at(name, math.log(1.5)).params, name)
        assert float(moved) == pytest.approx(1.5 * getattr(PARAMS, name))
    model = at("g_m", 0.3)
    assert model.params.g_s == PARAMS.g_s and model.sequence == MODEL.sequence


def test_nothing_moves_at_zero():
    names = ("g_m", "kappa", "nbar", "detector.efficiency", "ringdown.nbar")
    frees = tuple(free(name) for name in names)
    moved = placed(MODEL, frees, jnp.zeros(len(names)), 0)
    np.testing.assert_allclose(jax.tree.leaves(moved), jax.tree.leaves(MODEL), rtol=1e-15)


def test_a_setting_moves_wherever_it_is():
    """The trap at rest is in four places; the photons of the ringdown are its ramp's too."""
    moved = at("omega_m", math.log(1.1))
    rest = 1.1 * PARAMS.omega_m
    assert float(moved.params.omega_m) == pytest.approx(rest)
    stages = {stage.name: stage.controls for stage in moved.sequence.stages}
    assert float(stages["preparation"].omega_m) == pytest.approx(rest)
    assert float(stages["ramp_up"].omega_m[0]) == pytest.approx(rest)
    assert float(stages["ramp_down"].omega_m[1]) == pytest.approx(rest)
    assert float(stages["ringdown"].omega_m) == pytest.approx(rest)
    assert float(stages["pulse"].omega_m) == pytest.approx(TWO_PI * 125.5e3)
    nbar = {s.name: s.controls.nbar for s in at("ringdown.nbar", math.log(2)).sequence.stages}
    assert (float(nbar["ringdown"]), float(nbar["ramp_down"])) == pytest.approx((8.0, 8.0))
    assert (nbar["pulse"], nbar["preparation"]) == (10.0, 1.0)


def test_nbar_is_a_factor_of_every_stage():
    moved = at("nbar", math.log(1.2))
    for stage, before in zip(moved.sequence.stages, MODEL.sequence.stages, strict=True):
        assert float(stage.controls.nbar) == pytest.approx(1.2 * before.controls.nbar)
    assert free("nbar").start == 1.0


def test_the_detector_moves():
    assert float(at("detector.efficiency", math.log(2)).detector.efficiency) == pytest.approx(0.18)


def test_edges_are_seen():
    frees = free("B_s"), free("kappa", (TWO_PI * 1e6, TWO_PI * 3e6)), free("detector.angle")
    np.testing.assert_array_equal(edges_of(frees, np.zeros(3)), 0)
    np.testing.assert_array_equal(edges_of(frees, np.array([-8.0, 9.0, 50.0])), [-1, 1, 0])
    np.testing.assert_array_equal(edges_of(frees, np.array([8.0, -9.0, -50.0])), [0, -1, 0])


def test_values_are_of_all_free_parameters():
    frees = free("g_m"), free("nbar")
    got = values_of(frees, jnp.asarray([0.0, math.log(3.0)]))
    np.testing.assert_allclose(got, [PARAMS.g_m, 3.0])


@pytest.mark.parametrize(
    "names, message",
    [
        ((), r"^free: wanted at least one of omega_m, .*, got none$"),
        (("g_m", "g_x"), r"^free: wanted names out of omega_m, .*, got 'g_x'$"),
        (("epsilon",), r"^free: wanted names out of .*, got 'epsilon'$"),
        (("ringup.nbar",), r"^free: wanted names out of .*ringdown\.nbar.*, got 'ringup.nbar'$"),
        (("ramp_up.omega_m",), r"^free: wanted names out of .*, got 'ramp_up.omega_m'$"),
        (("g_m", "g_m"), r"^free: wanted each name once, got 'g_m' 2 times$"),
    ],
)
def test_check_free_refuses(names, message):
    with pytest.raises(ValueError, match=message):
        check_free(MODEL, names)


def test_names_are_returned_as_a_tuple():
    assert check_free(MODEL, ["B_s", "g_m"]) == ("B_s", "g_m")


def test_starts_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"^free: n_s0 starts at 0, where its scale and sign"):
        free("n_s0")
    assert free("n_s0", (-0.5, 10.0)).scale == "between"
    with pytest.raises(ValueError, match=r"^bounds: n_s0: wanted bounds around its start 0, got"):
        free("n_s0", (0.0, 10.0))
    far = dataclasses.replace(PARAMS, omega_m=1.1 * PARAMS.omega_m)
    model = dataclasses.replace(MODEL, params=far)
    with pytest.raises(ValueError, match=r"^free: omega_m: wanted a stage at params.omega_m, .*"):
        make_free([model], "omega_m", {}, (0,), "omega_m")


def test_residuals_are_standard_deviations():
    assert residual(Gaussian(mean=2.0, stderr=0.5), 3.0) == pytest.approx(2.0)
    got = residual(LogNormal(median=-2.0, spread=0.1), -2.0 * math.exp(0.2))
    assert float(got) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "priors, message",
    [
        ({"B_s": Gaussian(mean=1.0, stderr=1.0)}, r"^priors: wanted names of free parameters"),
        ({"g_s": 3.0}, r"^priors: g_s: wanted a Gaussian or a LogNormal, got 3.0$"),
        ({"g_s": Gaussian(mean=1.0, stderr=0.0)}, r"^priors: g_s: wanted a positive width, got"),
        ({"g_s": LogNormal(median=1e5, spread=0.1)}, r"^priors: g_s: wanted a median of the star"),
    ],
)
def test_priors_are_checked(priors, message):
    with pytest.raises(ValueError, match=message):
        check_priors(priors, [free("g_s")])

"""Ramps of omega_m, nbar and delta_pc against the integrated moment equations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
import transients
from jaxsde.engine.covariance import covariance
from jaxsde.engine.plan import segments, transitions
from jaxsde.engine.records import signal_covariance
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.physics.model import SIGNALS
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls
from transients import DT, RED, REST, STILL, UP, deviation, sequence_of

BASE = dict(nbar=4.0, delta_pc=RED / 2, omega_m=TWO_PI * 110e3)
ENDS = dict(omega_m=(REST, UP), nbar=(1.0, 10.0), delta_pc=(0.0, RED))
BEFORE = (20, Controls(**BASE))  # the pulse that correlates what the ramp then takes along
RAMPS = {f"{name} {way}": {name: ends[:: 1 if way == "up" else -1]}
         for name, ends in ENDS.items() for way in ("up", "down")}  # fmt: skip
RAMPS["all up"], RAMPS["all down"] = ENDS, {name: ends[::-1] for name, ends in ENDS.items()}


def ramp_of(n_samples=20, before=True, **ends):
    """Return a ramp between `ends`, after a pulse or alone; what stands still is a ramp too."""
    still = {name: (value, value) for name, value in BASE.items()}  # so that programs are shared
    stage = (n_samples, Controls(**still | ends))
    return sequence_of(*((BEFORE, stage) if before else (stage,)))


def through(sequence, resolution, params=STILL):
    """Return the covariance at the end of a sequence, without jitter."""
    return np.asarray(covariance(params, sequence, resolution=resolution, nodes=(1, 1)))[-1]


# --- accuracy, and what is said of it ---------------------------------------------------------


@pytest.mark.parametrize("name", RAMPS)
def test_error_is_below_the_tolerance_and_honestly_estimated(name):
    sequence = ramp_of(**RAMPS[name])
    expected = transients.instant(STILL, sequence)[-1]
    for tolerance in (1e-6, 1e-8, 1e-10) if name.startswith("all") else (1e-6, 1e-10):
        resolution = choose_resolution(STILL, sequence, tolerance=tolerance)
        error = deviation(through(sequence, resolution), expected)
        assert error < tolerance == resolution.tolerance
        assert error / 3 < resolution.ramp_error < 5 * error
        # And no more steps than that takes: half as many would not do.
        assert resolution.ramp_error > tolerance / 20
    # The end is not where a stage that stands still at the middle would be.
    middle = {k: (sum(v) / 2,) * 2 for k, v in RAMPS[name].items()}
    still = transients.instant(STILL, ramp_of(**middle))[-1]
    assert deviation(still, expected) > 1e-2


@pytest.mark.parametrize("epsilon", [-1.0, 1.0])
def test_error_of_the_papers_sequence(epsilon):
    params = dataclasses.replace(STILL, epsilon=epsilon)
    sequence = jaxsde.Sequence.kohler2018()
    expected = transients.instant(params, sequence)
    resolution = choose_resolution(params, sequence)
    got = np.asarray(covariance(params, sequence, resolution=resolution, nodes=(1, 1)))
    assert deviation(got, expected) < 2 * resolution.tolerance  # two ramps


@pytest.mark.parametrize("name", ["omega_m up", "nbar down", "delta_pc up", "all up"])
def test_ramps_converge_at_fourth_order(name):
    sequence = ramp_of(4, **RAMPS[name])
    expected = transients.instant(STILL, sequence)[-1]
    made = choose_resolution(STILL, sequence, tolerance=1e-2)
    errors = [
        deviation(through(sequence, dataclasses.replace(made, ramp_substeps=n)), expected)
        for n in (6, 12, 24)
    ]
    assert 1e-10 < errors[-1] < errors[0] < 1e-2
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 4.0, atol=0.3)


@pytest.mark.parametrize("ends", [(0.0, 10.0), (10.0, 0.0)], ids=["up", "down"])
def test_a_ramp_from_the_dark_is_met_or_refused(ends):
    """The amplitude goes as the root of time there: no fourth order, by far."""
    sequence = ramp_of(nbar=ends)
    expected = transients.instant(STILL, sequence)[-1]
    resolution = choose_resolution(STILL, sequence, tolerance=1e-5)
    error = deviation(through(sequence, resolution), expected)
    assert error < 1e-5
    assert error / 3 < resolution.ramp_error <= 1e-5
    steps = [resolution.ramp_substeps * k for k in (1, 4)]
    errors = [
        deviation(through(sequence, dataclasses.replace(resolution, ramp_substeps=n)), expected)
        for n in steps
    ]
    assert 1.0 < np.log(errors[0] / errors[1]) / np.log(4) < 2.0
    with pytest.raises(
        ValueError,
        match=r"^tolerance: wanted the covariance to 1e-11 .* for a ramp .* keep a ramp's nbar fr",
    ):
        choose_resolution(STILL, sequence, tolerance=1e-11)


@pytest.mark.parametrize("model", SIGNALS)
def test_records_of_a_ramp_are_as_accurate_as_its_states(model):
    """The tolerance is asked of states; signals, integrated in the same steps, keep to it."""
    sequence = ramp_of(before=False, **ENDS)
    resolution = choose_resolution(STILL, sequence)
    finer = dataclasses.replace(resolution, ramp_substeps=4 * resolution.ramp_substeps)
    got, expected = (
        np.asarray(signal_covariance(STILL, sequence, r, model, (1, 1))[0])
        for r in (resolution, finer)
    )
    n = 20 * len(SIGNALS[model])
    assert deviation(got.reshape(n, n), expected.reshape(n, n)) < 1e-8


# --- a stage may be cut anywhere --------------------------------------------------------------


def cut(controls, n, at):
    """Return the parts of a stage of n samples that is cut at sample `at`."""

    def part(first, last):
        ends = {
            name: tuple(value[0] + (value[1] - value[0]) * f for f in (first, last))
            for name in ENDS
            if isinstance(value := getattr(controls, name), tuple)
        }
        return dataclasses.replace(controls, **ends)

    return (at, part(0.0, at / n)), (n - at, part(at / n, 1.0))


@pytest.mark.parametrize(
    "moving, at",
    [({}, 1), ({}, 7), ({}, 19), (ENDS, 1), (ENDS, 13)],
    ids=lambda v: str(v) if isinstance(v, int) else ("ramp" if v else "still"),
)
def test_a_stage_may_be_cut_in_two(moving, at):
    """With no change to its end, to a sample of its record, or to what two samples share."""
    controls = Controls(**BASE | moving)
    whole, parts = sequence_of((20, controls)), sequence_of(*cut(controls, 20, at))
    resolution = choose_resolution(STILL, whole, tolerance=1e-6)
    ends = [through(s, resolution) for s in (whole, parts)]
    assert deviation(*ends) < 1e-12
    for model in SIGNALS:
        one, two = (
            np.asarray(signal_covariance(STILL, s, resolution, model, (1, 1))[0])
            for s in (whole, parts)
        )
        n = 20 * len(SIGNALS[model])
        assert deviation(one.reshape(n, n), two.reshape(n, n)) < 1e-12


@pytest.mark.parametrize(
    "kind, counts", [("still", (1, 2, 3, 31, 32, 33, 63, 64, 65, 165)), ("ramp", (1, 2, 31, 33))]
)
def test_any_number_of_samples(kind, counts):
    """Powers of two, at which binary powers of a map turn, and numbers next to them."""
    for n in counts:
        still, ramp = sequence_of((n, Controls(**BASE))), ramp_of(n, False, omega_m=(REST, UP))
        sequence = still if kind == "still" else ramp
        expected = transients.instant(STILL, sequence)[-1]
        resolution = choose_resolution(STILL, sequence)
        assert deviation(through(sequence, resolution), expected) < 1e-8, n


# --- ramps that are none, and other methods -----------------------------------------------------


@pytest.mark.parametrize("method", ["exact", "interaction_euler", "euler_maruyama"])
@pytest.mark.parametrize("model", SIGNALS)
def test_a_standing_stage_is_a_ramp_between_equal_ends(method, model):
    still = Controls(**BASE)
    moving = dataclasses.replace(still, **{name: (BASE[name], BASE[name]) for name in BASE})
    resolution = Resolution(method=method, substeps=30, ramp_substeps=3, doublings=10)
    one, two = (
        transitions(STILL, part, jnp.array([[1e3, -2e3]]), DT, resolution, model)
        for controls in (still, moving)
        for part in segments(STILL, sequence_of((1, controls)), resolution)
    )
    s = np.sqrt(np.diagonal(one.Q[0]))
    unit = np.append(np.ones(6), s[6:])[:, None]
    np.testing.assert_allclose(two.A[0, 0] / unit, one.A[0] / unit, rtol=1e-9, atol=1e-12)
    assert deviation(two.Q[0, 0] + np.diag(s**2), np.asarray(one.Q[0]) + np.diag(s**2)) < 1e-11


def test_jitter_moves_both_ends_of_a_ramp():
    """Offsets of omega_m are those of the trap: of the start and of the end alike."""
    sequence, off = ramp_of(**ENDS), 2e4
    moved = ramp_of(**ENDS | dict(omega_m=(REST + off, UP + off)))
    params = dataclasses.replace(STILL, sigma_m=off, sigma_s=0.0)
    resolution = choose_resolution(params, sequence)
    conditional = jax.jit(
        lambda z: jaxsde.engine.covariance.conditional_covariance(params, sequence, z, resolution)
    )
    got = conditional(jnp.array([[1.0], [0.0]]))[0, -1]
    before = Controls(**BASE | dict(omega_m=BASE["omega_m"] + off))
    moved = dataclasses.replace(
        moved, stages=(dataclasses.replace(moved.stages[0], controls=before), moved.stages[1])
    )
    assert deviation(got, transients.instant(STILL, moved)[-1]) < 2e-8

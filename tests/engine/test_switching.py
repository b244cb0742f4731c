"""The whole covariance while a probe is switched, against one frame in which nothing jumps."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxsde
import transients
from ensembles import z_of_products
from jaxsde.engine.resolution import choose_resolution
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Switching
from transients import DT, EVERY_KIND, RED, REST, STILL, UP, deviation, sequence_of


def covariance(params, sequence, **options):
    """Return (covariance at the stages' ends, Resolution), without jitter."""
    resolution = choose_resolution(params, sequence, **options)
    return jaxsde.covariance(params, sequence, resolution=resolution, nodes=(1, 1)), resolution


@pytest.mark.parametrize(
    "rise_us, epsilon, tolerance", [(0.0, -1.0, 1e-8), (0.3, 1.0, 1e-10), (1.7, -1.0, 1e-9)]
)
def test_covariance_is_that_of_the_full_field_in_one_frame(rise_us, epsilon, tolerance):
    """At 1.7 us the drive of the third stage, 1 us long, is still rising when the next begins."""
    params = dataclasses.replace(STILL, epsilon=epsilon)
    sequence = sequence_of(*EVERY_KIND, switching=Switching(rise_time=rise_us * 1e-6))
    expected = transients.switched(params, sequence)
    got, resolution = covariance(params, sequence, tolerance=tolerance)
    error = deviation(got, expected)
    assert error < tolerance
    assert error / 3 < resolution.ramp_error <= min(tolerance, 5 * error)
    sudden = transients.instant(params, sequence)
    assert deviation(sudden[1:], expected[1:]) > 0.01  # six orders above what is tested


@pytest.mark.parametrize("lengths", [(1, 1, 1, 1, 1), (3, 5, 6, 7, 2)])
def test_stages_may_end_before_the_field_has_settled(lengths):
    parts = [(n, controls) for n, (_, controls) in zip(lengths, EVERY_KIND, strict=True)]
    sequence = sequence_of(*parts, switching=Switching(rise_time=0.3e-6))
    got, _ = covariance(STILL, sequence)
    assert deviation(got, transients.switched(STILL, sequence)) < 1e-8


@pytest.mark.parametrize("step", ["nbar", "delta_pc"])
def test_a_step_of_one_control_alone(step):
    first = Controls(nbar=2.0, delta_pc=RED)
    second = dataclasses.replace(first, **{step: dict(nbar=9.0, delta_pc=TWO_PI * 1.4e6)[step]})
    sequence = sequence_of((4, first), (8, second), switching=Switching())
    got, _ = covariance(STILL, sequence)
    expected = transients.switched(STILL, sequence)
    assert deviation(got, expected) < 1e-8
    assert deviation(transients.instant(STILL, sequence)[1], expected[1]) > 1e-3


def test_a_ramp_in_the_first_stage_starts_from_a_field_at_rest():
    ramp = Controls(nbar=(4.0, 8.0), delta_pc=(0.0, RED), omega_m=(REST, UP))
    sequence = sequence_of((6, ramp), (4, Controls(nbar=4.0)), switching=Switching())
    got, _ = covariance(STILL, sequence)
    assert deviation(got, transients.switched(STILL, sequence)) < 1e-8


def test_nothing_changes_where_no_probe_differs():
    parts = [(5, Controls(nbar=6.0, delta_pc=RED, omega_m=w)) for w in (REST, UP, REST)]
    parts.insert(1, (4, Controls(nbar=6.0, delta_pc=RED, omega_m=(REST, UP))))
    instant, _ = covariance(STILL, sequence_of(*parts), tolerance=1e-9)
    for rise in (0.0, 0.3e-6):
        same = sequence_of(*parts, switching=Switching(rise_time=rise))
        switched, _ = covariance(STILL, same, tolerance=1e-9)
        assert deviation(switched, np.asarray(instant)) < 2e-9


def test_a_fast_cavity_follows_at_once():
    """What is left of the transient goes as 1/kappa."""
    left = []
    for kappa in (TWO_PI * 40e6, TWO_PI * 80e6):
        params = dataclasses.replace(STILL, kappa=kappa)
        parts = ((2, Controls(nbar=1.0)), (8, Controls(nbar=10.0, delta_pc=RED, omega_m=UP)))
        instant, switched = (
            np.asarray(covariance(params, sequence_of(*parts, dt=0.1e-6, switching=s))[0])
            for s in (None, Switching())
        )
        left.append(deviation(switched[:, :4, :4], instant[:, :4, :4]))
    assert left[0] / left[1] == pytest.approx(2.0, rel=0.1)


def test_the_error_estimate_covers_the_paper():
    """The whole sequence with switched probes: errors of ramps and switches do not add up much."""
    sequence = jaxsde.Sequence.kohler2018(switching=Switching(rise_time=0.3e-6))
    got, resolution = covariance(STILL, sequence)
    error = deviation(got, transients.switched(STILL, sequence))
    assert error < 1e-8
    assert error / 3 < resolution.ramp_error


def test_shots_have_the_covariance_of_theory():
    n, params = 20_000, jaxsde.Params.kohler2018()
    sequence = sequence_of(*EVERY_KIND[:3], switching=Switching(rise_time=1.2e-6))
    shots = jaxsde.simulate(
        jax.random.key(3), params, sequence, jaxsde.Detector(sample_interval=DT), n
    )
    theory = np.asarray(jaxsde.covariance(params, sequence))
    z = np.array([z_of_products(shots.states[:, s], theory[s]) for s in range(3)])
    assert np.abs(z).max() < 4  # 63 of them
    assert 0.8 < z.std() < 1.2
    sudden = np.asarray(jaxsde.covariance(params, dataclasses.replace(sequence, switching=None)))
    assert max(np.abs(z_of_products(shots.states[:, s], sudden[s])).max() for s in range(3)) > 6

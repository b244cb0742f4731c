"""The verification sees wrong physics, and passes right physics."""

import dataclasses

import jax
import numpy as np
import pytest

import ensembles
import jaxsde
from jaxsde.analysis.verify import Comparison, all_z, compare, rms

SHOTS = 20_000


def verified(params):
    return compare(ensembles.paper(SHOTS), params, ensembles.SEQUENCE, ensembles.DETECTOR)


def test_right_physics_passes():
    groups = verified(ensembles.PARAMS)
    z = all_z(groups)
    assert len(z) > 1000
    assert np.max(np.abs(z)) < 4.5
    # Neighbouring moments are correlated; 0.15 is some three standard deviations of the rms seen.
    assert abs(rms(z) - 1) < 0.15
    assert sum(group.beyond(5) for group in groups) == 0


@pytest.mark.parametrize(
    "wrong",
    [dict(g_sm=0.0), dict(B_s=4e4), dict(gamma_m=1.2 * ensembles.PARAMS.gamma_m), dict(n_bath=1.3)],
    ids=str,
)
def test_wrong_physics_is_seen(wrong):
    groups = verified(dataclasses.replace(ensembles.PARAMS, **wrong))
    assert sum(group.beyond(5) for group in groups) > 0


def test_a_moment_that_is_not_finite_counts_as_beyond():
    group = Comparison(
        group="g",
        names=("a", "b", "c", "d"),
        measured=np.array([1.1, np.nan, -6.0, 1.0]),
        theory=np.ones(4),
        error=np.array([1.0, 1.0, 1.0, 0.0]),
    )
    assert group.beyond(5) == 3
    assert group.worst[0] == "b"


def test_an_ideal_record_is_compared_too():
    sequence = jaxsde.Sequence.kohler2018(t_ringdown=60e-6)
    detector = jaxsde.Detector.ideal()
    shots = jaxsde.simulate(jax.random.key(5), ensembles.PARAMS, sequence, detector, 2000)
    assert np.max(np.abs(all_z(compare(shots, ensembles.PARAMS, sequence, detector)))) < 5

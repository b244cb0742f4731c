import jax.numpy as jnp
import numpy as np

import jaxsde
from jaxsde.engine.covariance import segment_transition
from jaxsde.engine.plan import at_offsets, jitter_basis, segments
from jaxsde.engine.resolution import choose_resolution
from jaxsde.inference.tables import interval_of, tabulate
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Sequence, Stage, Switching

PARAMS, DETECTOR = jaxsde.Params.kohler2018(), jaxsde.Detector(sample_interval=1e-6)


def sequence(switching=None):
    ramp = Controls(nbar=4.0, omega_m=(TWO_PI * 125e3, TWO_PI * 95e3))
    stages = (
        Stage(name="pulse", n_samples=6, controls=Controls(nbar=10.0)),
        Stage(name="ramp", n_samples=3, controls=ramp),
        Stage(name="ringdown", n_samples=5, controls=Controls(nbar=4.0)),
    )
    return Sequence(stages=stages, sample_interval=1e-6, switching=switching)


def test_samples_that_are_alike_share_an_entry_and_moving_ones_have_their_own():
    resolution = choose_resolution(PARAMS, sequence())
    got = interval_of(sequence(), resolution)
    np.testing.assert_array_equal(got, [0] * 6 + [1, 2, 3] + [4] * 5)
    tables = tabulate(PARAMS, sequence(), DETECTOR, resolution)
    assert tables.transitions.A.shape[0] == tables.gains.shape[0] == 5


def test_a_switch_moves_the_first_samples_of_a_stage():
    switched = sequence(Switching(rise_time=0.1e-6))
    resolution = choose_resolution(PARAMS, switched, tolerance=1e-4)
    assert resolution.settling == 3
    got = interval_of(switched, resolution)
    np.testing.assert_array_equal(got, [0] * 6 + [1, 2, 3] + [4, 5, 6, 7, 7])


def test_entries_are_the_transitions_of_the_engine():
    resolution = choose_resolution(PARAMS, sequence())
    tables = tabulate(PARAMS, sequence(), DETECTOR, resolution)
    z = jnp.array([[0.5], [-1.0]])
    basis = jitter_basis(z, resolution.jitter_nodes)
    (last,) = [s for s in segments(PARAMS, sequence(), resolution) if s.stage == 2]
    want = segment_transition(PARAMS, last, z, 1e-6, resolution)
    entry = type(want)(A=tables.transitions.A[4], Q=tables.transitions.Q[4])
    a, q = at_offsets(entry, basis)
    np.testing.assert_allclose(a[..., 0], want.A[0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(q[..., 0], want.Q[0], rtol=1e-12, atol=1e-15)

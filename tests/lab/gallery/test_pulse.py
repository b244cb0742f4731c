import numpy as np

from jaxsde.lab.gallery.pulse import DELTA, DELTA_PC, NBAR, couplings
from jaxsde.lab.gallery.settings import experiment
from jaxsde.lab.spec import build_sequence


def test_the_coupling_is_that_of_the_probe_at_every_instant():
    made = experiment(delta=DELTA, nbar=NBAR, delta_pc=DELTA_PC)
    p, sequence = made.params, build_sequence(made)
    found = couplings(made, sequence)
    pulse = sequence.span("pulse")
    wanted = 4 * p.g_s * p.g_m * NBAR * DELTA_PC / (p.kappa**2 + DELTA_PC**2)
    np.testing.assert_allclose(found["optical"][pulse], wanted)
    assert wanted > 0
    outside = np.delete(found["optical"], np.arange(pulse.start, pulse.stop))
    np.testing.assert_array_equal(outside, 0)
    np.testing.assert_allclose(found["static"][pulse], 2 * NBAR * p.g_sm)
    np.testing.assert_allclose(found["static"][sequence.span("ringdown")], 8 * p.g_sm)
    ramp = found["omega_m"][sequence.span("ramp_up")]
    steps = np.diff(ramp)
    np.testing.assert_allclose(steps, steps[0])
    np.testing.assert_allclose(found["omega_m"][pulse], p.omega_s + DELTA)


def test_without_coupling_there_is_none():
    made = experiment(nbar=NBAR, delta_pc=DELTA_PC)
    found = couplings(made, build_sequence(made, coupled=False))
    np.testing.assert_array_equal(found["optical"], 0)
    np.testing.assert_allclose(found["omega_m"], made.params.omega_m)

import numpy as np
import pytest

from jaxsde.lab.gallery import traces
from jaxsde.lab.gallery.settings import KHZ, Settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made():
    """Datasets of Figs. S2 and 3b-c at three detunings, with short pulses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traces, "RED_DELTAS", np.array([2.5, 5.0, 7.5]) * KHZ)
        patch.setattr(traces, "RED_T_C", 120e-6)
        patch.setattr(traces, "MANY", 200)
        settings = Settings(shots=100, seed=5)
        positive = traces.make_positive(settings, lambda *a: None)
        return positive, traces.make_resonance(settings, lambda *a: None)


def test_two_positive_masses_have_no_gain(made):
    positive, resonance = made
    assert positive.facts["params"]["epsilon"] == 1 and resonance.facts["params"]["epsilon"] == -1
    assert np.all(positive["theory"] < 0) and np.all(resonance["theory"] > 3e4)
    z = (positive["grown"] - positive["grown_expected"]) / positive["grown_error"]
    assert np.all(np.abs(z) < 5)
    # The same pulse on a negative mass grows by many times the error of that.
    assert np.all(positive["negative_grown"] > 5 * positive["negative_grown_error"])
    assert positive["negative_grown"].min() > 20 * np.abs(positive["grown_expected"]).max()


def test_the_joint_fits_find_the_gain(made):
    _, found = made
    for prefix in ("", "many_"):
        error = np.hypot(found[f"{prefix}gain_stat"], found[f"{prefix}gain_sys"])
        z = (found[f"{prefix}gain"] - found["exact_gain"]) / error
        assert np.all(np.abs(z[found[f"{prefix}closed"]]) < 5)
        assert found[f"{prefix}closed"].sum() >= 2
    # Without noise, S12 follows the steady-state gain where growth is fast.
    np.testing.assert_allclose(found["exact_gain"], found["theory"], rtol=0.1)
    assert np.ptp(found["D_0"]) == 0  # common to all traces

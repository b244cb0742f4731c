import numpy as np
import pytest

from jaxsde.lab.gallery import state
from jaxsde.lab.gallery.settings import KHZ
from jaxsde.lab.gallery.state import uncertainties
from jaxsde.physics.params import Params


def test_uncertainties_are_in_si_and_positive():
    found = uncertainties(Params.kohler2018(), 4.0)
    assert found["g_s"] == pytest.approx(0.02 * 18 * KHZ)
    assert found["omega_m"] == pytest.approx(0.05 * KHZ)
    assert found["nbar"] == pytest.approx(0.08)
    assert all(v > 0 for v in found.values())


def test_phases_are_taken_near_minus_half_pi():
    angles = np.array([0.0, np.pi, 1.5 * np.pi, -0.6 * np.pi, 3.4 * np.pi])
    found = state._wrapped(angles) / np.pi
    np.testing.assert_allclose(found, [0.0, -1.0, -0.5, -0.6, -0.6])


@pytest.mark.slow
def test_the_prediction_is_that_of_the_pulse_and_carries_the_errors(monkeypatch):
    monkeypatch.setattr(state, "T_CS", np.array([60e-6]))
    arrays = {}
    for name in ("n_m", "n_s"):
        arrays |= {f"{name}_value": np.ones((2, 1)), f"{name}_stat": np.full((2, 1), 0.8)}
        arrays[f"{name}_sys"] = np.full((2, 1), 0.3)
    predicted, error = state.predict(arrays)
    # 11.57 quanta when the pulse ends (docs/conventions.md); the ramp back damps the motion, and
    # its static coupling, at most nbar g_sm (n_m + n_s + 1) for 10 us, adds to it.
    p = Params.kohler2018()
    damped = 11.57 * np.exp(-p.gamma_m * 10e-6 / 2)
    assert damped < predicted[0] < damped + 4 * p.g_sm * (10.37 + 12.91 + 1) * 10e-6
    assert 0.1 < error[0] / predicted[0] < 0.6
    none = arrays | {f"{n}_{k}": np.zeros((2, 1)) for n in ("n_m", "n_s") for k in ("stat", "sys")}
    again, zero = state.predict(none)
    np.testing.assert_allclose(again, predicted)
    np.testing.assert_allclose(zero, 0, atol=1e-9)

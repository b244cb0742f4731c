import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsde.analysis.displacement import MeanSquaredDisplacement
from jaxsde.lab.gallery import traces
from jaxsde.lab.gallery.settings import BLUE, KHZ, Settings, experiment
from jaxsde.lab.gallery.traces import EDGE, RED_DELTAS, Traces, bins_for, pulse_ends
from jaxsde.lab.pulse import pulse_gain
from jaxsde.physics.params import Params

TIME = np.arange(-70e-6, 170e-6, 0.5e-6)


def trace(gain: float, shots: int = 50, seed: int = 0) -> MeanSquaredDisplacement:
    """Return shots whose power scatters in proportion to itself and grows at gain (1/s)."""
    rng = np.random.default_rng(seed)
    each = 5e10 * np.exp(gain * np.clip(TIME, 0.0, 140e-6)) * rng.exponential(1.0, (shots, 1))
    each = each + 1e9 * rng.normal(size=each.shape)
    return MeanSquaredDisplacement(
        time=TIME,
        mean=jnp.asarray(each.mean(axis=0)),
        stderr=jnp.asarray(each.std(axis=0, ddof=1) / np.sqrt(shots)),
        each=jnp.asarray(each),
        noise_bias=jnp.zeros(TIME.size),
    )


def test_theory_has_no_gain_for_two_positive_masses():
    positive = experiment(params=Params.kohler2018(epsilon=1.0))
    negative = experiment(params=Params.kohler2018(epsilon=-1.0))
    assert np.all(pulse_gain(positive, RED_DELTAS) < 0)
    assert pulse_gain(negative, np.array([5.55 * KHZ]))[0] == pytest.approx(4.122e4, rel=1e-3)
    inverted = dataclasses.replace(experiment(delta_pc=BLUE))
    assert pulse_gain(inverted, np.array([-5.35 * KHZ]))[0] == pytest.approx(1.182e4, rel=1e-3)


def test_growth_over_the_pulse_is_that_of_its_ends():
    gains = (0.0, 3e4)
    each = [trace(g, seed=i) for i, g in enumerate(gains)]
    expected = np.stack([5e10 * np.exp(g * np.clip(TIME, 0.0, 140e-6)) for g in gains])
    found = pulse_ends(
        Traces(each=each, expected=expected, time=TIME, origin=70e-6), (12e-6, 132e-6)
    )
    late, early = (np.exp(3e4 * (t + np.array([0, EDGE]))).mean() for t in (112e-6, 12e-6))
    np.testing.assert_allclose(found["grown_expected"][1], 5e10 * (late - early), rtol=0.03)
    assert abs(found["grown_expected"][0]) < 1e-3 * 5e10
    for name in ("late", "grown"):
        z = (found[name] - found[f"{name}_expected"]) / found[f"{name}_error"]
        assert np.all(np.abs(z) < 5)
    assert found["late_error"][1] == pytest.approx(found["late_expected"][1] / np.sqrt(50), rel=0.5)


def test_few_shots_get_fewer_bins():
    # Each needs 6 shots more than bins (analysis.joint_gain).
    assert [bins_for(n) for n in (20, 30, 99, 100, 1000)] == [6, 6, 6, 8, 8]


@pytest.mark.slow
def test_simulated_positive_masses_stay_where_negative_ones_grow(monkeypatch):
    monkeypatch.setattr(traces, "RED_DELTAS", np.array([5.0]) * KHZ)
    monkeypatch.setattr(traces, "RED_T_C", 120e-6)
    told = []
    made = traces.make_positive(Settings(shots=100, seed=5), lambda *a: told.append(a))
    assert made.facts["params"]["epsilon"] == 1 and told == [(1, 2), (2, 2)]
    z = (made["grown"] - made["grown_expected"]) / made["grown_error"]
    assert np.all(np.abs(z) < 5) and np.all(made["theory"] < 0)
    # The same pulse on a negative mass grows by many times the error of that.
    assert np.all(made["negative_grown"] > 5 * made["negative_grown_error"])
    assert made["negative_grown"].min() > 20 * np.abs(made["grown_expected"]).max()

import dataclasses

import numpy as np
import pytest

import jaxsde
import pulse_and_ringdown as tiny
from jaxsde.engine.records import record_covariance
from jaxsde.engine.resolution import choose_resolution
from pulse_and_ringdown import DETECTOR, FREE, PARAMS, SEQUENCE, TRUTH

CALM = dataclasses.replace(PARAMS, sigma_m=0.0, sigma_s=0.0)


def information(params=CALM, sequence=SEQUENCE):
    found = jaxsde.expected_information(params, FREE, sequence=sequence, detector=DETECTOR)
    return np.asarray(found) * np.outer(TRUTH, TRUTH)


def test_information_is_that_of_the_joint_gaussian():
    """I_ab = tr(S^-1 S_a S^-1 S_b)/2, S the covariance of whole records, S_a by differences."""
    short = tiny.sequence(pulse=10, ringdown=14)
    resolution = choose_resolution(CALM, short)

    def covariance(i, factor):
        params = dataclasses.replace(CALM, **{FREE[i]: factor * getattr(CALM, FREE[i])})
        made = record_covariance(params, short, DETECTOR, resolution, nodes=(1, 1))
        return np.asarray(made).reshape(48, 48)

    inverse = np.linalg.inv(covariance(0, 1.0))
    h = 1e-3
    slopes = [(covariance(i, 1 + h) - covariance(i, 1 - h)) / (2 * h) for i in range(3)]
    want = 0.5 * np.array([[np.trace(inverse @ a @ inverse @ b) for b in slopes] for a in slopes])
    got = information(sequence=short)[-1]
    scale = np.sqrt(np.outer(np.diag(want), np.diag(want)))
    np.testing.assert_allclose(got / scale, want / scale, atol=2e-5)
    assert np.abs(want / scale)[0, 1] > 1e-3


def test_information_gathers_sample_by_sample():
    found = information()
    assert found.shape == (120, 3, 3)
    np.testing.assert_allclose(found, np.swapaxes(found, 1, 2), rtol=1e-9, atol=1e-12)
    steps = np.linalg.eigvalsh(np.diff(found, axis=0))
    assert steps.min() > -1e-9 * found[-1].max()
    # B_s acts in the ringdown alone.
    assert found[39, 2, 2] == pytest.approx(0.0, abs=1e-9)
    assert found[-1, 2, 2] > 0.1


def test_the_best_design_takes_the_least_time():
    """More light tells more until back-action drowns the spin; the grid agrees."""
    wanted = 0.01 * abs(PARAMS.g_s)
    found = jaxsde.best_design(
        CALM, "g_s", wanted, {"ringdown.nbar": (0.5, 30.0)},
        free=FREE, sequence=SEQUENCE, detector=DETECTOR, between=1e-3, steps=12,
    )  # fmt: skip
    assert found.history[-1] < 0.7 * found.history[0]
    assert found.seconds == pytest.approx(found.history.min())
    assert 0.5 < found.values[0] < 30
    nbar = found.sequence.stages[1].controls.nbar
    assert nbar == pytest.approx(found.values[0])
    # Its shots reach the wanted error.
    there = jaxsde.expected_information(CALM, FREE, sequence=found.sequence, detector=DETECTOR)
    matrix = found.shots * np.asarray(there)[found.samples - 1]
    assert jaxsde.cramer_rao(matrix)[1] == pytest.approx(wanted, rel=1e-3)
    assert found.seconds == pytest.approx(found.shots * (found.samples * 1e-6 + 1e-3), rel=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(target="kappa"), r"^target: wanted one of the free g_m, g_s, B_s, got 'kappa'$"),
        (dict(error=0.0), r"^error: wanted a positive standard error, got 0.0$"),
        (dict(knobs={"g_m": (1e5, 2e5)}), r"^knobs: wanted names that are not free, got g_m$"),
        (dict(knobs={"pulse.nbar": (20.0, 30.0)}), r"^bounds: pulse.nbar: wanted bounds around"),
    ],
)
def test_designs_that_cannot_be_are_refused(change, message):
    given = dict(target="g_s", error=1.0, knobs={"ringdown.nbar": (0.5, 30.0)}) | change
    with pytest.raises(ValueError, match=message):
        jaxsde.best_design(
            CALM, **given, free=FREE, sequence=SEQUENCE, detector=DETECTOR, between=1e-3
        )

import dataclasses

import numpy as np
import pytest

from jaxsde.analysis.matched import apply_filters, matched_filter
from jaxsde.inference.features import make_features
from jaxsde.inference.transform import Model
from pulse_and_ringdown import DETECTOR, PARAMS, SEQUENCE, shots

MODEL = Model(params=PARAMS, sequence=SEQUENCE, detector=DETECTOR)


def test_matched_features_are_the_matched_filters():
    made = make_features("matched", MODEL, "ringdown", 2)
    want = matched_filter(PARAMS, SEQUENCE, DETECTOR, windows=2)
    assert made.groups is None
    np.testing.assert_array_equal(made.bank.weights, want.weights)


def test_displacement_windows_cut_every_lit_stage():
    made = make_features("displacement", MODEL, "ringdown", 1)
    # 40 + 80 samples in windows of 20, with 100 and 150 kHz in each, cosine and sine.
    assert made.groups is not None and max(made.groups) == 5
    assert made.bank.weights.shape[0] == 6 * 2 * 2
    held = np.asarray(made.bank.weights != 0).any(axis=(0, 2))
    assert held.all()


def test_spectrum_bins_have_the_power_that_a_fourier_transform_shows():
    made = make_features("spectrum", MODEL, "ringdown", 1)
    q = np.asarray(apply_filters(shots().record, made.bank))
    groups = np.array(made.groups)
    powers = np.stack([(q[:, groups == g] ** 2).sum(axis=1) for g in range(groups.max() + 1)])
    # On resonance all signal is in Q; its gain is in the weights.
    y = np.asarray(shots().record)[:, 40:, 1]
    transform = np.abs(np.fft.rfft(y, axis=1)) ** 2
    f = np.fft.rfftfreq(80, 1e-6)
    inside = (f >= 85e3) & (f <= 150.001e3)
    ratio = powers / transform[:, inside].T
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-9)


@pytest.mark.parametrize(
    "kind, stage, windows, message",
    [
        ("x", "ringdown", 1, r"^features: wanted one of matched, displacement, spectrum, got 'x'"),
        ("spectrum", "ringdown", 16, r"^features: wanted windows that tell 85000 from 150000 Hz"),
        ("spectrum", "ringup", 1, r"^stage 'ringup': wanted the name of one stage"),
    ],
)
def test_features_that_cannot_be_are_refused(kind, stage, windows, message):
    with pytest.raises(ValueError, match=message):
        make_features(kind, MODEL, stage, windows)


def test_displacement_needs_a_stage_that_is_no_ramp():
    stages = tuple(dataclasses.replace(s, n_samples=10) for s in SEQUENCE.stages)
    short = dataclasses.replace(MODEL, sequence=dataclasses.replace(SEQUENCE, stages=stages))
    with pytest.raises(ValueError, match=r"^features: wanted a stage of at least 20 samples"):
        make_features("displacement", short, "ringdown", 1)

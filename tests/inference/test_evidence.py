import numpy as np
import pytest

import jaxsde
from jaxsde.inference.evidence import arrange, check_record
from jaxsde.physics.sequence import Controls, Sequence, Stage


def record(shots=6, samples=5, k=2):
    return np.random.default_rng(0).normal(size=(shots, samples, k))


def test_whole_records_have_no_mask():
    y = record()
    (part,) = arrange(y)
    assert part.seen is None
    np.testing.assert_array_equal(np.asarray(part.record)[:, :, 0].transpose(2, 0, 1), y)
    np.testing.assert_array_equal(part.shots, [range(6)])


def test_shots_that_lack_the_same_samples_share_a_pattern():
    y = record()
    y[[1, 4], 2] = np.nan
    y[[0, 5], 3, 1] = np.nan
    parts = arrange(y)
    shapes = [(part.record.shape, part.seen is None) for part in parts]
    # Two whole shots; two patterns of two shots each.
    assert sorted(shapes) == [((5, 2, 1, 2), True), ((5, 2, 2, 2), False)]
    for part in parts:
        for (p, s), shot in np.ndenumerate(np.asarray(part.shots)):
            seen = np.isfinite(y[shot])
            if part.seen is not None:
                np.testing.assert_array_equal(np.asarray(part.seen)[:, :, p], seen)
            got = np.asarray(part.record)[:, :, p, s]
            np.testing.assert_array_equal(got, np.nan_to_num(y[shot]))
    assert sorted(np.concatenate([np.ravel(part.shots) for part in parts])) == list(range(6))


def test_what_is_no_record_is_refused():
    with pytest.raises(ValueError, match=r"^record: wanted finite samples, .* in 1 shots$"):
        arrange(np.where(record() == record().max(), np.inf, record()))
    with pytest.raises(ValueError, match=r"^record: wanted at least one sample, got NaN throughou"):
        arrange(record() * np.nan)


def test_shapes_are_checked_against_sequence_and_detector():
    stage = Stage(name="s", n_samples=5, controls=Controls(nbar=1.0))
    sequence = Sequence(stages=(stage,), sample_interval=1e-6)
    detector = jaxsde.Detector(sample_interval=1e-6)
    np.testing.assert_array_equal(check_record(record(), sequence, detector), record())
    with pytest.raises(ValueError, match=r"^mine: wanted \(shots, 5, 2\), .* got \(6, 4, 2\)$"):
        check_record(record(samples=4), sequence, detector, "mine")

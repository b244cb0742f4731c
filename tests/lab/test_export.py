"""Export: header of an experiment, and files that hold what the blocks held."""

import dataclasses

import numpy as np
import pytest

import laboratory
from jaxsde.engine.detect import Detector, detection_gain
from jaxsde.lab.config import load_experiment, parse_experiment
from jaxsde.lab.export import header_of, write_records
from jaxsde.lab.recordings import Block
from jaxsde.lab.records import open_records, read_blocks
from jaxsde.lab.spec import build_sequence


def block(n=4):
    x = laboratory.noise()[:n].copy()
    none = np.zeros(x.shape[:2], bool)
    return Block(samples=x, missing=none, clipped=none.copy(), rejected=np.zeros(n, bool))


def test_the_header_calibrates_every_stage_that_stands_still():
    e = laboratory.experiment()
    paper = load_experiment(laboratory.ROOT / "examples" / "kohler2018.toml")
    header, sequence = header_of(paper), build_sequence(paper)
    assert header.stages == ("preparation", "ramp_up", "pulse", "ramp_down", "ringdown")
    np.testing.assert_allclose(header_of(e).starts, np.array([0, 20, 80]) * 1e-6)
    for stage, a in zip(sequence.stages, header.A, strict=True):
        if stage.controls.is_ramp:
            assert np.isnan(a)
        else:
            gain = detection_gain(paper.params, stage.controls, paper.detector)
            assert a == pytest.approx(float(gain))
    assert header.S_SN == float(paper.detector.S_SN)
    assert parse_experiment(header_of(e).experiment, "x") == e
    assert dict(header.parameters)["g_m"] == float(paper.params.g_m)
    ideal = dataclasses.replace(e, detector=Detector.ideal(1e-6))
    assert header_of(ideal).A is None and header_of(ideal).S_SN is None


def test_masks_survive(tmp_path):
    made = block()
    made.missing[1, 3] = made.clipped[2, 7] = made.rejected[3] = True
    made.samples[2, 7] = [1e-6, 2e-6]  # beyond anything else
    path = tmp_path / "a.h5"
    write_records(path, header_of(laboratory.experiment()), 4, [made])
    (found,) = read_blocks(open_records(path), 10)
    for name in ("missing", "clipped", "rejected"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
    good = ~made.missing
    np.testing.assert_array_equal(found.samples[good], made.samples[good])


@pytest.mark.parametrize("n", [3, 5])
def test_a_wrong_number_of_shots_is_refused(tmp_path, n):
    with pytest.raises(ValueError, match=f"^blocks: wanted {n} shots in all, got"):
        write_records(tmp_path / "a.h5", header_of(laboratory.experiment()), n, [block()])

"""Matching of records with an experiment: its sequence, and the file's calibration."""

import dataclasses

import h5py
import numpy as np
import pytest

import laboratory
from jaxsde.engine.detect import detection_gain
from jaxsde.lab.config import dump_experiment
from jaxsde.lab.export import header_of
from jaxsde.lab.matching import experiment_of
from jaxsde.lab.recordings import RecordError
from jaxsde.lab.records import open_records, read_blocks
from jaxsde.lab.spec import build_sequence

VOLTS = 2.5e7  # V/W, of a photodiode and its amplifier


@pytest.fixture
def source(tmp_path):
    def make(header=None, **attributes):
        path = laboratory.write(
            tmp_path / "shots.h5", laboratory.noise()[:3], header=header, **attributes
        )
        return open_records(path)

    return make


def test_a_record_brings_its_own_experiment(source):
    found = experiment_of(source(), None)
    wanted = dataclasses.replace(laboratory.experiment(), shots=3)
    assert found.params == wanted.params and found.stages == wanted.stages
    assert float(found.detector.efficiency) == pytest.approx(float(wanted.detector.efficiency))
    assert found.gain_scan is None and found.shots == 3
    assert experiment_of(open_records(laboratory.REAL), None) is None


def test_an_experiment_file_takes_its_place(source, tmp_path):
    other = dataclasses.replace(laboratory.experiment(), title="another day")
    (tmp_path / "other.toml").write_text(dump_experiment(other), encoding="utf-8")
    assert experiment_of(source(), tmp_path / "other.toml").title == "another day"


def test_volts_with_a_calibration_are_the_same_experiment(source):
    """A and S_SN in V give the efficiency that the watts had."""
    header = header_of(laboratory.experiment())
    volts = dataclasses.replace(
        header,
        unit="V",
        A=tuple(VOLTS * a for a in header.A),
        S_SN=header.S_SN * VOLTS**2,
    )
    found = experiment_of(source(volts), None)
    e, ringdown = laboratory.experiment(), build_sequence(laboratory.experiment()).stages[-1]
    assert float(found.detector.efficiency) == pytest.approx(float(e.detector.efficiency))
    a = float(detection_gain(found.params, ringdown.controls, found.detector))
    assert a == pytest.approx(VOLTS * header.A[-1], rel=1e-9)


def test_parameters_of_the_file_count(source):
    found = source()
    with h5py.File(found.path, "r+") as file:
        file["parameters"].attrs["g_m"] = 1.2e5
        file["parameters"].attrs["cooled for"] = "3 s"
    assert experiment_of(open_records(found.path), None).params.g_m == 1.2e5
    with h5py.File(found.path, "r+") as file:
        file["parameters"].attrs["g_m"] = "large"
    with pytest.raises(RecordError, match=r"parameters\.attrs\['g_m'\]: wanted a finite number"):
        experiment_of(open_records(found.path), None)


A = header_of(laboratory.experiment()).A


@pytest.mark.parametrize(
    "attributes, message",
    [
        (
            dict(units="V", S_SN=None),
            r"missing calibration: samples are in V, .* S_SN \(",
        ),
        (dict(units="V", S_SN=None, stage_A=None), r"add the attribute S_SN and stage_A"),
        (dict(S_SN=0.0), r"\['S_SN'\]: wanted a positive density, got 0;"),
        (dict(stage_A=[*A[:-1], np.nan]), r"missing calibration: stage_A of 'ringdown'"),
        (dict(stage_A=[A[0], 2 * A[1], A[2]]), r"'pulse' and 'ringdown' imply eff"),
        (dict(stage_A=[9 * a for a in A]), r"'ringdown' implies an efficiency of 7\.29"),
        (dict(sample_interval_s=2e-6), r"sample_interval_s: got 2e-06, where .* has 1e-06 s"),
        (dict(channels=["Q", "I"]), r"channels: got \('Q', 'I'\), where .*\('I', 'Q'\)"),
        (dict(stage_starts_s=np.array([0, 21, 80]) * 1e-6), r"stage 'pulse' begins at sa"),
    ],
)
def test_refusals_name_file_and_remedy(source, attributes, message):
    found = source(**attributes)
    with pytest.raises(RecordError, match=message) as caught:
        experiment_of(found, None)
    assert str(caught.value).startswith(f"{found.path}: ")


def test_another_length_is_refused(tmp_path):
    header = header_of(laboratory.experiment())
    short = dataclasses.replace(header, n_samples=190)
    path = laboratory.write(tmp_path / "a.h5", laboratory.noise()[:3, :190], header=short)
    with pytest.raises(RecordError, match=r"samples: got 190 a shot, where .* have 200; cut"):
        experiment_of(open_records(path), None)


def test_raw_heterodyne_traces_follow_an_experiment(tmp_path):
    """Quadratures put on a 10 MHz carrier, sampled every 20 ns, come back as the samples."""
    x = laboratory.noise()[:3]
    t = (np.arange(50 * laboratory.N) + 0.5) * 20e-9
    field = np.repeat(x[..., 0] - 1j * x[..., 1], 50, axis=1)
    raw = (field * np.exp(-1j * (2 * np.pi * 10e6 * t + 0.4))).real
    path = tmp_path / "raw.h5"
    with h5py.File(path, "w") as file:
        file["samples"] = raw
        file.attrs["experiment"] = dump_experiment(laboratory.experiment())
        file["samples"].attrs.update(
            units="W",
            sample_interval_s=20e-9,
            carrier_Hz=10e6,
            carrier_phase_rad=0.4,
            demodulated_interval_s=1e-6,
        )
    source = open_records(path)
    found = experiment_of(source, None)
    assert found is not None and found.shots == 3
    (block,) = read_blocks(source, 5)
    np.testing.assert_allclose(block.samples, x, atol=1e-9 * np.abs(x).max())

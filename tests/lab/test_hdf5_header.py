"""Headers of HDF5 records: what they must say, and what is told when they do not."""

import h5py
import numpy as np
import pytest

import laboratory
from jaxsde.lab.hdf5_header import read_header
from jaxsde.lab.recordings import RecordError


@pytest.fixture
def write(tmp_path):
    def make(samples, name="shot.h5", **attributes):
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            file["samples"] = samples
            given = dict(units="V", gain=1e-3, sample_interval_s=1e-6) | attributes
            laboratory.change(
                file["samples"].attrs, {k: v for k, v in given.items() if v is not None}
            )
        return path

    return make


def test_the_real_record_is_read_as_it_is():
    header, layout = read_header(laboratory.REAL)
    assert (header.n_samples, header.channels, header.unit) == (250_002, ("signal",), "V")
    assert header.sample_interval == pytest.approx(0.4e-6, rel=1e-6)
    assert header.stages == () and header.A is None and header.experiment == ""
    assert layout.gain == pytest.approx([1.25e-3], rel=1e-6)
    assert layout.offset == pytest.approx([0.02], rel=1e-6)
    assert layout.limits == (-32768, 32767)


def test_units_have_prefixes_and_words_after_them(write):
    header, layout = read_header(write(np.zeros((2, 9), np.int16), units="mV after gain", S_SN=2.0))
    assert header.unit == "V" and layout.gain == pytest.approx([1e-6])
    assert header.S_SN == pytest.approx(2e-6)


def test_attributes_may_stand_at_the_file(write):
    path = write(np.zeros((2, 9), np.int16), sample_interval_s=None)
    with h5py.File(path, "r+") as file:
        file.attrs["sample_interval_s"] = 2e-6
    assert read_header(path)[0].sample_interval == 2e-6


def test_marks_and_calibrations(write):
    header, _ = read_header(
        write(
            np.zeros((2, 100), np.int16),
            stage_names=["dark", "ring"],
            stage_starts_s=[0.0, 4e-5],
            stage_A=[np.nan, 3.0],
            units="nW",
        )
    )
    assert header.stages == ("dark", "ring") and header.starts == (0.0, 4e-5)
    assert header.A is not None and np.isnan(header.A[0])
    assert header.A[1] == pytest.approx(3e-9)


def test_a_raw_trace_has_the_header_of_its_quadratures(write):
    path = write(np.zeros((2, 10_010), np.int16), sample_interval_s=2e-8, carrier_Hz=10e6)
    header, layout = read_header(path)
    assert (header.channels, header.n_samples) == (("I", "Q"), 400)
    assert header.sample_interval == 0.5e-6 and layout.weights.shape == (25, 2)


@pytest.mark.parametrize(
    "attributes, message",
    [
        (dict(units="furlong"), r"samples\.attrs\['units'\]: wanted a text that begins with one of "
         r"V, .* got 'furlong'; write the unit"),
        (dict(units=None), r"\['units'\]: .* got none"),
        (dict(sample_interval_s=0.0), r"\['sample_interval_s'\]: wanted a positive .*, got 0;"),
        (dict(sample_interval_s=None), r"\['sample_interval_s'\]: .* got none; write the digi"),
        (dict(sample_interval_s="fast"), r"\['sample_interval_s'\]: wanted one number, got 'fast'"),
        (dict(gain=None), r"\['gain'\]: wanted the unit of one count, got none"),
        (dict(gain=0.0), r"\['gain'\]: wanted 1 or 1 finite numbers, a gain not 0"),
        (dict(offset=[1.0, 2.0]), r"\['offset'\]: wanted 1 or 1 finite numbers"),
        (dict(adc_min=5, adc_max=-5), r"\['adc_max'\]: wanted more than adc_min, 5, got -5"),
        (dict(axes="time"), r"\['axes'\]: wanted names for the 2 axes out of shot, time, channel"),
        (dict(stage_names=["a"], stage_starts_s=[0.0, 1.0]), r"\['stage_starts_s'\]: wanted one"),
        (dict(stage_names=["a"], stage_starts_s=[1.0]), r"rising from 0 to below 9e-06 s"),
        (dict(stage_names=["a"], stage_starts_s=[0.0], stage_A=[-1.0]), r"\['stage_A'\]: wanted 1"),
        (dict(channels=["I", "Q"]), r"\['channels'\]: wanted 1 names"),
        (dict(carrier_Hz=1e5), r"carrier_Hz: decimation: wanted intervals of whole cycles|"
         r"demodulated_interval_s'\]: wanted a multiple"),
    ],
)  # fmt: skip
def test_refusals_name_file_and_remedy(write, attributes, message):
    path = write(np.zeros((2, 9), np.int16), **attributes)
    with pytest.raises(RecordError, match=message) as caught:
        read_header(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path, write):
    broken = tmp_path / "broken.h5"
    broken.write_bytes(b"not HDF5 at all")
    with pytest.raises(RecordError, match=r"broken\.h5: cannot be read as HDF5 \(.*--skip-bad"):
        read_header(broken)
    with pytest.raises(RecordError, match=r"cannot be read as HDF5 \(no such file\)"):
        read_header(tmp_path / "nothing.h5")
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["trace"] = np.zeros(3)
    with pytest.raises(RecordError, match=r"wanted a dataset 'samples', got trace; rename it"):
        read_header(other)
    with pytest.raises(RecordError, match=r"wanted integers or floats, got bool"):
        read_header(write(np.zeros((2, 9), bool)))
    with pytest.raises(RecordError, match=r"wanted at least one sample, got shape \(0, 9\)"):
        read_header(write(np.zeros((0, 9))))

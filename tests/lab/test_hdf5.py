"""Shots of an HDF5 file: scaled, masked, demodulated; and files written."""

import h5py
import numpy as np
import pytest

from jaxsde.lab.hdf5 import new_file, read_shots
from jaxsde.lab.hdf5_header import read_header
from jaxsde.lab.recordings import Header, RecordError


def write(path, samples, datasets=None, **attributes):
    with h5py.File(path, "w") as file:
        file["samples"] = samples
        for name, value in (datasets or {}).items():
            file[name] = value
        file["samples"].attrs.update(dict(units="V", gain=1.0, sample_interval_s=1e-6) | attributes)
    return path


def read(path, shots=None):
    header, layout = read_header(path)
    return read_shots(header, layout, np.arange(layout.n_shots) if shots is None else shots)


def test_values_are_gain_times_number_less_offset(tmp_path):
    counts = np.arange(24).reshape(2, 4, 3).astype(np.int16)
    path = write(tmp_path / "a.h5", counts, gain=[1.0, 2.0, 3.0], offset=0.5, units="mV")
    np.testing.assert_allclose(read(path).samples, 1e-3 * (counts * [1.0, 2.0, 3.0] - 0.5))
    one = read(path, np.array([1]))
    np.testing.assert_allclose(one.samples, 1e-3 * (counts[1:] * [1.0, 2.0, 3.0] - 0.5))


@pytest.mark.parametrize("axes", ["channel,time,shot", "time,shot,channel", "shot,channel,time"])
def test_axes_may_stand_in_any_order(tmp_path, axes):
    x = np.random.default_rng(0).normal(size=(4, 5, 2))
    names = axes.split(",")
    order = [("shot", "time", "channel").index(a) for a in names]
    path = write(tmp_path / "a.h5", np.transpose(x, order), axes=axes)
    np.testing.assert_array_equal(read(path).samples, x)
    np.testing.assert_array_equal(read(path, np.array([1, 3])).samples, x[[1, 3]])


def test_one_shot_of_one_or_two_channels(tmp_path):
    x = np.random.default_rng(1).normal(size=(6, 2))
    np.testing.assert_array_equal(read(write(tmp_path / "a.h5", x[:, 0])).samples[0, :, 0], x[:, 0])
    two = read(write(tmp_path / "b.h5", x, axes="time,channel"))
    np.testing.assert_array_equal(two.samples[0], x)


def test_what_is_missing_and_clipped_is_marked(tmp_path):
    counts = np.zeros((3, 5), np.int16)
    counts[0, 1], counts[0, 2], counts[1, 0], counts[2, 4] = 32767, -32768, 999, 7
    mask = np.zeros((3, 5), np.uint8)
    mask[2, 0] = 4
    path = write(
        tmp_path / "a.h5",
        counts,
        dict(mask=mask, rejected=np.array([0, 1, 0])),
        missing_code=999,
    )
    block = read(path)
    assert list(map(tuple, np.argwhere(block.clipped))) == [(0, 1), (0, 2)]
    assert list(map(tuple, np.argwhere(block.missing))) == [(1, 0), (2, 0)]
    assert block.rejected.tolist() == [False, True, False]
    assert block.samples[1, 0, 0] == 0 and block.samples[2, 4, 0] == 7
    some = read(path, np.array([2]))
    assert some.missing[0].tolist() == [True, False, False, False, False]


def test_nan_and_given_limits_of_floats(tmp_path):
    x = np.array([[0.1, np.nan, 0.5, -0.5, np.inf]])
    block = read(write(tmp_path / "a.h5", x, adc_min=-0.5, adc_max=0.5))
    assert block.missing[0].tolist() == [False, True, False, False, True]
    assert block.clipped[0].tolist() == [False, False, True, True, False]
    assert np.all(np.isfinite(block.samples))


def test_raw_traces_are_demodulated_with_their_masks(tmp_path):
    """50 MS/s, 10 MHz: constant quadratures in each half microsecond come back in volts."""
    rng = np.random.default_rng(3)
    i, q = rng.normal(size=(2, 2, 8))
    t = (np.arange(200) + 0.5) * 20e-9
    a = np.repeat(i - 1j * q, 25, axis=1)
    raw = (a * np.exp(-2j * np.pi * 10e6 * t)).real
    counts = np.round(raw * 5000).astype(np.int16)
    counts[1, 60] = 32767
    mask = np.zeros((2, 200), bool)
    mask[0, 199] = True
    path = write(
        tmp_path / "raw.h5",
        counts,
        dict(mask=mask),
        gain=2e-4,
        carrier_Hz=10e6,
        sample_interval_s=20e-9,
    )
    block = read(path)
    assert list(map(tuple, np.argwhere(block.missing))) == [(0, 7)]
    assert list(map(tuple, np.argwhere(block.clipped))) == [(1, 2)]
    good = ~(block.missing | block.clipped)
    # Rounding to counts leaves 2e-4/sqrt(12) sqrt(2/25) of noise.
    np.testing.assert_allclose(block.samples[good], np.stack([i, q], -1)[good], atol=1e-4)


def test_a_mask_of_another_shape_is_refused(tmp_path):
    path = write(tmp_path / "a.h5", np.zeros((3, 5)), dict(mask=np.zeros((3, 4))))
    with pytest.raises(RecordError, match=r"a\.h5: mask: wanted one number for each shot and sam"):
        read(path)


def test_a_damaged_file_is_told_by_name(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 500))
    path = tmp_path / "cut.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("samples", data=x, chunks=(4, 500), compression="gzip")
        file["samples"].attrs.update(units="V", gain=1.0, sample_interval_s=1e-6)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(2000) + whole[middle + 2000 :])
    with pytest.raises(RecordError, match=r"cut\.h5: samples cannot be read .* copy it again"):
        read(path)


def test_what_is_written_is_read_again(tmp_path):
    header = Header(
        n_samples=4,
        channels=("I", "Q"),
        unit="W",
        sample_interval=1e-6,
        stages=("a", "b"),
        starts=(0.0, 2e-6),
        A=(1e-15, float("nan")),
        S_SN=2e-22,
        experiment="title = 'π'",
        parameters=(("g_m", 1.5), ("note", "cold")),
    )
    x = np.random.default_rng(2).normal(size=(3, 4, 2)) * 1e-9
    with new_file(tmp_path / "a.h5", header, 3) as file:
        file["samples"][:] = x
    found, _ = read_header(tmp_path / "a.h5")
    assert repr(found) == repr(header)
    np.testing.assert_array_equal(read(tmp_path / "a.h5").samples, x)

"""Sources of records: files, folders, and what is done with a bad one."""

import h5py
import numpy as np
import pytest

import laboratory
from jaxsde.lab.recordings import RecordError
from jaxsde.lab.records import open_records, read_blocks


def joined(source, size=7):
    blocks = list(read_blocks(source, size))
    assert all(len(b.samples) == size for b in blocks[:-1])
    return np.concatenate([b.samples for b in blocks])


def test_a_file_and_a_folder_hold_the_same_shots(tmp_path):
    one = open_records(laboratory.write(tmp_path / "all.h5", laboratory.noise()[:9]))
    laboratory.write_each(tmp_path / "each", 9)
    each = open_records(tmp_path / "each")
    assert one.n_shots == each.n_shots == 9
    assert repr(one.header) == repr(each.header)
    for size in (1, 4, 9, 50):
        np.testing.assert_array_equal(joined(each, size), laboratory.noise()[:9])
        np.testing.assert_array_equal(joined(one, size), laboratory.noise()[:9])


def broken(paths):
    paths[2].write_bytes(paths[2].read_bytes()[:2000])
    return r"shot_002\.h5: cannot be read as HDF5 \(.*; --skip-bad|shot_002.*--skip-bad"


def other_interval(paths):
    with h5py.File(paths[2], "r+") as file:
        file["samples"].attrs["sample_interval_s"] = 2e-6
        file["samples"].attrs["stage_starts_s"] = np.array([0, 20, 80]) * 1e-6
    return r"shot_002\.h5: sample_interval: got 2e-06 s, wanted 1e-06 s as in .*shot_000\.h5; mend"


def other_unit(paths):
    with h5py.File(paths[2], "r+") as file:
        file["samples"].attrs["units"] = "V"
    return r"shot_002\.h5: unit: got 'V', wanted 'W'"


def ragged(paths):
    with h5py.File(paths[2], "r+") as file:
        x, attrs = file["samples"][:-30], dict(file["samples"].attrs)
        del file["samples"]
        file["samples"] = x
        file["samples"].attrs.update(attrs)
    return r"shot_002\.h5: ragged: 1 of 1 shots .*\(shot 0\) 170 samples where most have 200; cut"


@pytest.mark.parametrize("spoil", [broken, other_interval, other_unit, ragged])
def test_a_folder_with_one_bad_file(tmp_path, spoil):
    paths = laboratory.write_each(tmp_path / "each", 5)
    message = spoil(paths)
    with pytest.raises(RecordError, match=message) as caught:
        open_records(tmp_path / "each")
    assert "--skip-bad" in str(caught.value)
    source = open_records(tmp_path / "each", skip_bad=True)
    assert source.n_shots == 4
    ((name, reason),) = source.skipped
    assert name == str(paths[2]) and reason.startswith(str(paths[2]))
    np.testing.assert_array_equal(joined(source), laboratory.noise()[[0, 1, 3, 4]])


def test_ragged_shots_of_one_file(tmp_path):
    path = tmp_path / "ragged.h5"
    rows = [np.arange(9.0), np.arange(9.0) + 1, np.arange(5.0), np.arange(9.0) + 3]
    with h5py.File(path, "w") as file:
        data = file.create_dataset("samples", (4,), dtype=h5py.vlen_dtype(float))
        for i, row in enumerate(rows):
            data[i] = row
        data.attrs.update(units="V", sample_interval_s=1e-6)
    with pytest.raises(RecordError, match=r"ragged: 1 of 4 .*\(shot 2\) 5 samples where most"):
        open_records(path)
    source = open_records(path, skip_bad=True)
    np.testing.assert_array_equal(joined(source)[:, :, 0], [rows[0], rows[1], rows[3]])


def test_places_without_records(tmp_path):
    with pytest.raises(RecordError, match=r"nothing: wanted records .* got nothing there"):
        open_records(tmp_path / "nothing")
    (tmp_path / "experiment.toml").touch()
    with pytest.raises(RecordError, match=r"experiment\.toml: wanted records, got an experiment"):
        open_records(tmp_path / "experiment.toml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match=r"empty: wanted a folder with files \*\.h5, \*\.hdf5"):
        open_records(tmp_path / "empty")
    (tmp_path / "empty" / "a.h5").write_bytes(b"")
    with pytest.raises(RecordError, match=r"empty: no file of it can be used; the first: .*a\.h5"):
        open_records(tmp_path / "empty", skip_bad=True)

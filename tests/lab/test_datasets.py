"""Data sets: what a calibration gets of a file, a folder and a result, and what it says of them."""

import numpy as np
import pytest

import laboratory
from jaxsde.lab import cli
from jaxsde.lab.datasets import (
    calibration_folder,
    is_laboratory,
    load_data_set,
    load_for_calibration,
)
from jaxsde.lab.recordings import RecordError
from jaxsde.lab.spec import build_sequence


def test_a_file_comes_whole_with_gaps_as_nan(tmp_path):
    samples = laboratory.noise()[:8].copy()
    samples[2, 5] = np.nan
    samples[3, 7, 1] = 1.0  # W, beyond the digitiser
    path = laboratory.write(tmp_path / "shots.h5", samples, adc_max=0.5, adc_min=-0.5)
    experiment, data, losses = load_data_set(path)
    assert data.sequence == build_sequence(experiment) and data.detector == experiment.detector
    assert data.record.shape == (8, laboratory.N, 2) and experiment.shots == 8
    lost = np.isnan(data.record).any(axis=-1)
    assert set(zip(*np.nonzero(lost), strict=True)) == {(2, 5), (3, 7)}
    np.testing.assert_allclose(data.record[~lost], samples[~lost], rtol=1e-12)
    assert (losses.missing, losses.clipped) == (1, 1)
    kept = load_data_set(path, keep_clipped=True)[1].record
    assert kept[3, 7, 1] == 1.0 and np.isnan(kept[2, 5]).all()


def test_a_folder_of_files_with_a_broken_one(tmp_path):
    paths = laboratory.write_each(tmp_path / "day1", 4)
    paths[1].write_bytes(b"lost")
    with pytest.raises(RecordError, match="cannot be read as HDF5"):
        load_data_set(tmp_path / "day1")
    _, data, losses = load_data_set(tmp_path / "day1", skip_bad=True)
    assert len(data.record) == 3 and len(losses.skipped) == 1


def test_records_without_an_experiment_are_refused():
    with pytest.raises(RecordError, match=r"wanted records of an experiment.*--experiment"):
        load_data_set(laboratory.REAL)


def test_what_is_a_laboratorys_and_where_its_calibration_goes(tmp_path):
    path = laboratory.write(tmp_path / "shots.h5", laboratory.noise()[:2])
    result = tmp_path / "result"
    (result / "records.zarr").mkdir(parents=True)
    assert is_laboratory(path) and is_laboratory(tmp_path) and not is_laboratory(result)
    assert not is_laboratory(tmp_path / "none")
    assert calibration_folder(result) == result / "calibration"
    assert str(calibration_folder(path)) == "results/shots-calibration"
    with pytest.raises(RecordError, match="leave --experiment out"):
        load_for_calibration(result, path)


def test_the_command_takes_a_file_and_starts_at_its_values(tmp_path, monkeypatch, capsys):
    """tests/test_pages.py runs it to its end."""
    asked = {}

    def stop(loaded, **options):
        asked.update(options, loaded=loaded)
        raise ValueError("stopped here")

    path = laboratory.write(tmp_path / "shots.h5", laboratory.noise()[:4])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cli, "calibrate_result", stop)
    monkeypatch.setattr("sys.argv", ["jaxsde", "calibrate", str(path), "--free", "g_m"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2 and "stopped here" in capsys.readouterr().err
    experiment, sequence, record = asked["loaded"]
    assert asked["off"] == 0.0 and asked["free"] == ["g_m"]
    assert record.shape == (4, sequence.n_samples, 2) and experiment.shots == 4
    assert not (tmp_path / "results/shots-calibration").exists()

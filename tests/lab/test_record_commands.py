"""analyse and export: what a member of the laboratory types, sees, and gets wrong."""

import json

import h5py
import numpy as np
import pytest
import xarray as xr

import laboratory
from jaxsde.lab import cli
from jaxsde.lab.config import dump_experiment
from jaxsde.lab.export import export_result
from jaxsde.lab.folder import write_manifest
from jaxsde.lab.records import open_records, read_blocks


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Keep the command line's cache of programs out of these tests, and their folders too."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def jaxsde(monkeypatch, capsys):
    """Return a call of the command line: (exit status, output, errors)."""

    def call(*words):
        monkeypatch.setattr("sys.argv", ["jaxsde", *map(str, words)])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        out, errors = capsys.readouterr()
        return status, out, errors

    return call


def test_the_real_record_is_one_command(jaxsde, tmp_path):
    status, out, errors = jaxsde("analyse", laboratory.REAL)
    assert (status, errors) == (0, "")
    assert "line 3, f" in out and "166.0" in out and "1 shots read, 1 analysed" in out
    folder = tmp_path / "results" / "levitated-particle"
    found = json.loads((folder / "estimates.json").read_text())
    assert found["quantities"]["frequency_1"]["value"] == pytest.approx(61.8, abs=0.3)
    assert found["losses"]["records"]["clipped"] == 0
    assert (folder / "figures" / "spectrum.png").stat().st_size > 10_000
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "estimates.json" in manifest["files"] and manifest["records"] == str(laboratory.REAL)
    status, _, errors = jaxsde("analyse", laboratory.REAL)
    assert status == 2 and "exists already; add --force" in errors
    named = ("--lines", "149.8 kHz", "--window", "4096", "--force")
    status, out, _ = jaxsde("analyse", laboratory.REAL, *named)
    assert status == 0 and "line 2" not in out
    assert json.loads((folder / "estimates.json").read_text())["shots"] == 1


def test_a_folder_of_shots_with_a_broken_one(jaxsde, tmp_path):
    """The whole chain, on files of an empty cavity: what is wrong is named, the rest analysed."""
    paths = laboratory.write_each(tmp_path / "day1", 21)
    paths[4].write_bytes(b"lost on the way")
    status, out, errors = jaxsde("analyse", tmp_path / "day1")
    assert status == 2 and "table" not in out
    assert errors.startswith(f"jaxsde: error: {paths[4]}: cannot be read as HDF5")
    assert "--skip-bad" in errors and len(errors.splitlines()) == 1
    status, out, errors = jaxsde("analyse", tmp_path / "day1", "--skip-bad", "--out", "mine")
    assert status == 0, errors
    assert "<a† a>" in out and "20 shots read, 20 analysed" in out
    assert f"left out: {paths[4]}" in out
    found = json.loads((tmp_path / "mine" / "estimates.json").read_text())
    assert set(found["quantities"]) >= {"n_m", "n_s", "abs_ab", "gain"}
    assert found["losses"]["records"]["skipped"][0].startswith(str(paths[4]))
    assert np.shape(found["second_moments"]["C"]) == (4, 4)
    assert (tmp_path / "mine" / "figures" / "moments.png").is_file()
    assert (tmp_path / "mine" / "figures" / "spectrogram.png").is_file()


@pytest.mark.parametrize(
    "change, words, message",
    [
        (dict(units="volts"), (), "samples.attrs['units']: wanted a text that begins with one of"),
        (dict(units="V", S_SN=None), (), "missing calibration: samples are in V"),
        (
            dict(sample_interval_s=0.0),
            (),
            "['sample_interval_s']: wanted a positive time",
        ),
        ({}, ("--experiment", "none.toml"), "none.toml: no such file"),
        ({}, ("--spectrum", "--lines", "95"), "--lines"),
        ({}, ("--spectrum", "--also", "larmor"), "--also: wanted records of an experiment"),
        ({}, ("--empty", "nothing.h5"), "nothing.h5: wanted records"),
        ({}, ("--empty", str(laboratory.REAL)), "n_samples: got 250002, wanted 200 as in"),
    ],
)
def test_what_is_wrong_is_one_line(jaxsde, tmp_path, change, words, message):
    path = laboratory.write(tmp_path / "shots.h5", laboratory.noise()[:40], **change)
    status, _, errors = jaxsde("analyse", path, *words)
    assert status == 2 and len(errors.splitlines()) == 1
    assert message in errors
    assert not (tmp_path / "results").exists()


def as_result(folder):
    """Make a folder look like a result of jaxsde run, with records alone."""
    e = laboratory.experiment()
    folder.mkdir()
    (folder / "experiment.toml").write_text(dump_experiment(e), encoding="utf-8")
    x = laboratory.noise()[:20]
    stage = np.repeat([0, 1, 2], [20, 60, 120])
    xr.Dataset(
        {
            "record": (("shot", "time", "quadrature"), x, dict(units="W")),
            "stage": ("time", stage),
            "status": ("shot", np.arange(20) == 7),
            "clipped": ("shot", np.zeros(20, int)),
        },
        attrs=dict(
            quadratures=["I", "Q"],
            stages=["preparation", "pulse", "ringdown"],
            sample_interval_s=1e-6,
            shot_noise_density_W2_per_Hz=float(e.detector.S_SN),
        ),
    ).to_zarr(folder / "records.zarr", zarr_format=3, consolidated=False)
    write_manifest(folder, {})
    return folder


def test_results_are_exported_and_read_as_laboratory_records(jaxsde, tmp_path):
    result = as_result(tmp_path / "result")
    status, out, errors = jaxsde("export", result, "--out", "shots.h5")
    assert status == 0 and "20 shots written to shots.h5" in out, errors
    simulated, exported = open_records(result), open_records(tmp_path / "shots.h5")
    for a, b in zip(read_blocks(simulated, 8), read_blocks(exported, 8), strict=True):
        np.testing.assert_array_equal(a.samples, b.samples)
        np.testing.assert_array_equal(a.rejected, b.rejected)
    with h5py.File("shots.h5") as file:
        assert file["samples"].attrs["stage_A"].shape == (3,)
    status, _, errors = jaxsde("export", result, "--out", "shots.h5")
    assert status == 2 and "shots.h5: exists already; add --force" in errors
    assert jaxsde("export", result, "--out", "shots.h5", "--force")[0] == 0
    assert jaxsde("export", result, "--out", "each", "--per-shot")[0] == 0
    assert len(list((tmp_path / "each").iterdir())) == 20
    np.testing.assert_array_equal(
        next(read_blocks(open_records(tmp_path / "each"), 20)).samples,
        next(read_blocks(simulated, 20)).samples,
    )
    assert export_result(result, tmp_path / "again.h5") == 20
    for words, message in (
        (("--group", "calm"), "--group: wanted main or reference, got 'calm'"),
        (("--group", "reference"), "wanted shots without coupling, got a result without them"),
    ):
        status, _, errors = jaxsde("export", result, "--out", "b.h5", *words)
        assert status == 2 and message in errors


def test_simulated_results_are_read_by_the_same_command(jaxsde, tmp_path):
    """Their spectrum, which is quick; the chain is that of any other records."""
    result = as_result(tmp_path / "result")
    status, out, errors = jaxsde("analyse", result, "--spectrum")
    assert status == 0, errors
    assert "20 shots read, 19 analysed" in out and "1 shots rejected by the file" in out
    assert "no line stands out of this spectrum" in out
    assert (result / "analysis" / "estimates.json").is_file()

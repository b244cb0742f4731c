"""The command line: the main job small, from file to calibration, and what bad input is told."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import xarray as xr

from command_line import call
from jaxsde.lab.folder import MANIFEST

ROOT = pathlib.Path(__file__).parents[2]

SMALL = """
title = "small"
[params]
omega_m = "2pi * 95 kHz"
omega_s = "2pi * 120 kHz"
kappa = "2pi * 1.82 MHz"
g_m = "2pi * 26 kHz"
g_s = "2pi * -18 kHz"
g_sm = "2pi * 120 Hz"
gamma_m = "2pi * 2 kHz"
n_bath = 1.0
B_s = "3e4 quanta/s"
epsilon = -1
sigma_m = "2pi * 500 Hz"
sigma_s = "2pi * 200 Hz"
n_m0 = 1.0
n_s0 = 1.0
[detector]
efficiency = 0.09
sample_interval = "1 us"
lo_power = "1 mW"
wavelength = "780 nm"
[sequence]
delta = "2pi * 5.5 kHz"
[[sequence.stages]]
name = "preparation"
duration = "20 us"
nbar = 1.0
delta_pc = "2pi * 0 MHz"
omega_m = "coupled"
[[sequence.stages]]
name = "pulse"
duration = "50 us"
nbar = 10.0
delta_pc = "2pi * -2.0 MHz"
omega_m = "coupled"
[[sequence.stages]]
name = "ramp_down"
duration = "5 us"
nbar = 4.0
delta_pc = "2pi * 0 MHz"
omega_m = ["coupled", "rest"]
[[sequence.stages]]
name = "ringdown"
duration = "150 us"
nbar = 4.0
delta_pc = "2pi * 0 MHz"
omega_m = "rest"
[simulation]
shots = 60
seed = 3
[analysis]
pulse = "pulse"
ringdown = "ringdown"
band = ["85 kHz", "150 kHz"]
cycle_average = "120 kHz"
fit_window = ["10 us", "45 us"]
"""


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Keep the command line's cache of programs out of these tests."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with small.toml and its result, made once."""
    place = tmp_path_factory.mktemp("cli")
    (place / "small.toml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(place / "cache"))
        assert call(patch, "run", place / "small.toml", "--out", place / "result") == 0
    return place


def test_run_writes_the_whole_folder(folder):
    result = folder / "result"
    for name in ("experiment.toml", MANIFEST, "estimates.json", "report.html", "records.zarr"):
        assert (result / name).exists(), name
    assert len(list((result / "figures").glob("*.png"))) >= 4
    manifest = json.loads((result / MANIFEST).read_text())
    assert manifest["seed"] == 3 and manifest["engine"] == "fused" and manifest["versions"]["jax"]
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


LIGHT = (
    ("efficiency = 0.09", 'efficiency = 0.9\nquadratures = ["homodyne"]\nmodel = "input_output"'),
    ("[sequence]", '[detector.technical]\nadc_range = "60 nW"\nadc_bits = 10\n[sequence]'),
    ("[sequence]", '[sequence]\nswitching = "cavity"\nrise_time = "1 us"'),
    ("nbar = 10.0", "nbar = [8.0, 10.0]"),
    ("seed = 3", "seed = 3\ntolerance = 1e-6"),
)


def test_a_run_of_every_new_key_tells_what_it_clipped(folder, monkeypatch, capsys):
    """Homodyne shot noise is 16 nW in a sample of 1 us: the strong signal leaves +-60 nW."""
    text = SMALL
    for old, new in LIGHT:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "light.toml").write_text(text)
    out = folder / "light"
    assert call(monkeypatch, "run", folder / "light.toml", "--out", out, "--shots", "40") == 0
    shown = capsys.readouterr().out
    record = json.loads((out / "estimates.json").read_text())["quantities"]
    data = xr.open_zarr(out / "records.zarr", consolidated=False, chunks=None)
    calm = xr.open_zarr(out / "records.zarr", group="reference", consolidated=False, chunks=None)
    clipped = int(data["clipped"].sum()) + int(calm["clipped"].sum())
    assert 0 < clipped < 2 * 40 * 225
    assert record["clipped"]["value"] == pytest.approx(100 * clipped / (2 * 40 * 225))
    assert "clipped samples" in shown and f"{clipped:,} of 18,000 samples" in shown
    report = (out / "report.html").read_text()
    assert f"{clipped:,} of 18,000 samples clipped" in report
    assert "homodyne receiver at 90°" in report and "risen in 1 µs" in report
    assert data["record"].shape == (40, 225, 1)
    # Codes of a converter of 10 bits, the highest one LSB below full scale.
    codes = np.rint(data["record"] / (60e-9 / 512))
    np.testing.assert_allclose(data["record"], codes * 60e-9 / 512, atol=1e-20)
    assert (codes.min(), codes.max()) == (-512, 511)
    resolution = data.attrs["resolution"]
    assert resolution["tolerance"] == 1e-6 and 0 < resolution["ramp_error"] <= 1e-6
    pictures = folder / "pictures"
    assert call(monkeypatch, "figures", "beat", "--from", out, "--out", pictures) == 0
    assert (pictures / "beat.png").read_bytes() == (out / "figures/beat.png").read_bytes()


def test_records_are_read_by_xarray_with_units(folder):
    data = xr.open_zarr(folder / "result" / "records.zarr", consolidated=False, chunks=None)
    assert data["record"].dims == ("shot", "time", "quadrature")
    assert data["record"].shape == (60, 225, 2)
    assert data["record"].attrs["units"] == "W"
    assert data["time"].attrs["units"] == "s"
    assert data["omega_m"].attrs["units"] == "rad/s"
    np.testing.assert_allclose(np.diff(data["time"]), 1e-6)
    assert data.attrs["stages"] == ["preparation", "pulse", "ramp_down", "ringdown"]


def test_an_equal_run_gives_equal_estimates_and_another_seed_others(folder, monkeypatch):
    again, other = folder / "again", folder / "other"
    assert call(monkeypatch, "run", folder / "small.toml", "--out", again) == 0
    assert call(monkeypatch, "run", folder / "small.toml", "--out", other, "--seed", 4) == 0
    first = (folder / "result" / "estimates.json").read_text()
    assert (again / "estimates.json").read_text() == first
    assert (other / "estimates.json").read_text() != first


def test_a_result_is_not_overwritten_without_force(folder, monkeypatch, capsys):
    before = (folder / "result" / MANIFEST).read_text()
    assert call(monkeypatch, "run", folder / "small.toml", "--out", folder / "result") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "exists already; add --force" in error
    assert (folder / "result" / MANIFEST).read_text() == before


def test_force_replaces_results_alone(folder, monkeypatch, capsys, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    assert call(monkeypatch, "run", folder / "small.toml", "--out", mine, "--force") == 2
    assert "it is not touched" in capsys.readouterr().err
    assert (mine / "thesis.tex").read_text() == "years of work"


def test_calibrate_writes_estimates_beside_the_truth(folder, monkeypatch, capsys):
    arguments = ("calibrate", folder / "result", "--free", "g_m", "--windows", "1")
    assert call(monkeypatch, *arguments, "--objective", "all", "--simulated", "400") == 0
    shown = capsys.readouterr().out
    for part in ("likelihood", "moments", "pathwise", "26.00"):
        assert part in shown
    record = json.loads((folder / "result/calibration/calibration.json").read_text())
    for fit in record["calibrations"]:
        assert fit["converged"]
        z = (fit["estimate"][0] - record["truth"]["g_m"]) / fit["stderr"][0]
        assert abs(z) < 4
        assert fit["start"][0] == pytest.approx(1.3 * record["truth"]["g_m"])
    assert (folder / "result/calibration/calibration.png").stat().st_size > 10_000
    assert call(monkeypatch, *arguments) == 2
    assert "add --force" in capsys.readouterr().err


def test_figures_are_drawn_again_from_a_result(folder, monkeypatch, capsys, tmp_path):
    out = tmp_path / "pictures"
    assert call(monkeypatch, "figures", "beat", "--from", folder / "result", "--out", out) == 0
    assert {p.name for p in out.iterdir()} == {"beat.png", "beat.pdf"}
    assert (out / "beat.png").read_bytes() == (folder / "result/figures/beat.png").read_bytes()
    assert call(monkeypatch, "figures", "bet", "--from", folder / "result") == 2
    assert "wanted figures out of" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest"])
def test_a_damaged_result_is_named(folder, monkeypatch, capsys, tmp_path, damage):
    copy = tmp_path / "copy"
    shutil.copytree(folder / "result", copy, ignore=shutil.ignore_patterns("calibration"))
    chunk = next(p for p in (copy / "records.zarr" / "record" / "c").rglob("*") if p.is_file())
    if damage == "truncate":
        chunk.write_bytes(chunk.read_bytes()[:-100])
    elif damage == "remove":
        chunk.unlink()
    else:
        (copy / MANIFEST).unlink()
    assert call(monkeypatch, "calibrate", copy) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "run the experiment again" in error
    assert not (copy / "calibration").exists()


@pytest.mark.parametrize(
    ("change", "arguments", "wanted"),
    [
        (("kappa =", "kapa ="), (), ["kapa", "kappa"]),
        (('"2pi * 26 kHz"', '"26 kHz"'), (), ["params.g_m", "2pi * 26 kHz"]),
        (('"2pi * 1.82 MHz"', '"2pi * 0 MHz"'), (), ["params.kappa", "positive"]),
        (("epsilon = -1", "epsilon = 2"), (), ["params.epsilon", "-1"]),
        (("n_bath = 1.0", "n_bath = nan"), (), ["params.n_bath", "finite"]),
        (('"50 us"', '"50.5 us"'), (), ["pulse", "whole number of samples", "50 us or 51 us"]),
        (("fit_window =", 'filter_length = "1 ms"\nfit_window ='), (), ["filter", "150 us"]),
        (("[sequence]", '[sequence]\nrise_time = "1 us"'), (), ["sequence.rise_time", "cavity"]),
        (('_m = "coupled"', '_m = "2pi * 620 kHz"'), (), ["'preparation': omega_m", "380 kHz"]),
        (("seed = 3", "seed = 3\ntolerance = 2.0"), (), ["simulation.tolerance", "below 1"]),
        (("", ""), ("--shots", "0"), ["--shots", "at least 1"]),
        (("", ""), ("--shots", "1"), ["simulation.shots", "at least 2"]),
        (("", ""), ("--seed", "-1"), ["--seed", "from 0"]),
        (('"150 us"\nnbar = 4.0', '"150 us"\nnbar = 0.0'), (), ["ringdown", "nbar", "positive"]),
        (('"150 us"', '"20 us"'), (), ["filter_length", "32 samples"]),
        (
            ("efficiency =", 'quadratures = ["I"]\nefficiency ='),
            (),
            ["detector.quadratures", "'Q'"],
        ),
        (("fit_window =", 'filter_start = "0.4 us"\nfit_window ='), (), ["filter_start", "whole"]),
        (('"150 us"', '"1e300 s"'), (), ["sequence.stages", "at most 6000 samples"]),
        (("", ""), ("--method", "euler_maruyama"), ["substeps", "unstable", "at least"]),
        (("", ""), ("--method", "milstein"), ["--method", "euler_maruyama"]),
        (("", ""), ("--substeps", "3"), ["substeps", "exact"]),
        (("shots = 60", "shots = 60000000"), (), ["simulation.shots", "GiB", "at most"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    monkeypatch, capsys, tmp_path, change, arguments, wanted
):
    file = tmp_path / "bad.toml"
    file.write_text(SMALL.replace(*change, 1) if change[0] else SMALL)
    out = tmp_path / "out"
    assert call(monkeypatch, "run", file, "--out", out, *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    for part in wanted:
        assert part in error, error
    assert not out.exists() and not list(tmp_path.glob(".out*"))


def test_an_unstable_run_says_what_overflowed(monkeypatch, capsys, tmp_path):
    text = SMALL.replace("nbar = 10.0", "nbar = 4000.0").replace('"50 us"', '"1000 us"')
    text = text.replace("shots = 60", 'shots = 2\ndtype = "float32"')
    file = tmp_path / "hot.toml"
    file.write_text(text)
    assert call(monkeypatch, "run", file, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "stage 'pulse'" in error and "overflowed float32" in error
    assert not (tmp_path / "out").exists()


def test_an_unwritable_place_is_named(folder, monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "result"
    assert call(monkeypatch, "run", folder / "small.toml", "--out", out) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_calibrate_makes_no_folder_of_a_missing_result(monkeypatch, capsys, tmp_path):
    assert call(monkeypatch, "calibrate", tmp_path / "none") == 2
    assert "wanted a result folder" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_brackets_are_printed_as_they_are(folder, monkeypatch, capsys):
    odd = folder / "odd.toml"
    odd.write_text(SMALL.replace('"small"', '"x [/foo] y"'))
    assert call(monkeypatch, "run", odd, "--out", folder / "o[b]x") == 0
    shown = capsys.readouterr().out
    assert "x [/foo] y" in shown and "o[b]x" in shown.replace("\n", "")


def test_a_parameter_that_does_not_exist_is_named(folder, monkeypatch, capsys, tmp_path):
    arguments = ("--free", "g_x", "--out", tmp_path / "out")
    assert call(monkeypatch, "calibrate", folder / "result", *arguments) == 2
    assert "wanted names out of omega_m" in capsys.readouterr().err


def test_a_missing_file_is_named(monkeypatch, capsys, tmp_path):
    assert call(monkeypatch, "run", tmp_path / "none.toml") == 2
    assert "no such file" in capsys.readouterr().err


def test_verify_passes_and_fails_honestly(folder, monkeypatch, capsys, tmp_path):
    arguments = ("verify", folder / "small.toml", "--shots", "2000", "--out", tmp_path / "v")
    arguments = (*arguments, "--receivers", "file")
    assert call(monkeypatch, *arguments) == 0
    assert "passed" in capsys.readouterr().out
    written = json.loads((tmp_path / "v" / "verification.json").read_text(encoding="utf-8"))
    assert written["beyond"] == 0 and written["shots"] == 2000
    assert (tmp_path / "v" / "verification.png").stat().st_size > 10_000
    # 100 ns of laboratory-frame Euler is far too coarse, and unstable against kappa dt = 1.1.
    wrong = (*arguments, "--method", "euler_maruyama", "--substeps", "20")
    assert call(monkeypatch, *wrong) == 1
    assert "FAILED" in capsys.readouterr().out


def test_verify_refuses_receivers_that_are_none(monkeypatch, capsys):
    assert call(monkeypatch, "verify", "--receivers", "both") == 2
    assert "--receivers: wanted file or all, got 'both'" in capsys.readouterr().err


def test_info_tells_versions_devices_and_precision(monkeypatch, capsys):
    assert call(monkeypatch, "info") == 0
    shown = capsys.readouterr().out
    for part in ("jaxsde", "jaxlib", "cpu", "x64", "on "):
        assert part in shown


@pytest.mark.parametrize("command", ["run", "calibrate", "figures", "verify", "info"])
def test_every_command_has_help_with_an_example(monkeypatch, capsys, command):
    assert call(monkeypatch, command, "--help") == 0
    shown = capsys.readouterr().out
    assert "Example:" in shown and f"jaxsde {command}" in shown

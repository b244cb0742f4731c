"""The large run from end to end: its table is that of the run in memory, and failures are told."""

import json

import jax
import numpy as np
import pytest
import zarr

import jaxsde
import streams
from jaxsde.lab import stream
from jaxsde.lab.blocks import Outcome
from jaxsde.lab.experiment import run_experiment
from jaxsde.lab.folder import StoreError, read_manifest
from jaxsde.lab.large import Options, configure_devices, run_large
from jaxsde.lab.spec import build_sequence
from jaxsde.lab.store import estimates, load_results
from jaxsde.lab.table import table_rows

SHOTS = 700


def silent(task, done, total):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("large") / "run"


@pytest.fixture(scope="module")
def made(folder):
    options = Options(keep="moments", block_shots=4096)
    return run_large(streams.experiment(shots=SHOTS), folder, options, ["test"], silent)


def test_the_table_is_that_of_the_run_in_memory(made, folder):
    results = run_experiment(streams.experiment(shots=SHOTS))
    rows = table_rows(results)
    assert made.complete and [row.name for row in made.rows] == [row.name for row in rows]
    for one, other in zip(made.rows, rows, strict=True):
        assert (one.label, one.unit, one.note) == (other.label, other.unit, other.note)
        np.testing.assert_allclose(
            [one.value, one.error, one.theory], [other.value, other.error, other.theory], rtol=1e-5
        )
    written = json.loads((folder / "estimates.json").read_text())
    wanted = estimates(results, rows)
    assert written.keys() == wanted.keys() and written["growth"].keys() == wanted["growth"].keys()
    assert written["shots"] == SHOTS
    for name in ("C", "C_theory", "C_cov"):
        one, other = (np.array(e["second_moments"][name]) for e in (written, wanted))
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8 * np.abs(other).max())


def test_the_folder_is_complete_and_vouched_for(made, folder):
    manifest = read_manifest(folder)
    assert manifest["stream"]["complete"] and manifest["stream"]["failed"] == []
    assert {"estimates.json", "report.html", "blocks.jsonl"} <= manifest["files"].keys()
    report = (folder / "report.html").read_text()
    assert "averaged over the first 256 shots" in report and "700 simulated shots" in report
    with pytest.raises(StoreError, match="whose shots fit in memory"):
        load_results(folder)


def test_moments_of_the_states_are_those_of_theory(made, folder):
    """At the ends of both stages, 42 products within 5 standard errors of Gaussian states."""
    group = zarr.open_group(folder / "blocks.zarr", mode="r")["state_moments/main"]
    e = streams.experiment(shots=SHOTS)
    found = np.asarray(group["covariance"])
    assert found.shape == (90, 21) and group["displacement"].attrs["units"] == "(rad/s)^2"
    g = float(e.params.g_m), float(e.params.g_s)
    # x_i x_j, j <= i: Z_m Z_m is the first, Z_s Z_m the fourth, Z_s Z_s the sixth.
    square = g[0] ** 2 * found[:, 0] + 2 * g[0] * g[1] * found[:, 3] + g[1] ** 2 * found[:, 5]
    np.testing.assert_allclose(np.asarray(group["displacement"]), square, rtol=1e-9)
    p = np.asarray(jaxsde.covariance(e.params, build_sequence(e)))
    i, j = np.tril_indices(6)
    error = np.sqrt((p[:, i, i] * p[:, j, j] + p[:, i, j] ** 2) / SHOTS)
    z = (found[[39, 89]] - p[:, i, j]) / error
    assert np.abs(z).max() < 5 and 0.3 < np.sqrt(np.mean(z**2)) < 2


def test_a_finished_run_is_resumed_in_no_time_and_started_again_by_force(made, folder, tmp_path):
    e = streams.experiment(shots=SHOTS)
    before = (folder / "estimates.json").read_bytes()
    with pytest.raises(StoreError, match="add --resume"):
        run_large(e, folder, Options(keep="moments"), [], silent)
    (folder / "notes.txt").write_text("mine")
    again = run_large(e, folder, Options(keep="moments", force=True), [], silent)
    assert (again.streamed.made, again.streamed.kept) == (1, 0)
    assert (folder / "estimates.json").read_bytes() == before
    assert (folder / "notes.txt").read_text() == "mine"
    with pytest.raises(StoreError, match="got both"):
        run_large(e, folder, Options(keep="moments", force=True, resume=True), [], silent)


def test_a_block_that_fails_is_reported_and_the_table_says_what_it_lacks(tmp_path, monkeypatch):
    real = stream.make_block

    def failing(text, block, keep, **options):
        if block.number == 1:
            return Outcome(block=block, arrays={}, why="2 shots overflow", bad=(600,), n_bad=2)
        return real(text, block, keep, **options)

    monkeypatch.setattr(stream, "make_block", failing)
    options = Options(keep="estimates", block_shots=512)
    made = run_large(streams.experiment(shots=SHOTS), tmp_path / "a", options, [], silent)
    assert not made.complete and made.rows
    written = json.loads((tmp_path / "a" / "estimates.json").read_text())
    assert written["missing"] == [
        dict(part="main", block=1, shots=[512, 700], why="2 shots overflow", bad=[600], n_bad=2)
    ]
    assert not json.loads((tmp_path / "a" / "manifest.json").read_text())["stream"]["complete"]

    def none(text, block, keep, **options):
        return Outcome(block=block, arrays={}, why="all overflow")

    monkeypatch.setattr(stream, "make_block", none)
    made = run_large(streams.experiment(shots=SHOTS), tmp_path / "b", options, [], silent)
    assert not made.rows and len(made.streamed.failed) == 2
    assert not (tmp_path / "b" / "estimates.json").exists()


def test_devices_are_set_before_jax_starts(monkeypatch):
    given = {}
    monkeypatch.setattr(jax.config, "update", given.__setitem__)
    e = streams.experiment()
    configure_devices(e, Options(keep="estimates", devices=3))
    assert given == {"jax_num_cpu_devices": 3}
    configure_devices(e, Options(keep="estimates", cluster="local:2"))
    assert given["jax_platforms"] == "cpu"
    with pytest.raises(StoreError, match="at least 1"):
        configure_devices(e, Options(keep="estimates", devices=0))
    with pytest.raises(StoreError, match="got both"):
        configure_devices(e, Options(keep="estimates", devices=1, cluster="local:2"))

"""Options of large runs on the command line: what is asked, said, refused, and the exit status."""

import json
import types

import jax
import pytest

import command_line
import streams
from jaxsde.lab import large, options, stream
from jaxsde.lab.blocks import Outcome
from jaxsde.lab.large import Options
from jaxsde.lab.options import join_processes, streaming_options
from jaxsde.lab.spec import ExperimentError


def call(monkeypatch, *arguments):
    """Run `jaxsde arguments` in this process, whose devices are set already."""
    monkeypatch.setattr(options, "configure_devices", lambda experiment, given: None)
    return command_line.call(monkeypatch, *arguments)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(large, "draw_figures", lambda results, place: [])
    path = tmp_path / "small.toml"
    path.write_text(streams.SMALL)
    return path


def test_a_run_is_made_resumed_and_refused(file, tmp_path, monkeypatch, capsys):
    command = ["run", file, "--shots", 600, "--keep", "filters", "--out", tmp_path / "a"]
    command += ["--block-shots", 512]
    assert call(monkeypatch, *command, "--resume") == 0
    assert "small: 600 shots, seed 3" in capsys.readouterr().out
    assert call(monkeypatch, *command) == 2
    assert "add --resume to finish it" in capsys.readouterr().err
    assert call(monkeypatch, *command, "--resume") == 0
    assert "2 blocks were there, 0 were made" in capsys.readouterr().out
    assert call(monkeypatch, *command, "--resume", "--seed", 4) == 2
    assert "simulation.seed was 3, now 4" in capsys.readouterr().err


def test_the_exit_status_tells_of_failed_blocks(file, tmp_path, monkeypatch, capsys):
    def failing(text, block, keep, **given):
        return Outcome(block=block, arrays={}, why="3 of 600 shots are not finite")

    monkeypatch.setattr(stream, "make_block", failing)
    command = ["run", file, "--shots", 600, "--keep", "estimates", "--out", tmp_path / "a"]
    assert call(monkeypatch, *command) == 1
    shown = capsys.readouterr().out
    assert "FAILED: main, shots 0 to 599: 3 of 600 shots are not finite" in shown
    assert "no table can be made" in shown
    told = json.loads((tmp_path / "a" / "manifest.json").read_text())["stream"]
    assert not told["complete"] and told["failed"][0]["shots"] == [0, 600]


@pytest.mark.parametrize(
    "given, said",
    [
        (["--resume"], "--resume: wanted --keep with it"),
        (["--block-shots", "512"], "--block-shots: wanted --keep with it"),
        (["--cluster", "local:2"], "--cluster: wanted --keep with it"),
        (["--keep", "all"], "--keep: wanted one of estimates, moments, filters, records"),
        (["--keep", "records", "--block-shots", "1000"], "--block-shots: wanted 512 times"),
    ],
)
def test_options_that_cannot_be_are_refused(file, tmp_path, monkeypatch, capsys, given, said):
    assert call(monkeypatch, "run", file, "--out", tmp_path / "a", *given) == 2
    assert said in capsys.readouterr().err


def test_without_keep_the_run_stays_in_memory():
    assert streaming_options(None, False, True, None, None, None) is None
    made = streaming_options("records", True, False, 512, None, "local:2")
    assert made == Options(keep="records", resume=True, block_shots=512, cluster="local:2")


def test_processes_are_joined_as_they_are_told(monkeypatch):
    assert join_processes(None) == (None, True)
    calls = []
    monkeypatch.setattr(
        jax, "distributed", types.SimpleNamespace(initialize=lambda *args: calls.append(args))
    )
    devices, writes = join_processes("node1:8476,2,1")
    assert calls == [("node1:8476", 2, 1)] and devices == jax.devices() and not writes
    assert join_processes("auto")[1] and calls[-1] == ()
    for wrong in ("node1", "node1:1,2", "node1:1,2,2", "node1,2,0", "node1:1,x,0"):
        with pytest.raises(ExperimentError, match="--distributed: wanted auto, or HOST:PORT"):
            join_processes(wrong)

"""The script that makes the environment: what it chooses, and when it installs again."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "env.py"


@pytest.fixture
def env():
    spec = importlib.util.spec_from_file_location("ci_env", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def machine(env, monkeypatch, tmp_path):
    """A machine on which installing and starting a command are only noted down."""
    log: list[list[str]] = []
    venv = tmp_path / "venv"
    status = SimpleNamespace(code=0)

    def run(step, **_):
        log.append([str(word) for word in step])
        if step[1:3] == ["-m", "venv"]:
            (venv / "bin").mkdir(parents=True, exist_ok=True)
            (venv / "pyvenv.cfg").touch()
            for name in ("jaxsde", "pytest"):
                (venv / "bin" / name).touch()
                (venv / "bin" / name).chmod(0o755)
        return SimpleNamespace(returncode=status.code)

    def start(program, words):
        log.append(["start", Path(program).name, *words[1:]])

    monkeypatch.setattr(env.subprocess, "run", run)
    monkeypatch.setattr(env.os, "execv", start)
    monkeypatch.setattr(env, "choose_python", lambda: ("/usr/bin/python3", (3, 12)))
    monkeypatch.setenv("JAXSDE_VENV", str(venv))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    return SimpleNamespace(log=log, venv=venv, status=status)


def test_takes_the_running_python_if_supported(env):
    assert env.choose_python(running=(3, 12)) == (sys.executable, (3, 12))


def test_takes_the_newest_on_path_that_runs(env):
    versions = {"/shim/python3.13": None, "/bin/python3.12": (3, 12), "/bin/python3.11": (3, 11)}
    where = {Path(path).name: path for path in versions}
    chosen = env.choose_python(running=(3, 10), which=where.get, version=versions.get)
    assert chosen == ("/bin/python3.12", (3, 12))


def test_refuses_a_machine_without_a_supported_python(env):
    with pytest.raises(SystemExit, match=r"wanted Python 3\.11, 3\.12 or 3\.13, got 3\.9 and none"):
        env.choose_python(running=(3, 9), which=lambda _: None)


def test_asks_an_interpreter_for_its_version(env, tmp_path):
    assert env.version_of(sys.executable) == tuple(sys.version_info[:2])
    assert env.version_of(str(tmp_path / "none")) is None


def test_stamp_changes_with_whatever_an_installation_depends_on(env):
    stamps = {
        env.stamp_text(b"a", (3, 12), ""),
        env.stamp_text(b"b", (3, 12), ""),
        env.stamp_text(b"a", (3, 13), ""),
        env.stamp_text(b"a", (3, 12), "dev"),
        env.stamp_text(b"a", (3, 12), "", root=Path("/elsewhere")),
    }
    assert len(stamps) == 5
    assert env.stamp_text(b"a", (3, 12), "") in stamps


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("jaxsde", ""),
        ("python", ""),
        ("pytest", "dev"),
        ("ruff", "dev"),
        ("pyright", "dev"),
        ("mkdocs", "dev"),
    ],
)
def test_extra_follows_the_command(env, command, extra):
    assert env.extra_for(command) == extra


def test_installs_once_then_starts_at_once(env, machine):
    env.main(["jaxsde", "run", "x.toml"])
    python = str(machine.venv / "bin" / "python")
    assert machine.log[0][:4] == ["/usr/bin/python3", "-m", "venv", "--clear"]
    assert machine.log[1][0] == python and machine.log[1][-1] == str(env.ROOT)
    assert machine.log[2:] == [["start", "jaxsde", "run", "x.toml"]]
    env.main(["jaxsde", "info"])
    assert machine.log[3:] == [["start", "jaxsde", "info"]]


def test_dev_tools_serve_base_commands_but_not_the_reverse(env, machine):
    env.main(["jaxsde", "info"])
    env.main(["pytest"])
    assert machine.log[-2][-1] == f"{env.ROOT}[dev]"
    before = len(machine.log)
    env.main(["jaxsde", "info"])
    assert len(machine.log) == before + 1


def test_failed_installation_leaves_no_stamp(env, machine):
    env.main(["jaxsde", "info"])
    machine.status.code = 1
    with pytest.raises(SystemExit, match="env: failed with status 1: "):
        env.main(["pytest"])
    assert not (machine.venv / "jaxsde.stamp").exists()
    machine.status.code = 0
    env.main(["jaxsde", "info"])
    assert machine.log[-3][1:3] == ["-m", "venv"] and machine.log[-1] == ["start", "jaxsde", "info"]


def test_interrupted_installation_leaves_no_stamp(env, machine, monkeypatch):
    def interrupt(step, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(env.subprocess, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        env.main(["jaxsde", "info"])
    assert not (machine.venv / "jaxsde.stamp").exists()


def test_refuses_to_clear_a_folder_of_other_files(env, machine):
    machine.venv.mkdir()
    (machine.venv / "thesis.tex").touch()
    with pytest.raises(SystemExit, match="holds other files"):
        env.main(["jaxsde", "info"])
    assert (machine.venv / "thesis.tex").exists() and not machine.log


def test_names_a_command_that_is_not_there(env, machine):
    with pytest.raises(SystemExit, match="env: jaxdse: no such command"):
        env.main(["jaxdse"])


def test_without_a_command_it_explains_itself(env, capsys):
    with pytest.raises(SystemExit, match=r"env: wanted a command, got none\n(?s:.*)env\.py pytest"):
        env.main([])
    env.main(["--help"])
    assert "python3 .ci/env.py pytest" in capsys.readouterr().out

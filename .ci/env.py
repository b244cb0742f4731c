"""Run a command in the project's own environment, making it first if need be.

    python3 .ci/env.py jaxsde run examples/kohler2018.toml --force
    python3 .ci/env.py pytest

Needs Python, its venv module and the package index alone.  The environment is .venv in the
checkout (JAXSDE_VENV names another place); a stamp in it makes later calls start at once.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ((3, 13), (3, 12), (3, 11))
DEV_COMMANDS = ("pytest", "ruff", "pyright", "pre-commit", "mkdocs")


def version_of(python):
    """Return (major, minor) of an interpreter, or None if it does not run."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        out = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    # A version manager's shim may stand on PATH for a Python that is not installed.
    parts = out.stdout.split()
    return (int(parts[0]), int(parts[1])) if out.returncode == 0 and len(parts) == 2 else None


def choose_python(running=None, which=shutil.which, version=version_of):
    """Return (path, version) of a supported Python: the running one, else the newest on PATH."""
    running = tuple(sys.version_info[:2]) if running is None else running
    if running in SUPPORTED:
        return sys.executable, running
    for wanted in SUPPORTED:
        path = which(f"python{wanted[0]}.{wanted[1]}")
        if path is not None and version(path) == wanted:
            return path, wanted
    raise SystemExit(
        f"env: wanted Python 3.11, 3.12 or 3.13, got {running[0]}.{running[1]} and none of them on "
        "PATH: install one"
    )


def stamp_text(pyproject, python_version, extra, root=ROOT):
    """Return what identifies an installation; it changes whenever one must be made anew."""
    key = [pyproject.decode(), f"{python_version[0]}.{python_version[1]}", extra, str(root)]
    return hashlib.sha256("\0".join(key).encode()).hexdigest()


def extra_for(command):
    """Return the extra of the package that the command needs."""
    return "dev" if Path(command).name in DEV_COMMANDS else ""


def installed(venv, pyproject, python_version, extra):
    """Tell whether the environment holds at least the extra: "dev" holds all that "" does."""
    try:
        found = (venv / "jaxsde.stamp").read_text()
    except OSError:
        return False
    enough = {extra, "dev"}
    return any(found == stamp_text(pyproject, python_version, one) for one in enough)


def bin_folder(venv):
    """Return where an environment keeps its commands."""
    return venv / ("Scripts" if os.name == "nt" else "bin")


def install(venv, python, pyproject, python_version, extra):
    """Make the environment and install the package into it, editable; stamp it last."""
    stamp = venv / "jaxsde.stamp"
    stamp.unlink(missing_ok=True)
    what = f"{ROOT}[{extra}]" if extra else str(ROOT)
    print(f"env: installing into {venv} (once; some minutes)", file=sys.stderr, flush=True)
    pip = [str(bin_folder(venv) / "python"), "-m", "pip", "--disable-pip-version-check"]
    for step in (
        [python, "-m", "venv", "--clear", str(venv)],
        [*pip, "install", "--quiet", "--editable", what],
    ):
        done = subprocess.run(step)
        if done.returncode != 0:
            raise SystemExit(f"env: failed with status {done.returncode}: {' '.join(step)}")
    fresh = stamp.with_suffix(".new")
    fresh.write_text(stamp_text(pyproject, python_version, extra))
    fresh.replace(stamp)


def check_folder(venv):
    """Refuse to clear a folder that is no environment."""
    if venv.exists() and not (venv / "pyvenv.cfg").exists() and any(venv.iterdir()):
        raise SystemExit(f"env: {venv} holds other files: move it, or set JAXSDE_VENV")


def main(arguments):
    """Run the command that arguments hold; does not return on POSIX."""
    if not arguments:
        raise SystemExit(f"env: wanted a command, got none\n{__doc__}")
    if arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    command, extra = arguments[0], extra_for(arguments[0])
    venv = Path(os.environ.get("JAXSDE_VENV") or ROOT / ".venv").absolute()
    pyproject = (ROOT / "pyproject.toml").read_bytes()
    python, version = choose_python()
    if not installed(venv, pyproject, version, extra):
        check_folder(venv)
        install(venv, python, pyproject, version, extra)
    folder = bin_folder(venv)
    program = shutil.which(command, path=str(folder))
    if program is None:
        raise SystemExit(f"env: {command}: no such command in {folder}")
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ["VIRTUAL_ENV"] = str(venv)
    if os.name == "nt":
        raise SystemExit(subprocess.run([program, *arguments[1:]]).returncode)
    os.execv(program, [program, *arguments[1:]])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        raise SystemExit(130) from None

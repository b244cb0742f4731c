"""What the README shows works: its library snippet, its files, its commands."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_library_snippet_runs():
    (snippet,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "n_m" in done.stdout and "'g_s'" in done.stdout


def test_every_linked_file_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_every_named_example_exists():
    named = set(re.findall(r"`(?:examples/)?(\w+\.toml)`", README)) - {"experiment.toml"}
    assert named == {path.name for path in (ROOT / "examples").glob("*.toml")}

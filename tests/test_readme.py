"""What the README names is there; tests/test_pages.py runs its blocks."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_linked_file_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_every_named_example_exists():
    named = set(re.findall(r"`(?:examples/)?(\w+\.toml)`", README)) - {"experiment.toml"}
    assert named == {path.name for path in (ROOT / "examples").glob("*.toml")}

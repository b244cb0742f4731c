"""The site has a place for every public name, option and page; docstrings become Markdown."""

import importlib.util
import pathlib
import re
import tomllib

import pytest
import typer
import yaml

import jaxsde
from jaxsde.lab import cli

ROOT = pathlib.Path(__file__).resolve().parents[1]
API = ROOT / "docs" / "api"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def docstrings():
    spec = importlib.util.spec_from_file_location("docstrings", ROOT / ".ci" / "docstrings.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_on_the_page_of_its_floor():
    placed = {}
    for floor in ("physics", "engine", "analysis", "inference"):
        for name in re.findall(r"^::: jaxsde\.(\w+)$", (API / f"{floor}.md").read_text(), re.M):
            assert name not in placed, name
            placed[name] = floor
    assert set(placed) == set(jaxsde.__all__)
    for name, floor in placed.items():
        assert getattr(jaxsde, name).__module__.split(".")[1] == floor, name


def test_the_page_of_the_lab_names_what_is_there():
    found = re.findall(
        r"^::: (\S+)\n.*?members: \[(.*?)\]", (API / "lab.md").read_text(), re.M | re.S
    )
    assert len(found) >= 9
    for module, names in found:
        there = importlib.import_module(module)
        for name in names.split(", "):
            assert getattr(there, name).__doc__, f"{module}.{name}"


def test_every_page_has_its_place():
    """A page of the nav that is missing, and one beside it, fail the strict build too."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r": ([\w/-]+\.md)$", text, re.M))
    there = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert named == there


def test_the_page_of_commands_has_every_command_and_option():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `jaxsde (\w+)`$(.*?)(?=^## |\Z)", page, re.M | re.S))
    group = typer.main.get_command(cli.app)
    assert set(sections) == set(group.commands)
    for name, command in group.commands.items():
        known = {o for p in command.params for o in p.opts if o.startswith("--")} - {"--help"}
        said = set(re.findall(r"^\* `(--[\w-]+)", sections[name], re.M)) - {"--help"}
        assert said == known, f"{name}: write docs/commands.md again (CONTRIBUTING.md)"


def test_the_citation_is_that_of_this_version():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    for key in ("cff-version", "message", "title", "authors", "version", "license"):
        assert cff[key]
    assert cff["cff-version"] == "1.2.0" and cff["type"] == "software"
    assert cff["version"] == jaxsde.__version__
    assert cff["license"] == PYPROJECT["project"]["license"]
    assert cff["authors"] == PYPROJECT["project"]["authors"]
    (paper,) = cff["references"]
    assert paper["type"] == "article" and paper["doi"] == "10.1103/PhysRevLett.120.013601"
    assert [a["family-names"] for a in paper["authors"]] == [
        "Kohler", "Gerber", "Dowd", "Stamper-Kurn",
    ]  # fmt: skip
    assert jaxsde.__version__ in (ROOT / "docs" / "citing.md").read_text(encoding="utf-8")


def test_arguments_of_a_docstring_become_a_list(docstrings):
    text = (
        "Return <D^2> of a record_x.\n\n    x' = A x\n\n"
        "record: W, of\n    every shot.  start, stop: s.\n*_error: of all.\nOther: words. "
        "`a_b` stays.\nRaises ValueError for\nnothing."
    )
    made = docstrings.markdown(text, {"record", "start", "stop", "gain_error"})
    assert made == (
        "Return &lt;D^2&gt; of a record\\_x.\n\n    x' = A x\n\n"
        "- `record`: W, of every shot.\n- `start, stop`: s.\n"
        "- `*_error`: of all. Other: words. `a_b` stays.\n\nRaises ValueError for nothing."
    )


def test_no_public_docstring_leaves_an_argument_behind(docstrings):
    """Each "name: " of a parameter at the start of a line becomes an item."""
    items = 0
    for name in jaxsde.__all__:
        thing = getattr(jaxsde, name)
        text = re.sub(r"\n    ", "\n", thing.__doc__)
        known = set(getattr(thing, "__annotations__", {}))
        made = docstrings.markdown(text, known)
        items += made.count("\n- `")
        for line in text.splitlines():
            found = docstrings.definition(line, known)
            assert found is None or f"- `{found[1]}`" in made, f"{name}: {line}"
    assert items > 200

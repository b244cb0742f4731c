"""What the pages tell a reader to type works: every block of code, command and file on them."""

import ast
import contextlib
import dataclasses
import io
import json
import re
import shutil

import matplotlib
import pytest

import laboratory
import pages
from jaxsde.lab.config import ExperimentError, dump_experiment, parse_experiment
from jaxsde.lab.spec import build_sequence

# Pages whose blocks another test runs.
ELSEWHERE = {"conventions.md": "test_conventions.py"}
NOTEBOOKS = sorted((pages.ROOT / "examples").glob("*.ipynb"))
RUN = [path for path in pages.PAGES if path.name not in ELSEWHERE]
SHOTS = 64


class Reader:
    """Follow pages in one folder, in the order of their blocks."""

    def __init__(self, folder):
        self.folder = folder
        experiment = dataclasses.replace(laboratory.experiment(), shots=SHOTS)
        shutil.copytree(pages.ROOT / "examples", folder / "examples")
        small = dump_experiment(experiment)
        (folder / "examples" / "kohler2018.toml").write_text(small, encoding="utf-8")
        self.given = dict(SEQUENCE=build_sequence(experiment), DETECTOR=experiment.detector)
        self.done = set()

    def follow(self, path):
        """Do everything that a page says, once."""
        if path.name in self.done:
            return
        self.done.add(path.name)
        names, printed, refusal = {"__name__": "page", **self.given}, "", ""
        for block in pages.blocks(path):
            where = f"{block.page}, line {block.line}"
            if block.language == "python":
                printed = printed if block.reason else self.execute(block, names, where)
            elif block.language in ("sh", "console"):
                printed = self.type(block)
            elif block.language == "toml":
                refusal = self.read(block)
            elif block.check == "printed":
                assert block.code == printed, where
            elif block.check == "printed, but for numbers":
                got = pages.without_numbers(printed)
                assert [x for x in pages.without_numbers(block.code) if x not in got] == [], where
            elif block.check == "refusal":
                assert block.code.strip() == refusal, where

    def execute(self, block, names, where):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block.as_run, where, "exec"), names)
        return out.getvalue()

    def type(self, block):
        printed = ""
        for command in pages.commands(block.as_run):
            words = pages.jaxsde_words(command)
            if words is None or block.reason or not command.startswith("jaxsde "):
                continue
            printed += pages.call(words)
        return printed

    def read(self, block):
        """Put a block of TOML into its file, or try it as a change of the page's file."""
        if block.title:
            with (self.folder / block.title).open("a", encoding="utf-8") as file:
                file.write(block.code + "\n")
            return ""
        whole = (self.folder / "mine.toml").read_text(encoding="utf-8")
        try:
            parse_experiment(pages.merged(whole, block.code), "mine.toml")
        except ExperimentError as error:
            assert block.check == "refused", f"{block.page}, line {block.line}: {error}"
            return str(error)
        assert block.check != "refused", f"{block.page}, line {block.line}"
        return ""


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """Return a reader who has followed the start page, as all other pages assume."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "100")
        # A third of a small run's time; tests of the figures look at what is drawn.
        patch.setattr("matplotlib.figure.Figure.savefig", lambda _, path, **__: path.touch())
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
        one = Reader(folder)
        one.follow(pages.ROOT / "docs" / "start.md")
        yield one


def holds(path, *languages):
    return any(b.language in languages for b in pages.blocks(path))


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in RUN if holds(p, "python", "sh", "toml")], ids=lambda p: p.name
)
def test_what_a_page_says_can_be_done(reader, path):
    reader.follow(path)
    assert path.name in reader.done


def code_cells(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_the_cells_of_a_notebook_run(reader, path, monkeypatch):
    """With a small experiment in place of the one that the first cell makes."""
    matplotlib.use("Agg")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    small = dict(sequence=reader.given["SEQUENCE"], detector=reader.given["DETECTOR"])
    small |= dict(n_shots=SHOTS)
    names = {"__name__": "notebook"}
    for number, cell in enumerate(code_cells(path)):
        code = compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec")
        # Those that compile for a minute; tests/inference runs what they call.
        if "not-in-tests" not in cell["metadata"].get("tags", ()):
            exec(code, names)
        if number == 0:
            assert small.keys() <= names.keys()
            names |= small
    matplotlib.pyplot.close("all")


def test_notebooks_show_what_their_cells_give():
    assert {path.stem for path in NOTEBOOKS} == {"simulate_and_analyse", "calibrate"}
    for path in NOTEBOOKS:
        assert path.stat().st_size < 400_000
        cells = code_cells(path)
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
        shown = [output for cell in cells for output in cell["outputs"]]
        assert {output["output_type"] for output in shown} <= {"stream", "display_data"}
        assert any("image/png" in output.get("data", {}) for output in shown)
        assert all(output.get("name") != "stderr" for output in shown)


def test_every_block_says_what_it_is():
    seen = 0
    for path in pages.PAGES:
        text = path.read_text(encoding="utf-8")
        found = pages.blocks(path)
        assert 2 * len(found) == len(re.findall(r"^```", text, flags=re.M)), path.name
        for block in found:
            seen += 1
            assert block.language in pages.LANGUAGES, f"{block.page}, line {block.line}"
            if block.check.startswith("parse only"):
                assert len(block.reason) > 15, f"{block.page}, line {block.line}: say why"
        checks = re.findall(r"^<!-- check: ", text, flags=re.M)
        assert len(checks) == sum(bool(block.check) for block in found), path.name
    assert seen > 50


def test_every_command_is_known():
    seen = 0
    for path in pages.PAGES:
        for block in pages.blocks(path):
            for command in pages.commands(block.code) if block.language == "sh" else ():
                words = pages.jaxsde_words(command)
                if words is None:
                    assert command.startswith(pages.OTHERS), f"{block.page}: {command}"
                else:
                    pages.parse_command(words)
                    seen += 1
    assert seen > 20
    with pytest.raises(Exception, match="--shot"):
        pages.parse_command(["run", "x.toml", "--shot", "3"])
    with pytest.raises(AssertionError, match="no such command"):
        pages.parse_command(["simulate", "x.toml"])


def test_blocks_that_are_not_run_are_code_all_the_same():
    for path in pages.PAGES:
        for block in pages.blocks(path):
            if block.language == "python":
                ast.parse(block.code)


def test_tests_elsewhere_exist():
    for page, test in ELSEWHERE.items():
        assert (pages.ROOT / "docs" / page).exists()
        assert page in (pages.ROOT / "tests" / test).read_text(encoding="utf-8")


def test_the_readme_prints_the_table_of_the_start_page():
    def table(path):
        (found,) = [b.code for b in pages.blocks(path) if "<a† a>" in b.code]
        return found

    assert table(pages.ROOT / "README.md") == table(pages.ROOT / "docs" / "start.md")


def test_fragments_change_what_they_name():
    whole = 'a = 1\n[t]\nx = "1 s"\ny = [1, 2]\n[[sequence.stages]]\nname = "p"\nn = 1\n'
    made = pages.merged(whole, '[t]\nx = "2 s"\n[[sequence.stages]]\nname = "p"\nn = 2\n')
    assert 'x = "2 s"\ny = [1, 2]\n' in made and "n = 2" in made and "n = 1" not in made
    with pytest.raises(AssertionError, match="has not: q"):
        pages.merged(whole, '[[sequence.stages]]\nname = "q"\n')

"""Pages of the documentation as what they tell a reader to type, and running it.

A comment before a block says what is special about it:

    <!-- check: parse only: REASON -->          not run; commands and code are parsed
    <!-- check: with A for B; C for D -->       run with A in the place of B, and so on
    <!-- check: printed -->                     what the block before prints
    <!-- check: printed, but for numbers -->    the same, of an experiment made smaller
    <!-- check: refused -->                     a fragment that is wrong
    <!-- check: refusal -->                     what is answered to it
"""

import contextlib
import dataclasses
import io
import json
import pathlib
import re
import shlex
import sys
import tomllib
from typing import Any

import typer

from jaxsde.lab import cli

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
LANGUAGES = ("python", "sh", "console", "toml", "text", "math", "bibtex")
FENCE = re.compile(
    r"(?:^<!-- check: (?P<check>[^\n]*) -->\n)?"
    r'^```(?P<language>\w*)(?: title="(?P<title>[^"\n]*)")?\n(?P<code>.*?)^```$',
    re.M | re.S,
)
# What a reader types beside jaxsde; none of it is run here.
OTHERS = ("git clone ", "cd ", "source ", "pip install ", "python3 .ci/env.py ", ".ci/run")
NUMBER = re.compile(r"[-+−]?\d[\d.,]*(?:e[-+]?\d+)?")


@dataclasses.dataclass(frozen=True)
class Block:
    """Hold one fenced block: its page and line, its code, and what its comment says."""

    page: str
    line: int
    language: str
    title: str
    code: str
    check: str

    @property
    def reason(self) -> str:
        """Why the block is not run, or nothing."""
        return self.check.removeprefix("parse only: ") if self.check.startswith("parse") else ""

    @property
    def as_run(self) -> str:
        """The code with its substitutions."""
        code = self.code
        if self.check.startswith("with "):
            for pair in self.check.removeprefix("with ").split("; "):
                new, old = pair.split(" for ")
                assert old in code, f"{self.page}, line {self.line}: no {old!r} to replace"
                code = code.replace(old, new)
        return code


def blocks(path: pathlib.Path) -> list[Block]:
    """Return the blocks of a page."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(
            page=path.name,
            line=text[: m.start("code")].count("\n"),
            language=m["language"],
            title=m["title"] or "",
            code=m["code"],
            check=m["check"] or "",
        )
        for m in FENCE.finditer(text)
    ]


def commands(code: str) -> list[str]:
    """Return the commands of a block of shell, without comments, continued lines joined."""
    lines = code.replace("\\\n", " ").splitlines()
    found = [shlex.join(shlex.split(line, comments=True)) for line in lines]
    return [line for line in found if line]


def jaxsde_words(command: str) -> list[str] | None:
    """Return what a command gives to jaxsde, or None if it is none of it."""
    words = shlex.split(command)
    return words[words.index("jaxsde") + 1 :] if "jaxsde" in words else None


def parse_command(words: list[str]) -> None:
    """Raise unless the command line knows the command and all its options; nothing is run."""
    group: Any = typer.main.get_command(cli.app)
    name, *rest = words
    assert name in group.commands, f"jaxsde {name}: no such command"
    group.commands[name].make_context(name, rest)


def call(words: list[str]) -> str:
    """Return what a command of jaxsde prints; it must succeed."""
    printed, errors, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["jaxsde", *words]
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            cli.main()
    except SystemExit as stop:
        assert not stop.code, f"jaxsde {shlex.join(words)}: {errors.getvalue()}"
    finally:
        sys.argv = before
    return printed.getvalue()


def without_numbers(text: str) -> list[str]:
    """Return the lines of a printed text with numbers, rules and spacing taken out."""
    lines = [re.sub(r"[─\s]+", " ", NUMBER.sub("", line)).strip() for line in text.splitlines()]
    return [line for line in lines if line]


def toml_text(document: dict[str, Any], path: str = "") -> str:
    """Return a document of tables, lists of tables and plain values as TOML."""
    tables = {k: v for k, v in document.items() if isinstance(v, dict)}
    lists = {k: v for k, v in document.items() if isinstance(v, list) and _tables(v)}
    plain = {k: v for k, v in document.items() if k not in tables and k not in lists}
    out = "".join(f"{k} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in plain.items())
    for k, v in tables.items():
        out += f"[{path}{k}]\n{toml_text(v, f'{path}{k}.')}"
    for k, v in lists.items():
        out += "".join(f"[[{path}{k}]]\n{toml_text(one, f'{path}{k}.')}" for one in v)
    return out


def _tables(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, dict) for value in values)


def merged(whole: str, fragment: str) -> str:
    """Return an experiment file with the keys of a fragment; its stages replace their namesakes."""
    document, extra = tomllib.loads(whole), tomllib.loads(fragment)
    stages = {s["name"]: s for s in extra.get("sequence", {}).pop("stages", [])}
    for table, values in extra.items():
        document[table] = document.get(table, {}) | values if isinstance(values, dict) else values
    known = document["sequence"]["stages"]
    document["sequence"]["stages"] = [stages.pop(s["name"], s) for s in known]
    assert not stages, f"stages that the experiment has not: {', '.join(stages)}"
    return toml_text(document)

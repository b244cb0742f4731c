"""Markdown of the package's docstrings, for mkdocstrings: arguments become lists, text stays text.

A docstring says "name: meaning." or "name, other: meaning." of arguments and fields, at the start
of a line or after a full stop and two spaces.  Here each becomes an item of a list.
"""

import re

import griffe

DEFINED = re.compile(r"(\*?\w+(?:, \*?\w+)*)((?: \([^():]*\))?):\s+")
SENTENCE = re.compile(
    r"(?<=[.;)])  (?=\S)"  # house style: two spaces
    r"|(?<=\.)\n(?=[A-Z])"
    r"|\n(?=\*?\w[\w, *]*(?: \([^():]*\))?:\s)"
)
CODE = re.compile(r"(`[^`]+`)")
SPECIAL = re.compile(r"([\\*_\[\]#])")
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"}


def escape(text: str) -> str:
    """Return text in which Markdown and HTML find nothing, but for `code`."""

    def plain(part: str) -> str:
        part = "".join(ENTITIES.get(letter, letter) for letter in part)
        return SPECIAL.sub(r"\\\1", part)

    parts = CODE.split(text)
    return "".join(part if i % 2 else plain(part) for i, part in enumerate(parts))


def definition(part: str, names: set[str]) -> re.Match[str] | None:
    """Return the match of a part that says what some of the names mean; "*_end" is several."""

    def known(word: str) -> bool:
        return word in names or (word[0] == "*" and any(n.endswith(word[1:]) for n in names))

    found = DEFINED.match(part)
    return found if found and all(known(word) for word in found[1].split(", ")) else None


def paragraph(text: str, names: set[str]) -> str:
    """Return the Markdown of lines without an empty one between them."""
    parts: list[list[str]] = []  # [line that begins the part, the rest of its text]
    for part in SENTENCE.split(text):
        found, joined = definition(part, names), " ".join(part.split())
        if found:
            said = " ".join(part[found.end() :].split())
            parts.append([f"- `{found[1]}`{escape(found[2])}: ", escape(said)])
        elif parts and not joined.startswith(("Raises ", "Warns ")):
            parts[-1][1] += " " + escape(joined)
        else:
            parts.append(["", escape(joined)])
    out, listed = [], False
    for head, said in parts:
        out += [""] if out and not (listed and head) else []
        out.append(head + said)
        listed = bool(head)
    return "\n".join(out)


def markdown(docstring: str, names: set[str]) -> str:
    """Return the Markdown of a docstring that defines some of the names."""
    made = []
    for block in re.split(r"\n[ ]*\n", docstring.strip("\n")):
        # An equation, or a list of them, stands indented by itself.
        verbatim = all(line.startswith("    ") for line in block.split("\n"))
        made.append(block if verbatim else paragraph(block, names))
    return "\n\n".join(made)


def names_of(thing: griffe.Object) -> set[str]:
    """Return the names that a docstring may define: parameters, or the fields of a class."""
    if isinstance(thing, griffe.Function):
        return {parameter.name for parameter in thing.parameters}
    return set(thing.members) if isinstance(thing, griffe.Class) else set()


class HouseStyle(griffe.Extension):
    """Turn every docstring that griffe loads into Markdown."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Rewrite the docstring of one object, after its members have been found."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value, names_of(obj))

"""Texts of the example files, changed in one place, and what is answered to them."""

import pathlib
import re

import pytest

from jaxsde.lab.config import ExperimentError, parse_experiment

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"
KOHLER = (EXAMPLES / "kohler2018.toml").read_text(encoding="utf-8")
NO_PULSE = (EXAMPLES / "anomalous_diffusion.toml").read_text(encoding="utf-8")
# Without comments, which quote some of what tests replace.
BARE = re.sub(r"(?m)^#.*\n", "", KOHLER)
HOMODYNE = re.sub(r"(?m)(^| +)#.*", "", (EXAMPLES / "homodyne.toml").read_text(encoding="utf-8"))


def changed(*pairs: tuple[str, str], text: str = BARE) -> str:
    for old, new in pairs:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    return text


def refusal(text: str) -> str:
    with pytest.raises(ExperimentError) as caught:
        parse_experiment(text, "x.toml")
    line = str(caught.value)
    assert line.startswith("x.toml: ") and "\n" not in line and "pydantic" not in line
    return line.removeprefix("x.toml: ")

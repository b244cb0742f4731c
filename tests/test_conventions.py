"""The numbers of docs/conventions.md are what the code beside them gives, to the digits shown."""

import pathlib
import re
from typing import Any

import numpy as np
import pytest

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "conventions.md").read_text(encoding="utf-8")
NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
# name, other = call  # 1.0, 2.0 unit and words
LINE = re.compile(rf"^(\w+(?:, \w+)*) = .*  # ({NUMBER}\b.*)$", re.M)


def blocks() -> list[tuple[str, str]]:
    """Return (heading, code) of every block of Python on the page."""
    found, heading = [], ""
    for part in re.finditer(r"^#+ ([^\n]*)$|^```python\n(.*?)^```", PAGE, flags=re.M | re.S):
        heading = part[1] or heading
        if part[2]:
            found.append((heading, part[2]))
    return found


(_, SETUP), *BLOCKS = blocks()
NAMES = [f"{i} {heading}" for i, (heading, _) in enumerate(BLOCKS)]


def checks(code: str) -> dict[str, str]:
    """Return the numbers that a block says its names have, as they are printed."""
    said = {}
    for names, comment in LINE.findall(code):
        each = names.split(", ")
        numbers = re.match(
            r"(?: [^,]*)?, ".join([f"({NUMBER})"] * len(each)) + r"(?=\W|$)", comment
        )
        assert numbers is not None, f"{names}: a number for each is wanted, got {comment}"
        said |= dict(zip(each, numbers.groups(), strict=True))
    return said


def half_a_digit(text: str) -> float:
    """Return half a unit of a printed number's last digit."""
    mantissa, _, exponent = text.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 0.5 * 10.0 ** (int(exponent or 0) - decimals)


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(SETUP, "setup", "exec"), names)
    exec(compile(code, "block", "exec"), names)
    return names


def wrong(code: str, names: dict[str, Any]) -> list[str]:
    """Return what differs from the page by more than the digits that it prints."""
    bad = []
    for name, text in checks(code).items():
        value = complex(np.asarray(names[name]).item())
        assert value.imag == 0, name
        if not abs(value.real - float(text)) <= half_a_digit(text) * (1 + 1e-6):
            bad.append(f"{name}: the page says {text}, the code gives {value.real:.8g}")
    return bad


@pytest.mark.parametrize("code", [code for _, code in BLOCKS], ids=NAMES)
def test_the_page_says_what_its_code_gives(code):
    assert checks(code)
    names = run(code)
    assert wrong(code, names) == []
    for name in [n for n in checks(code) if n.endswith("_printed")]:
        right, printed = (float(np.real(names[n])) for n in (name.removesuffix("_printed"), name))
        assert abs(right - printed) > 20 * half_a_digit(checks(code)[name]), name


def test_no_number_of_a_comment_is_left_out():
    """Lines whose comment begins with a number are checks, all of them."""
    lines = [line for _, code in BLOCKS for line in code.splitlines()]
    begun = [line for line in lines if re.search(rf"  # {NUMBER}\b", line)]
    assert len(begun) == sum(len(LINE.findall(code)) for _, code in BLOCKS) > 35


def test_every_slip_of_the_table_has_its_check():
    (table,) = re.findall(r"^## Where the printed.*?\n\n(\|.*?)\n\n", PAGE, flags=re.M | re.S)
    slips = [row.split("|")[1].strip() for row in table.splitlines()[2:]]
    assert len(slips) == 11
    section = PAGE[PAGE.index("## Where the printed") : PAGE.index("## Numbers that")]
    parts = re.split(r"^### ", section, flags=re.M)[1:]
    assert len(parts) == len(slips)
    for part in parts:
        assert "Derivation: " in part
        assert any(name.endswith("_printed") for name in checks(part)), part


# A wrong sign or factor in what a block computes must not go unnoticed.
MISTAKES = {
    "the spin's mass": ("pulse(-2.0 * MHz, 5.5 * kHz)", "pulse(2.0 * MHz, 5.5 * kHz)"),
    "thermal noise": ("js.diffusion(p, dark)", "2 * js.diffusion(p, dark)"),
    "collection": ("efficiency=1.0, collection=1.0))", "efficiency=1.0, collection=0.5))"),
    "sidebands": ("(upper,), (lower,)", "(lower,), (upper,)"),
    "bandwidth": ("corrected**2", "corrected"),
    "full width": ("backaction = 2 * light", "backaction = 4 * light"),
    "half width": ("math.log(photons)", "math.log(photons) / 2"),
    "phase": ("pair_correlation(end))\nphase", "exchange_correlation(end))\nphase"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake):
    old, new = MISTAKES[mistake]
    held = [code for _, code in BLOCKS if old in code]
    assert held
    for code in held:
        assert wrong(code, run(code.replace(old, new)))


def test_digits():
    assert half_a_digit("41223") == 0.5
    assert half_a_digit("-0.479") == pytest.approx(0.5e-3)
    assert half_a_digit("4.122e4") == pytest.approx(5.0)
    said = checks("a = f(1)  # 1.5 kHz\nb, c = g()  # 5.55 kHz, 4.1e4 1/s, words\nd = 2  # of 3\n")
    assert said == {"a": "1.5", "b": "5.55", "c": "4.1e4"}
    assert wrong("a = 0  # 1.5\n", {"a": 1.56}) and not wrong("a = 0  # 1.5\n", {"a": 1.53})

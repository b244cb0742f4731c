"""docs/gallery.md shows every figure, and its numbers are those of docs/gallery.json."""

import importlib
import json
import pathlib
import re
import sys

import pytest

from jaxsde.lab.gallery.catalogue import ENTRIES

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
KEPT = json.loads((ROOT / "docs" / "gallery.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def gallery_page():
    sys.path.append(str(ROOT / "bench"))
    try:
        yield importlib.import_module("gallery_page")
    finally:
        sys.path.remove(str(ROOT / "bench"))


def section(key: str) -> tuple[str, str]:
    """Return the block of a figure, and the prose after it up to the next heading."""
    found = re.search(rf"<!-- {key} -->(.*?)<!-- /{key} -->(.*?)(?=\n## |\Z)", PAGE, re.DOTALL)
    assert found is not None, key
    return found[1], found[2]


def numbers_of(text: str) -> set[str]:
    """Return numbers of two digits or more, without those that name figures and equations."""
    text = re.sub(
        r"(Figs?\.|Eq\.|§) ?S?\d+[a-d]?(( and|,| to) S?\d*[a-d])*|S\.?\d+|C_\d+", " ", text
    )
    return {n for n in re.findall(r"\d+(?:\.\d+)?", text) if len(n) > 1}


def test_every_figure_is_shown_in_the_papers_order():
    shown = re.findall(r"<!-- (\w+) -->", PAGE)
    assert shown == list(ENTRIES) == list(KEPT)
    for key, entry in ENTRIES.items():
        assert KEPT[key]["title"] == entry.title
        image = ROOT / "docs" / "img" / f"gallery-{key}.png"
        assert 5_000 < image.stat().st_size < 150_000


def test_blocks_are_those_of_the_kept_numbers(gallery_page):
    assert gallery_page.page_with(PAGE, KEPT) == PAGE
    with pytest.raises(ValueError, match="wanted marks"):
        gallery_page.page_with(PAGE, {"9z": KEPT["2b"]})


@pytest.mark.parametrize("key", ENTRIES)
def test_numbers_in_the_prose_are_quoted_or_kept(key):
    made, prose = section(key)
    for word in ("Agrees", "Differs"):
        assert f"**{word}" in prose, word
    quotes = re.findall(r"“[^”]*”", prose)
    plain = re.sub(r"“[^”]*”|\]\([^)]*\)|`[^`]*`", " ", prose)
    assert numbers_of(plain) <= numbers_of(made), key
    assert quotes or key in ("1ab",)


def test_quotes_are_the_papers():
    """Of the words that are quoted, none may be made up: the page lists where each is from."""
    for key in ENTRIES:
        _, prose = section(key)
        for quote in re.findall(r"“[^”]*”([^“]*)", prose):
            assert re.match(r"[^.]*?(caption of Fig\. |main text\)|\(S\.\d)", quote), (key, quote)

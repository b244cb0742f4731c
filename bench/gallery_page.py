"""Put figures, captions and numbers of `jaxsde figures --dpi 100 --out DIR` into docs/gallery.md.

    python bench/gallery_page.py DIR

Copies DIR/NAME.png to docs/img/gallery-NAME.png and DIR/numbers.json to docs/gallery.json, and
writes what lies between the page's marks <!-- NAME --> and <!-- /NAME --> again.  Its prose is
written by hand; tests/test_gallery_page.py compares its numbers with docs/gallery.json.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"


def block(key: str, entry: dict[str, Any]) -> str:
    """Return what the page says of a figure by itself: picture, caption, table of numbers."""
    rows = [f"| {name} | {value} |" for name, value in entry["numbers"].items()]
    # A bar of a modulus would end the table's cell.
    table = "\n".join(row.replace("|⟨ab⟩|", "&#124;⟨ab⟩&#124;") for row in rows)
    return (
        f"<!-- {key} -->\n![{entry['title']}](img/gallery-{key}.png)\n\n"
        f"{entry['title']}. {entry['caption']}\n\n"
        f"| `numbers.json`, {key} | |\n| --- | --- |\n{table}\n"
        f"<!-- /{key} -->"
    )


def page_with(page: str, numbers: dict[str, Any]) -> str:
    """Return the page with the block of every figure written again.

    Raises ValueError for a figure that has no marks in the page.
    """
    for key, entry in numbers.items():
        mark = re.compile(rf"<!-- {key} -->.*?<!-- /{key} -->", re.DOTALL)
        if not mark.search(page):
            raise ValueError(f"docs/gallery.md: wanted marks <!-- {key} --> and <!-- /{key} -->")
        made = block(key, entry)
        page = mark.sub(lambda _, made=made: made, page)
    return page


def main() -> None:
    """Write the page again from the folder that is named."""
    folder = Path(sys.argv[1])
    numbers = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
    path = DOCS / "gallery.md"
    path.write_text(page_with(path.read_text(encoding="utf-8"), numbers), encoding="utf-8")
    shutil.copyfile(folder / "numbers.json", DOCS / "gallery.json")
    for key in numbers:
        shutil.copyfile(folder / f"{key}.png", DOCS / "img" / f"gallery-{key}.png")


if __name__ == "__main__":
    main()

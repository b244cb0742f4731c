"""Hook of the site: pages that are files at the root of the repository."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}


def on_page_markdown(markdown: str, *, page, **_) -> str:
    """Return the root's file in the place of a page that points to it, with its links to docs/."""
    name = PAGES.get(page.file.src_uri)
    if name is None:
        return markdown
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")

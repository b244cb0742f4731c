"""Result folders: written beside their place and renamed when complete, with checksums.

An interrupted run leaves what was there untouched.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA = 1
MANIFEST = "manifest.json"


class StoreError(ValueError):
    """Say in one line what is wrong with a result folder, and the remedy."""


def check_destination(out: Path, force: bool) -> None:
    """Raise StoreError unless a result may be written to out."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise StoreError(f"{out}: wanted a folder for the result, got a file; choose another --out")
    if not any(out.iterdir()):
        return
    if not force:
        raise StoreError(
            f"{out}: exists already; add --force to replace it, or choose another --out"
        )
    if not (out / MANIFEST).is_file():
        raise StoreError(
            f"{out}: wanted a result folder to replace, got one without {MANIFEST}; it is not "
            "touched: remove it yourself or choose another --out"
        )


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a place to write that becomes path when the block ends, and is gone after an error."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(out: Path, force: bool) -> Iterator[Path]:
    """Yield a folder to write into, which becomes out when the block ends without an error.

    Files of a replaced result that its manifest does not list (notes, calibrations) are kept.
    Raises StoreError if out may not be replaced or its place cannot be written.
    """
    check_destination(out, force)
    out = out.resolve()
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as error:
        raise StoreError(
            f"{out}: cannot be written: {error.strerror}; choose another --out"
        ) from None
    try:
        yield partial
        old = out.with_name(f".{out.name}.old-{os.getpid()}")
        if not out.exists():
            partial.rename(out)
            return
        _carry_over(out, partial)
        out.rename(old)
        try:
            partial.rename(out)
        except OSError:
            old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _carry_over(old: Path, new: Path) -> None:
    """Copy into new what old holds beside the files of its own manifest."""
    if not (old / MANIFEST).is_file():
        return
    try:
        own = set(json.loads((old / MANIFEST).read_text(encoding="utf-8"))["files"])
    except (ValueError, KeyError, TypeError):
        own = set()
    for path in sorted(old.rglob("*")):
        name = path.relative_to(old)
        if path.is_file() and str(name) not in own | {MANIFEST} and not (new / name).exists():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, new / name)


def write_manifest(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Write manifest.json: facts of the run, and size and SHA-256 of every file of the folder."""
    names = [str(p.relative_to(folder)) for p in sorted(folder.rglob("*")) if p.is_file()]
    files = digests(folder, names)
    manifest = {"schema": SCHEMA, **facts, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def digests(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of files of a folder, by name."""
    paths = {name: folder / name for name in names}
    return {n: {"bytes": p.stat().st_size, "sha256": _digest(p)} for n, p in paths.items()}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a result folder after checking every file that it lists.

    Raises StoreError for a folder that is none, or whose files are missing, cut short or changed.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder}: wanted a result folder of jaxsde run, got nothing there")
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        listed = manifest["files"]
        schema = manifest["schema"]
    except FileNotFoundError:
        raise StoreError(
            f"{folder}: wanted a complete result folder, got one without {MANIFEST}; run the "
            "experiment again"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{folder}/{MANIFEST}: cannot be read; run the experiment again") from None
    if schema != SCHEMA:
        raise StoreError(
            f"{folder}: wanted schema {SCHEMA}, got {schema}; it was written by another version"
        )
    for name, fact in listed.items():
        path = folder / name
        if not path.is_file():
            raise StoreError(f"{path}: missing, the result is truncated; run the experiment again")
        if path.stat().st_size != fact["bytes"] or _digest(path) != fact["sha256"]:
            raise StoreError(
                f"{path}: differs from what was written (its checksum fails); the result is "
                "truncated or changed: run the experiment again"
            )
    return manifest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

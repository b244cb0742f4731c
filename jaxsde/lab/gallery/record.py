"""Record: what a figure is drawn from, arrays and parameters, and how it is kept on disk.

A kept record is named after its dataset and holds the key it was made under: settings, version and
a digest of the sources that make it.  One that is torn, or of another key, is made again.
"""

import dataclasses
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Sequence as Series
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsde.engine.native import source_folder
from jaxsde.lab.folder import whole_file
from jaxsde.lab.gallery.settings import Settings, shots_of

PACKAGE = Path(__file__).resolve().parents[2]
# What makes the numbers of a record; drawings and captions are not among it.
SOURCES = ("physics", "engine", "analysis")
FACTS = "facts"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """Hold what a dataset consists of.

    arrays: by name, SI units.  facts: parameters, as JSON keeps them.
    """

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]

    def __getitem__(self, name: str) -> np.ndarray:
        """Return the array of that name."""
        return self.arrays[name]


def error_of(record: Record, name: str) -> np.ndarray:
    """Return statistical and systematic errors of an estimate added in squares."""
    return np.hypot(record[f"{name}_stat"], record[f"{name}_sys"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """Hold a record read from disk, or why there is none."""

    record: Record | None
    why: str


def record_key(settings: Settings, dataset: str, maker: str) -> dict[str, Any]:
    """Return what a record depends on: shots, seed, versions, and a digest of the sources.

    maker: name of the module of this package that makes it.
    """
    here = Path(__file__).parent
    files = [p for folder in SOURCES for p in sorted((PACKAGE / folder).glob("*.py"))]
    files += sorted(p for p in source_folder().iterdir() if p.suffix in (".h", ".cc", ".cu"))
    files += [PACKAGE / "lab" / f"{name}.py" for name in ("experiment", "spec", "pulse", "table")]
    files += [here / "settings.py", here / f"{maker}.py"]
    return dict(
        dataset=dataset,
        shots=shots_of(settings, dataset),
        seed=settings.seed,
        version=package_version(),
        jax=jax.__version__,
        sources=digest(files),
    )


def package_version() -> str:
    """Return the version that the package's root states; the floors do not import the root."""
    text = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise ValueError(f"{PACKAGE}/__init__.py: wanted a line __version__ = ..., got none")
    return found[1]


def digest(files: Series[Path]) -> str:
    """Return a SHA-256 over names and contents of files."""
    made = hashlib.sha256()
    for path in files:
        data = path.read_bytes()
        made.update(f"{path.name} {len(data)}\n".encode())
        made.update(data)
    return made.hexdigest()


def write_record(path: Path, record: Record, key: dict[str, Any]) -> None:
    """Write a record under its key, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dict(key=key, facts=record.facts))
    held = io.BytesIO()
    np.savez_compressed(held, allow_pickle=False, **record.arrays, **{FACTS: np.array(text)})
    with whole_file(path) as partial:
        partial.write_bytes(held.getvalue())


def read_record(path: Path, key: dict[str, Any]) -> Found:
    """Return the record kept at path if it is whole and was made under that key."""
    try:
        # From memory: a file that is torn would be left open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        kept = json.loads(str(arrays.pop(FACTS)))
        old, facts = kept["key"], kept["facts"]
    except FileNotFoundError:
        return Found(record=None, why="not kept yet")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return Found(record=None, why=f"{path.name} is torn")
    changed = [name for name in key if old.get(name) != key[name]]
    if changed:
        return Found(record=None, why=f"{path.name} has another {' and '.join(changed)}")
    return Found(record=Record(arrays=arrays, facts=facts), why="")

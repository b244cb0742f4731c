"""Resume: the manifest of a streamed run, and what must agree for a run to be continued."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxsde.lab.chunks import JOURNAL, ZARR, Store
from jaxsde.lab.folder import MANIFEST, SCHEMA, StoreError
from jaxsde.lab.lock import LOCK
from jaxsde.lab.spec import Experiment


def is_streamed(folder: Path) -> bool:
    """Tell whether a folder holds a streamed run, finished or not."""
    return streamed_manifest(folder) is not None


def streamed_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a streamed run, or None where a folder holds none."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "stream" in found else None


def new_manifest(store: Store, config: dict[str, Any], experiment: Experiment) -> dict[str, Any]:
    """Return what the manifest of a run says before its first block."""
    return dict(
        schema=SCHEMA,
        seed=experiment.seed,
        shots=experiment.shots,
        method=experiment.method,
        stream=dict(
            config_sha256=_digest(config),
            config=config,
            keep=config["keep"],
            block_shots=store.block_shots,
            parts={
                part.name: dict(shots=part.shots, blocks=-(-part.shots // store.block_shots))
                for part in store.parts
            },
            arrays={
                part: {name: [list(shape), dtype] for name, (shape, dtype) in arrays.items()}
                for part, arrays in store.shapes.items()
            },
            journal=JOURNAL,
            store=ZARR,
            complete=False,
        ),
        files={},
    )


def write_whole(path: Path, value: dict[str, Any]) -> None:
    """Write JSON as `write_text` does."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, finds the old one or the new one, never half.

    Raises StoreError if the disk is full.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(
            f"{path}: cannot be written: {error.strerror}; make room, and run the same command "
            "with --resume"
        ) from None


def _digest(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return a TOML document's values by their dotted names."""
    if isinstance(value, dict):
        items: Iterable[tuple[str, Any]] = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        items = ((str(v.get("name", i)), v) for i, v in enumerate(value))
    else:
        return {name: value}
    out: dict[str, Any] = {}
    for key, inner in items:
        out |= flat(inner, f"{name}.{key}" if name else key)
    return out


def check_same(
    folder: Path, begun: dict[str, Any], config: dict[str, Any], block_shots: int | None
) -> None:
    """Raise StoreError, with every difference, unless a run is resumed as it was begun."""
    was = begun["config"]
    if block_shots is not None and block_shots != begun["block_shots"]:
        was = was | {"--block-shots": begun["block_shots"]}
        config = config | {"--block-shots": block_shots}
    if _digest(was) == _digest(config):
        return
    differ = [
        f"{name} was {was.get(name, 'not given')!r}, now {config.get(name, 'not given')!r}"
        for name in sorted(was.keys() | config.keys())
        if was.get(name) != config.get(name)
    ]
    raise StoreError(
        f"{folder}: cannot be resumed, since its configuration differs: {'; '.join(differ)}; run "
        "it as it was begun, choose another --out, or add --force in place of --resume"
    )


def clear(folder: Path) -> None:
    """Remove a result, of either kind, from a folder; files that are not its own stay."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        listed = [str(name) for name in manifest["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise StoreError(
            f"{folder}: wanted a result folder to replace, got one without {MANIFEST}; it is not "
            "touched: remove it yourself or choose another --out"
        ) from None
    shutil.rmtree(folder / ZARR, ignore_errors=True)
    for name in (*listed, JOURNAL, "experiment.toml", MANIFEST):
        (folder / name).unlink(missing_ok=True)
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


def is_empty(folder: Path) -> bool:
    """Tell whether a folder holds nothing but what a run that was just begun leaves."""
    return all(path.name in (LOCK, f"{MANIFEST}.partial") for path in folder.iterdir())

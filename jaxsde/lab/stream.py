"""Stream: a run of any size, block by block, into a folder that can be resumed."""

import collections
import concurrent.futures
import dataclasses
import shutil
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxsde.analysis.cells import KEEPS
from jaxsde.analysis.sums import CELL
from jaxsde.engine.outputs import GROUP
from jaxsde.lab.blocks import (
    Outcome,
    array_shapes,
    bytes_per_shot,
    cells_at_once,
    local_mesh,
    make_block,
    signature,
)
from jaxsde.lab.chunks import (
    FAILED,
    Key,
    Store,
    create_arrays,
    mend_journal,
    missing,
    read_journal,
    save,
    sound,
)
from jaxsde.lab.config import dump_experiment
from jaxsde.lab.experiment import Progress
from jaxsde.lab.folder import MANIFEST, StoreError
from jaxsde.lab.jobs import environment
from jaxsde.lab.parts import Block, check_block_shots, open_experiment, production
from jaxsde.lab.resume import (
    check_same,
    flat,
    is_empty,
    new_manifest,
    streamed_manifest,
    write_text,
    write_whole,
)
from jaxsde.lab.spec import Experiment, ExperimentError

# Shots and bytes of a block unless asked for: a few seconds of work, a fraction of the memory.
BLOCK_SHOTS, BLOCK_BYTES = 32768, 2**27
# Blocks that may wait to be written while the next is made.
WAITING = 1


@runtime_checkable
class Workers(Protocol):
    """Make blocks, somewhere."""

    def signature(self, text: str, keep: str) -> dict[str, Any]:
        """Return what must agree for results to be equal to the last bit."""
        ...

    def make(
        self, text: str, blocks: Iterable[Block], keep: str, tell: Callable[[Block, int], None]
    ) -> Iterator[Outcome]:
        """Yield what became of the blocks, in any order; tell(block, shots done) at will."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThisProcess:
    """Make blocks on the devices of this process; None takes all of them."""

    devices: int | None = None

    def signature(self, text: str, keep: str) -> dict[str, Any]:
        """Return this process' signature."""
        return signature(text, keep)

    def make(
        self, text: str, blocks: Iterable[Block], keep: str, tell: Callable[[Block, int], None]
    ) -> Iterator[Outcome]:
        """Yield the outcome of one block after another."""
        for block in blocks:
            yield make_block(
                text,
                block,
                keep,
                devices=self.devices,
                on_shots=lambda shots, block=block: tell(block, shots),
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Streamed:
    """Hold what a streamed run left in its folder.

    entries: of the journal.  failed: those of blocks that failed.  made, kept: how many blocks
    were made by this call, and how many were there before.
    """

    store: Store
    text: str
    manifest: dict[str, Any]
    entries: dict[Key, dict[str, Any]]
    failed: tuple[dict[str, Any], ...]
    made: int
    kept: int


def stream(
    experiment: Experiment,
    folder: Path,
    keep: str,
    *,
    workers: Workers,
    block_shots: int | None,
    resume: bool,
    command: list[str],
    tell: Progress,
    cleared: bool = False,
) -> Streamed:
    """Make every block of a run that the folder, which must be locked, does not hold yet.

    What was there is checked against its checksums, and made again where it fails them.
    cleared: files that are left in the folder have been found to be no run's.
    Raises StoreError for a folder that holds something else, a configuration that differs from
    the one it was begun with, or a full disk.
    """
    text = dump_experiment(experiment)
    found = streamed_manifest(folder)
    config = flat(tomllib.loads(text)) | {"keep": keep} | workers.signature(text, keep)
    if found is not None:
        if not resume:
            raise StoreError(
                f"{folder}: holds a run already; add --resume to finish it, --force to start "
                "again, or choose another --out"
            )
        check_same(folder, found["stream"], config, block_shots)
        block_shots = int(found["stream"]["block_shots"])
    elif not (cleared or is_empty(folder)):
        raise StoreError(
            f"{folder}: holds something that is no run of --keep {keep}; choose another --out, or "
            "add --force if it is a result to replace"
        )
    elif block_shots is None:
        block_shots = _block_shots(text, keep)
    check_block_shots(block_shots, keep)
    _, parts = open_experiment(text)
    store = Store(
        folder=folder,
        parts=tuple(parts.values()),
        block_shots=block_shots,
        shapes={name: array_shapes(text, name, keep) for name in parts},
    )
    manifest = found or new_manifest(store, config, experiment)
    manifest["runs"] = [*manifest.get("runs", []), environment(command)]
    if found is None:
        check_room(store)
    # First of all: what is without it is nobody's.
    write_whole(folder / MANIFEST, manifest)
    write_text(folder / "experiment.toml", text)
    create_arrays(store, {"record": experiment.detector.unit})
    mend_journal(folder)
    entries = read_journal(folder)
    made = _complete(store, text, keep, workers, entries, tell)
    blocks = list(store.blocks())
    failed = tuple(
        entry for block in blocks if (entry := entries[block.part, block.number])["state"] == FAILED
    )
    return Streamed(
        store=store,
        text=text,
        manifest=manifest,
        entries=entries,
        failed=failed,
        made=made,
        kept=len(blocks) - made,
    )


def _complete(
    store: Store,
    text: str,
    keep: str,
    workers: Workers,
    entries: dict[Key, dict[str, Any]],
    tell: Progress,
) -> int:
    """Make what is missing, check what was there, make what fails; return how many were made."""
    before = dict(entries)
    todo = missing(store, entries)
    fresh = {(block.part, block.number) for block in todo}
    total = sum(part.shots for part in store.parts)
    _make_all(store, text, keep, workers, todo, entries, tell, total)
    old = [b for b in store.blocks() if (b.part, b.number) not in fresh]
    torn = []
    for i, block in enumerate(old):
        if not sound(store, block, before[block.part, block.number]):
            torn.append(block)
        tell("verify", i + 1, len(old))
    _make_all(store, text, keep, workers, torn, entries, tell, total)
    return len(todo) + len(torn)


def _make_all(
    store: Store,
    text: str,
    keep: str,
    workers: Workers,
    blocks: list[Block],
    entries: dict[Key, dict[str, Any]],
    tell: Progress,
    total: int,
) -> None:
    """Make blocks, and write each while the next is made."""
    done = total - sum(block.shots for block in blocks)
    under_way: dict[Key, int] = {}
    if blocks:
        tell("simulate", done, total)

    def told(block: Block, shots: int) -> None:
        under_way[block.part, block.number] = shots
        tell("simulate", done + sum(under_way.values()), total)

    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="writer") as writer:
        waiting: collections.deque[concurrent.futures.Future] = collections.deque()

        def settle(most: int) -> None:
            while len(waiting) > most:
                entry = waiting.popleft().result()
                entries[entry["part"], entry["block"]] = entry

        try:
            for outcome in workers.make(text, blocks, keep, told):
                settle(WAITING)
                waiting.append(writer.submit(save, store, outcome))
                under_way.pop((outcome.block.part, outcome.block.number), None)
                done += outcome.block.shots
                tell("simulate", done + sum(under_way.values()), total)
        finally:
            settle(0)


def _block_shots(text: str, keep: str) -> int:
    """Return how many shots a block has unless asked for: as many as memory allows, if few."""
    made = production(text, "main", keep)
    mesh = local_mesh(None)
    shots = max(BLOCK_SHOTS, cells_at_once(made, mesh) * mesh.size * CELL)
    if keep == "records":
        shots = min(shots, BLOCK_BYTES // bytes_per_shot(made))
    cells = max(1, shots // CELL)
    return max(CELL << (cells.bit_length() - 1), GROUP if keep == "moments" else CELL)


def check_room(store: Store) -> None:
    """Raise StoreError if the disk has less room than the blocks will take."""
    free, needed = shutil.disk_usage(store.folder).free, store.total_bytes()
    if needed > free:
        raise StoreError(
            f"{store.folder}: wanted {needed / 1e9:.3g} GB of disk, got {free / 1e9:.3g} GB free; "
            "keep less (--keep filters or estimates), take fewer shots, or choose another --out"
        )


def check_keep(keep: str) -> None:
    """Raise ExperimentError for a --keep that there is not."""
    if keep not in KEEPS:
        raise ExperimentError(f"--keep: wanted one of {', '.join(KEEPS)}, got {keep!r}")

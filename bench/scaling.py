"""What a streamed run costs: its rate against blocks, devices, workers and the disk.

    python bench/scaling.py [blocks] [devices] [workers] [overhead] [disk] [resume]

Every number is taken in a process of its own, after a short run that compiles.  The experiment is
the paper's Figs. 3-4 without its gain scan: 1,280 samples of I and Q, main ensemble and reference.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np

from jaxsde.analysis.cells import make_cells
from jaxsde.analysis.sums import CELL
from jaxsde.lab import stream as stream_module
from jaxsde.lab.blocks import Outcome, array_shapes, local_mesh, make_block
from jaxsde.lab.chunks import (
    Store,
    create_arrays,
    mend_journal,
    missing,
    read_journal,
    save,
)
from jaxsde.lab.cluster import connected
from jaxsde.lab.config import dump_experiment, load_experiment
from jaxsde.lab.parts import parts_of, production
from jaxsde.lab.setup import configure
from jaxsde.lab.stream import ThisProcess, stream

ROOT = pathlib.Path(__file__).parent.parent
ROUNDS = int(os.environ.get("JAXSDE_BENCH_ROUNDS", 3))
SHOTS = int(os.environ.get("JAXSDE_BENCH_SHOTS", 32768))
PLACE = os.environ.get("JAXSDE_BENCH_DISK")


class Timed:
    """Make blocks as others do, and add up how long that takes."""

    def __init__(self, workers: Any) -> None:
        self.workers, self.seconds, self.begun = workers, 0.0, 0.0
        self.signature = workers.signature

    def make(self, text, blocks, keep, tell):
        """Yield the outcomes of the workers."""
        if not self.begun:  # else a second look, at what was torn
            self.begun, self.cpu = time.perf_counter(), time.process_time()
        made = self.workers.make(text, blocks, keep, tell)
        while True:
            start = time.perf_counter()
            outcome = next(made, None)
            self.seconds += time.perf_counter() - start
            if outcome is None:
                return
            yield outcome


def paper(shots: int):
    """Return the experiment with this many shots and without its scan."""
    name = os.environ.get("JAXSDE_BENCH_EXPERIMENT", ROOT / "examples" / "kohler2018.toml")
    e = load_experiment(name)
    return dataclasses.replace(e, shots=shots, gain_scan=None)


def one(keep: str, shots: int, block_shots: int, devices: int, cluster: str | None) -> dict:
    """Return rate, and the share that is not computing, of a streamed run in this process."""
    if cluster is None:
        jax.config.update("jax_num_cpu_devices", devices)
    configure()
    writing = 0.0

    def timed_save(store, outcome):
        nonlocal writing
        start = time.perf_counter()
        line = save(store, outcome)
        writing += time.perf_counter() - start
        return line

    stream_module.save = timed_save
    with (
        tempfile.TemporaryDirectory(dir=PLACE) as scratch,
        connected(cluster, ThisProcess()) as workers,
    ):
        found = {}
        # A first run compiles in every worker.
        for name, count in (("warm", 4 * block_shots if cluster else 1024), ("timed", shots)):
            folder, timed, writing = pathlib.Path(scratch) / name, Timed(workers), 0.0
            folder.mkdir()
            start = time.perf_counter()
            made = stream(
                paper(count),
                folder,
                keep,
                workers=timed,
                block_shots=block_shots,
                resume=False,
                command=[],
                tell=lambda task, done, total: None,
            )
            seconds = time.perf_counter() - timed.begun
            found = dict(
                shots_per_s=2 * count / seconds,
                begun_after=timed.begun - start,
                seconds=seconds,
                cpu_seconds=time.process_time() - timed.cpu,
                making=timed.seconds,
                writing=writing,
                bytes_per_s=made.store.total_bytes() / seconds,
            )
        if cluster is None:
            bare_seconds, bare_cpu = bare(paper(shots), keep)
            found |= dict(
                overhead=found["seconds"] / bare_seconds - 1,
                cpu_overhead=found["cpu_seconds"] / bare_cpu - 1,
            )
    return found


def bare(experiment, keep: str) -> tuple[float, float]:
    """Return wall and CPU seconds of making and reducing the same shots, and nothing else."""
    text, mesh = dump_experiment(experiment), local_mesh(None)
    start, cpu = time.perf_counter(), time.process_time()
    for part in parts_of(experiment):
        made = production(text, part.name, keep)
        for first in range(0, part.shots, mesh.size * CELL):
            jax.block_until_ready(make_cells(made, first, part.shots, mesh=mesh, cells=1))
    return time.perf_counter() - start, time.process_time() - cpu


def child(*arguments: Any) -> dict:
    """Return what a process of its own finds."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def table(title: str, cases: dict[str, tuple], key: str = "shots_per_s") -> None:
    """Print the median and range of a number over ROUNDS rounds, in which cases alternate."""
    found: dict[str, list[dict]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, arguments in cases.items():
            found[name].append(child(*arguments))
    print(f"\n| {title} | {key} | range | writing, s | CPU s | bytes/s | overhead | of CPU time |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, runs in found.items():
        values = sorted(run[key] for run in runs)
        middle = {k: float(np.median([run[k] for run in runs])) for k in runs[0]}
        over = [f"{middle[k]:.1%}" if k in middle else "-" for k in ("overhead", "cpu_overhead")]
        print(
            f"| {name} | {middle[key]:,.0f} | {values[0]:,.0f} to {values[-1]:,.0f} "
            f"| {middle['writing']:.2f} | {middle['cpu_seconds']:.1f} "
            f"| {middle['bytes_per_s']:.3g} | {' | '.join(over)} |",
            flush=True,
        )


def disk() -> None:
    """Compare writing blocks of records, without computing, with writing one plain file."""
    configure()
    text, shapes = dump_experiment(paper(4096 * 4)), {}
    parts = parts_of(paper(4096 * 4))[:1]
    shapes["main"] = array_shapes(text, "main", "records")
    print("\n| written | bytes/s | range |\n| --- | --- | --- |")
    rates: dict[str, list[float]] = {"a plain file": [], "blocks of records": []}
    piece = np.random.default_rng(0).bytes(2**27)
    for _ in range(2 * ROUNDS):
        with tempfile.TemporaryDirectory(dir=PLACE) as scratch:
            folder = pathlib.Path(scratch)
            store = Store(folder=folder, parts=parts, block_shots=4096, shapes=shapes)
            create_arrays(store, {})
            outcomes = [make_block(text, block, "records") for block in store.blocks()]
            os.sync()
            start = time.perf_counter()
            for outcome in outcomes:
                save(store, outcome)
            os.sync()
            seconds = time.perf_counter() - start
            rates["blocks of records"].append(store.total_bytes() / seconds)
            start = time.perf_counter()
            with (folder / "plain").open("wb", buffering=0) as file:
                for _ in range(3):
                    file.write(piece)
            os.sync()
            rates["a plain file"].append(3 * len(piece) / (time.perf_counter() - start))
    for name, found in rates.items():
        print(f"| {name} | {np.median(found):.3g} | {min(found):.3g} to {max(found):.3g} |")


def resume() -> None:
    """Print how long a run of 10,000 blocks takes to find its place."""
    configure()
    experiment = paper(10_000 * 512)
    text = dump_experiment(experiment)
    shapes = {"main": array_shapes(text, "main", "estimates")}
    with tempfile.TemporaryDirectory(dir=PLACE) as scratch:
        parts = parts_of(experiment)[:1]
        store = Store(folder=pathlib.Path(scratch), parts=parts, block_shots=512, shapes=shapes)
        create_arrays(store, {})
        vector = np.zeros(shapes["main"]["sums"][0])
        for block in store.blocks():
            if block.number != 7777:
                save(store, Outcome(block=block, arrays={"sums": vector}))
        times = []
        for _ in range(2 * ROUNDS):
            start = time.perf_counter()
            mend_journal(store.folder)
            todo = missing(store, read_journal(store.folder))
            times.append(time.perf_counter() - start)
            assert [block.number for block in todo] == [7777]
    print(f"\n10,000 blocks: place found in {np.median(times):.3f} s ({max(times):.3f} at most)")


def main() -> None:
    """Run the questions that are asked for, all by default."""
    if sys.argv[1:2] == ["--one"]:
        keep, shots, block_shots, devices, cluster = sys.argv[2:]
        where = None if cluster == "here" else cluster
        print(json.dumps(one(keep, int(shots), int(block_shots), int(devices), where)))
        return
    cores = os.cpu_count() or 1
    asked = sys.argv[1:] or ["blocks", "devices", "workers", "overhead", "disk", "resume"]
    if "blocks" in asked:
        sizes = (512, 2048, 8192, 32768)
        cases = {str(n): ("estimates", SHOTS, n, cores, "here") for n in sizes}
        table("shots of a block", cases)
    if "devices" in asked:
        # Weak scaling: as many shots for each device.
        cases = {
            str(n): ("estimates", n * SHOTS // cores, 8192, n, "here")
            for n in (1, cores, 2 * cores)
        }
        table("devices", cases)
    if "workers" in asked:
        cases = {
            f"local:{n}": ("estimates", n * SHOTS // cores, 4096, 0, f"local:{n}")
            for n in (1, cores)
        }
        table("workers", cases)
    if "overhead" in asked:
        cases = {
            keep: (keep, SHOTS, 4096, cores, "here")
            for keep in ("estimates", "moments", "filters", "records")
        }
        table("kept", cases)
    if "disk" in asked:
        disk()
    if "resume" in asked:
        resume()


if __name__ == "__main__":
    main()

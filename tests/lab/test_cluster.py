"""Blocks on Dask: workers die, the run completes, and its bits are those of one process."""

import hashlib
import os
import pathlib
import signal

import pytest

import streams
from jaxsde.lab import cluster
from jaxsde.lab.chunks import ZARR, read_journal
from jaxsde.lab.cluster import Cluster, connected
from jaxsde.lab.folder import StoreError
from jaxsde.lab.lock import locked
from jaxsde.lab.stream import ThisProcess, stream

ROOT = pathlib.Path(__file__).parents[2]


def run(folder, workers):
    folder.mkdir(exist_ok=True)
    with locked(folder):
        return stream(
            streams.experiment(shots=60000),
            folder,
            "filters",
            workers=workers,
            block_shots=2048,
            resume=True,
            command=["test"],
            tell=lambda task, done, total: None,
        )


def content(folder):
    files = [p for p in (folder / ZARR).rglob("*") if p.is_file()]
    found = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).digest() for p in files}
    return found, read_journal(folder)


class Killing:
    """Kill a worker, once, when the first block is done."""

    def __init__(self, workers):
        self.workers, self.signature = workers, workers.signature

    def make(self, text, blocks, keep, tell):
        for number, outcome in enumerate(self.workers.make(text, blocks, keep, tell)):
            if number == 0:
                busy = [w for w, tasks in self.workers.client.processing().items() if tasks]
                pids = self.workers.client.run(os.getpid, workers=busy[:1])
                os.kill(next(iter(pids.values())), signal.SIGKILL)
            yield outcome


def forgive_nothing(dask_scheduler=None):
    assert dask_scheduler is not None
    dask_scheduler.allowed_failures = 0


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_killed_worker_costs_no_bit(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    run(tmp_path / "alone", ThisProcess())
    with connected("local:2", ThisProcess()) as workers:
        assert isinstance(workers, Cluster)
        made = run(tmp_path / "killed", Killing(workers))
        assert made.made == 30 and not made.failed
        assert content(tmp_path / "killed") == content(tmp_path / "alone")
        # Where no loss is forgiven, the blocks that were lost fail alone, and are made again.
        workers.client.run_on_scheduler(forgive_nothing)
        made = run(tmp_path / "lost", Killing(workers))
        assert made.failed and all("lost" in entry["why"] for entry in made.failed)
    lost = len(made.failed)
    made = run(tmp_path / "lost", ThisProcess())
    assert (made.made, made.kept) == (lost, 30 - lost)
    assert content(tmp_path / "lost") == content(tmp_path / "alone")


def test_without_an_address_blocks_are_made_here():
    here = ThisProcess()
    with connected(None, here) as workers:
        assert workers is here


@pytest.mark.parametrize("address", ["local:0", "local:many", "tcp://127.0.0.1:1", "nonsense"])
@pytest.mark.filterwarnings("default")
def test_addresses_that_lead_nowhere_are_told(address, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    with pytest.raises(StoreError, match="--cluster: wanted"), connected(address, ThisProcess()):
        pass


def test_what_to_install_is_told(monkeypatch):
    monkeypatch.setattr(cluster, "distributed", None)
    with (
        pytest.raises(StoreError, match=r"pip install 'jaxsde\[cluster\]'"),
        connected("local:2", ThisProcess()),
    ):
        pass

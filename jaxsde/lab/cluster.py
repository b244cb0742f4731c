"""Cluster: blocks as tasks of dask.distributed, which places them, retries them and heals itself.

Workers are spawned, never forked: a forked process would inherit JAX's threads without their locks.
The driver alone writes, so that workers need no common disk and one lock guards the folder.
"""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxsde.lab.blocks import Outcome, cores, make_block, signature
from jaxsde.lab.folder import StoreError
from jaxsde.lab.parts import Block
from jaxsde.lab.setup import configure
from jaxsde.lab.stream import Workers

try:
    import distributed
    from dask import config
except ImportError:
    config = distributed = None

# Blocks given to each worker at a time: one to make, one to follow it at once.
AHEAD = 2
# Times a block may be given again: after an error, and after the loss of its worker.
RETRIES, LOSSES = 2, 5
# Until the first worker has answered, s.
PATIENCE = 600
# Set for every worker before JAX starts there.
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.85"}


def _ready(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function in a worker, with JAX set up as the command line sets it up."""
    configure()
    return function(*args, **kwargs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """Make blocks on the workers that a dask.distributed client knows."""

    client: Any

    def signature(self, text: str, keep: str) -> dict[str, Any]:
        """Return the signature of one worker; each block is refused by others."""
        try:
            self.client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise StoreError(
                f"--cluster: wanted a worker within {PATIENCE} s, got none; start workers, or "
                "look at the queue"
            ) from None
        return self.client.submit(_ready, signature, text, keep, pure=False).result()

    def make(
        self, text: str, blocks: Iterable[Block], keep: str, tell: Callable[[Block, int], None]
    ) -> Iterator[Outcome]:
        """Yield outcomes as they come; a block whose workers all died, or that fails, says why."""
        assert distributed is not None
        expected, waiting = self.signature(text, keep), iter(blocks)
        running = distributed.as_completed()
        given: dict[str, Block] = {}

        def give(count: int) -> None:
            for block in (b for _, b in zip(range(count), waiting, strict=False)):
                future = self.client.submit(
                    _ready,
                    make_block,
                    text,
                    block,
                    keep,
                    expected=expected,
                    pure=False,
                    retries=RETRIES,
                )
                given[future.key] = block
                running.add(future)

        give(AHEAD * max(1, len(self.client.scheduler_info()["workers"])))
        for future in running:
            block = given.pop(future.key)
            # As many as there are workers now: some come late, some are lost.
            room = AHEAD * max(1, len(self.client.scheduler_info()["workers"])) - len(given)
            try:
                outcome = future.result()
            except distributed.KilledWorker as error:
                why = f"lost {LOSSES + 1} workers, the last {error.last_worker}"
                outcome = Outcome(block=block, arrays={}, why=why)
            future.release()
            give(max(room, 0))
            yield outcome


@contextlib.contextmanager
def connected(address: str | None, here: Workers) -> Iterator[Workers]:
    """Yield the workers at an address, "local:N" for N processes of this machine, or `here`.

    Raises StoreError without dask.distributed, or for an address at which nobody answers.
    """
    if address is None:
        yield here
        return
    if distributed is None or config is None:
        raise StoreError(
            "--cluster: wanted dask.distributed, which is not installed; "
            "pip install 'jaxsde[cluster]'"
        )
    with config.set(
        {
            "distributed.worker.multiprocessing-method": "spawn",
            "distributed.scheduler.allowed-failures": LOSSES,
            "distributed.admin.log-format": "%(message)s",
        }
    ):
        logging.getLogger("distributed").setLevel(logging.ERROR)
        if address.startswith("local:"):
            with _local(address) as cluster, distributed.Client(cluster) as client:
                yield Cluster(client=client)
            return
        try:
            client = distributed.Client(address, timeout=min(30, PATIENCE))
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(
                f"--cluster: wanted the address of a Dask scheduler, such as tcp://node1:8786, or "
                f"local:4, got {address!r} ({str(error).splitlines()[0]})"
            ) from None
        with client:
            yield Cluster(client=client)


def _local(address: str):
    """Return N spawned workers of this machine, which share its cores and have a GPU each."""
    assert distributed is not None
    try:
        count = int(address.partition(":")[2])
    except ValueError:
        count = 0
    if count < 1:
        raise StoreError(
            f"--cluster: wanted local:N with N workers, such as local:4, got {address!r}"
        )
    share = str(max(1, cores() // count))
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    cards = given if given != [""] else [str(number) for number in range(count)]
    workers = {
        number: dict(
            cls=distributed.Nanny,
            options=dict(
                nthreads=1,
                memory_limit=0,
                silence_logs=logging.ERROR,
                env=ENVIRONMENT
                | {"NPROC": share, "CUDA_VISIBLE_DEVICES": cards[number % len(cards)]},
            ),
        )
        for number in range(count)
    }
    scheduler = dict(cls=distributed.Scheduler, options=dict(dashboard=False, port=0))
    return distributed.SpecCluster(workers=workers, scheduler=scheduler)

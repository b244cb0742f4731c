"""Options: those of the command line for calibrations, ensembles of any size, many machines."""

from pathlib import Path
from typing import Annotated

import jax
import typer
from rich.console import Console

from jaxsde.analysis.cells import KEEPS
from jaxsde.lab.console import print_rows, progress_bar
from jaxsde.lab.large import Options, configure_devices, run_large
from jaxsde.lab.setup import configure
from jaxsde.lab.spec import Experiment, ExperimentError
from jaxsde.lab.stream import check_keep

Keep = Annotated[
    str | None,
    typer.Option(
        help=f"Make shots in blocks, any number of them, and keep of each: {', '.join(KEEPS)}. "
        "Without it all shots stay in memory."
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="With --keep: finish a run that was interrupted, or begin it."),
]
BlockShots = Annotated[
    int | None,
    typer.Option(help="With --keep: shots of a block, 512 times a power of two; no result changes"),
]
Devices = Annotated[
    int | None,
    typer.Option(help="With --keep: devices of this machine to use, all (of a CPU: cores) if not."),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        help="With --keep: make blocks on a Dask cluster: tcp://HOST:8786, or local:4 for four "
        "processes here."
    ),
]

Records = Annotated[
    Path,
    typer.Argument(help="Result folder of jaxsde run, HDF5 file, or folder with such files."),
]
Follows = Annotated[
    Path | None,
    typer.Option(help="Experiment file (TOML) that HDF5 records follow, if not their own."),
]
Objective = Annotated[
    str,
    typer.Option(
        help="likelihood (exact, of whole records), moments (exact expectations of matched "
        "filters), pathwise (simulated shots) or all."
    ),
]
Off = Annotated[
    float | None,
    typer.Option(
        help="Start this far from the experiment's values, up and down in turn: 0.3, 30 %, by "
        "default for a result of jaxsde run, whose values are the truth; 0 for other records."
    ),
]
Distributed = Annotated[
    str | None,
    typer.Option(
        help="Share the likelihood's shots with other processes, which run the same command: auto "
        "under Slurm or Open MPI, else HOST:PORT,PROCESSES,NUMBER."
    ),
]


def join_processes(where: str | None) -> tuple[list | None, bool]:
    """Join the processes of a calibration; return all their devices, and whether this one writes.

    Must come before JAX is first used.  Raises ExperimentError for a place that cannot be read.
    """
    if where is None:
        return None, True
    if where == "auto":
        jax.distributed.initialize()
        return jax.devices(), jax.process_index() == 0
    try:
        address, processes, number = where.split(",")
        count, own = int(processes), int(number)
    except ValueError:
        count, own, address = 0, 0, ""
    if not 0 <= own < count or ":" not in address:
        raise ExperimentError(
            "--distributed: wanted auto, or HOST:PORT,PROCESSES,NUMBER such as "
            f"node1:8476,2,0 with a NUMBER below PROCESSES, got {where!r}"
        )
    jax.distributed.initialize(address, count, own)
    return jax.devices(), own == 0


def streaming_options(
    keep: str | None,
    resume: bool,
    force: bool,
    block_shots: int | None,
    devices: int | None,
    cluster: str | None,
) -> Options | None:
    """Return the options of a streamed run, or None for one that stays in memory.

    Raises ExperimentError for options that need --keep without it.
    """
    given = dict(resume=resume or None, block_shots=block_shots, devices=devices, cluster=cluster)
    if keep is None:
        for name, value in given.items():
            if value is not None:
                option = "--" + name.replace("_", "-")
                raise ExperimentError(
                    f"{option}: wanted --keep with it, which makes shots in blocks; add --keep "
                    "estimates (or moments, filters, records)"
                )
        return None
    return Options(
        keep=keep,
        resume=resume,
        force=force,
        block_shots=block_shots,
        devices=devices,
        cluster=cluster,
    )


def stream_command(experiment: Experiment, out: Path, options: Options, command: list[str]) -> None:
    """Run a streamed job and print its table; exit status 1 if blocks failed."""
    console = Console()
    check_keep(options.keep)
    configure_devices(experiment, options)
    configure()
    with progress_bar(console) as tell:
        made = run_large(experiment, out, options, command, tell)
    streamed = made.streamed

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    if made.rows:
        title = f"{experiment.title}: {experiment.shots:,} shots, seed {experiment.seed}"
        print_rows(console, made.rows, title)
    if streamed.kept:
        say(f"{streamed.kept:,} blocks were there, {streamed.made:,} were made")
    for entry in streamed.failed[:10]:
        first, end = entry["shots"]
        say(f"FAILED: {entry['part']}, shots {first} to {end - 1}: {entry['why']}")
    if streamed.failed:
        say(
            f"{len(streamed.failed)} blocks failed; the others are kept, and the table is made of "
            "them alone: with shots missing that were not chosen at random it may be biased"
            if made.rows
            else f"{len(streamed.failed)} blocks failed, and no table can be made without them"
        )
        say("run the same command with --resume to try them again")
    say(f"written to {out}" + (f"; open {out / 'report.html'}" if made.rows else ""))
    if not made.complete:
        raise typer.Exit(1)

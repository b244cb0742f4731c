"""Command line: run, calibrate, figures, verify, info; analyse and export from record_commands."""

import dataclasses
import functools
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from jaxsde.engine.backends import kernel_here
from jaxsde.engine.resolution import METHODS
from jaxsde.lab.config import ExperimentError, load_experiment
from jaxsde.lab.console import (
    print_calibrations,
    print_comparisons,
    print_info,
    print_note,
    print_rows,
    progress_bar,
)
from jaxsde.lab.datasets import calibration_folder, load_for_calibration
from jaxsde.lab.experiment import run_experiment
from jaxsde.lab.figure_command import register as register_figures
from jaxsde.lab.figures import calibration_figure, draw_figures, save_figure
from jaxsde.lab.folder import (
    check_destination,
    new_folder,
    write_manifest,
)
from jaxsde.lab.guards import check_memory
from jaxsde.lab.jobs import (
    DEFAULT_EXPERIMENT,
    calibrate_result,
    calibration_record,
    environment,
    standard_experiment,
    write_json,
)
from jaxsde.lab.options import (
    BlockShots,
    Cluster,
    Devices,
    Distributed,
    Follows,
    Keep,
    Objective,
    Off,
    Records,
    Resume,
    join_processes,
    stream_command,
    streaming_options,
)
from jaxsde.lab.overrides import check_seed, override
from jaxsde.lab.record_commands import register
from jaxsde.lab.report import write_report
from jaxsde.lab.setup import configure
from jaxsde.lab.store import write_results
from jaxsde.lab.table import table_rows
from jaxsde.lab.verification import RECEIVERS, verification_record, verify_experiment
from jaxsde.lab.verification_figure import verification_figure

LIMIT = 5.0
# Below this, sample means of products are not normal enough for a limit of 5.
VERIFY_SHOTS = 500

app = typer.Typer(
    name="jaxsde",
    help="Simulate and calibrate spin-motion-cavity experiments.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Shots = Annotated[int | None, typer.Option(help="Number of shots, instead of the file's.")]
Seed = Annotated[int | None, typer.Option(help="Seed, instead of the file's.")]
Method = Annotated[
    str | None, typer.Option(help=f"Instead of the file's method: {', '.join(METHODS)}.")
]
Substeps = Annotated[
    int | None, typer.Option(help="Euler steps in each sample, instead of the file's.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a result that exists.")]


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="Experiment file (TOML).")],
    shots: Annotated[
        int | None,
        typer.Option(
            help="Number of shots, instead of the file's; a gain scan keeps its own, "
            "or takes this if it is smaller."
        ),
    ] = None,
    seed: Seed = None,
    method: Method = None,
    substeps: Substeps = None,
    out: Annotated[
        Path | None, typer.Option(help="Result folder; results/NAME by default.")
    ] = None,
    force: Force = False,
    keep: Keep = None,
    resume: Resume = False,
    block_shots: BlockShots = None,
    devices: Devices = None,
    cluster: Cluster = None,
) -> None:
    """Simulate an experiment, analyse its records and write a result folder.

    Example: `jaxsde run examples/kohler2018.toml --shots 1000 --out results/first`

    Example: `jaxsde run examples/kohler2018.toml --shots 10000000 --keep estimates --resume`
    """
    console = Console()
    chosen = override(load_experiment(experiment), str(experiment), shots, seed, method, substeps)
    out = Path("results") / experiment.stem if out is None else out
    if large := streaming_options(keep, resume, force, block_shots, devices, cluster):
        return stream_command(chosen, out, large, ["jaxsde", *sys.argv[1:]])
    check_destination(out, force)
    configure()
    with new_folder(out, force) as folder:
        with progress_bar(console) as tell:
            results = run_experiment(chosen, tell)
            rows = table_rows(results)
            write_results(folder, results, rows)
            tell("write", 1, 3)
            figures = draw_figures(results, folder / "figures")
            tell("write", 2, 3)
            facts = environment(["jaxsde", *sys.argv[1:]]) | dict(
                seed=chosen.seed,
                shots=chosen.shots,
                method=chosen.method,
                engine=results.main.shots.backend,
                engine_note=results.main.shots.note,
                resolution=dataclasses.asdict(results.main.shots.resolution),
            )
            write_report(results, rows, facts, figures, folder / "report.html")
            write_manifest(folder, facts)
            tell("write", 3, 3)
    print_rows(console, rows, f"{chosen.title}: {chosen.shots} shots, seed {chosen.seed}")
    print_note(console, results.main.shots.backend, results.main.shots.note)
    console.print(
        f"written to {out}; open {out / 'report.html'}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


@app.command()
def calibrate(
    records: Records,
    experiment: Follows = None,
    free: Annotated[
        str, typer.Option(help="Parameters to estimate, separated by commas.")
    ] = "g_m,g_s,B_s",
    objective: Objective = "likelihood",
    off: Off = None,
    simulated: Annotated[
        int | None,
        typer.Option(help="Shots simulated for pathwise; ten per measured shot by default."),
    ] = None,
    windows: Annotated[int, typer.Option(help="Parts that the ringdown is cut into.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the simulated shots.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="Outcome; RESULT/calibration or results/NAME-calibration unless given."),
    ] = None,
    force: Force = False,
    distributed: Distributed = None,
) -> None:
    """Estimate couplings from records, simulated or a laboratory's, by gradient descent.

    Example: `jaxsde calibrate results/kohler2018 --free g_m,g_s,B_s`
    """
    console = Console()
    out = calibration_folder(records) if out is None else out
    check_destination(out, force)
    check_seed(seed)
    configure()
    devices, writes = join_processes(distributed)
    loaded, losses = load_for_calibration(records, experiment)
    calibrated = functools.partial(
        calibrate_result,
        loaded,
        free=[name.strip() for name in free.split(",") if name.strip()],
        objective=objective,
        off=off if off is not None else 0.3 if losses is None else 0.0,
        n_simulated=simulated,
        windows=windows,
        seed=seed,
        devices=devices,
    )
    if not writes:
        calibrated(tell=lambda task, done, total: None)
        return
    with new_folder(out, force) as folder:
        with progress_bar(console) as tell:
            calibrations, values = calibrated(tell=tell)
        truth = values if losses is None else {}
        write_json(folder / "calibration.json", calibration_record(calibrations, truth))
        figure = calibration_figure(calibrations, truth)
        save_figure(figure, folder / "calibration")
        write_manifest(folder, environment(["jaxsde", *sys.argv[1:]]))
    print_calibrations(console, calibrations, truth)
    for line in losses.lines(False) if losses is not None else ():
        console.print(f"records: {line}", highlight=False, soft_wrap=True, markup=False)
    console.print(f"written to {out}", highlight=False, soft_wrap=True, markup=False)
    if not all(c.converged for c in calibrations):
        raise typer.Exit(1)


@app.command()
def verify(
    experiment: Annotated[
        Path | None,
        typer.Argument(help="Experiment file; the paper's Figs. 3-4 by default."),
    ] = None,
    shots: Annotated[int, typer.Option(help="Number of shots.")] = 20000,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    method: Method = None,
    substeps: Substeps = None,
    receivers: Annotated[
        str, typer.Option(help="all kinds of receiver, or that of the file alone: all, file.")
    ] = "all",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for table and plot; results/verification by default."),
    ] = None,
) -> None:
    """Compare simulated shots with exact theory: moments, spectra, filter outputs, as z-scores.

    Run it once on every new machine. Exit status 1 if any number is farther than 5 standard
    errors from theory, or not finite.

    Example: `jaxsde verify examples/fig2.toml --shots 50000`
    """
    console = Console()
    if receivers not in RECEIVERS:
        raise ExperimentError(f"--receivers: wanted {' or '.join(RECEIVERS)}, got {receivers!r}")
    base = standard_experiment() if experiment is None else load_experiment(experiment)
    name = DEFAULT_EXPERIMENT if experiment is None else str(experiment)
    chosen = override(base, name, shots, seed, method, substeps)
    if chosen.shots < VERIFY_SHOTS:
        raise ExperimentError(
            f"--shots: wanted at least {VERIFY_SHOTS}, for means to be normal, got {chosen.shots}"
        )
    check_memory(chosen)
    configure()
    with progress_bar(console) as tell:
        outcome = verify_experiment(chosen, receivers, tell)
    groups = outcome.groups
    print_comparisons(console, outcome.receivers, LIMIT)
    print_note(console, outcome.backend, outcome.note)
    if chosen.detector.technical is not None:
        console.print("verified without the technical layer of the file, which has no exact theory")
    out = Path("results/verification") if out is None else out
    figure = verification_figure(outcome, chosen.analysis.ringdown, LIMIT)
    save_figure(figure, out / "verification")
    write_json(out / "verification.json", verification_record(outcome, LIMIT))
    console.print(f"written to {out}", highlight=False, soft_wrap=True, markup=False)
    beyond = sum(group.beyond(LIMIT) for group in groups)
    what = f"{name}, {chosen.method}, {chosen.shots} shots, seed {chosen.seed}, {outcome.backend}"
    if beyond:
        console.print(f"FAILED: {beyond} numbers beyond {LIMIT:g} standard errors ({what})")
        raise typer.Exit(1)
    console.print(f"passed: all numbers within {LIMIT:g} standard errors ({what})")


@app.command()
def info() -> None:
    """Show versions, devices, backend, precision, and the native kernel: built now if need be.

    Example: `jaxsde info`
    """
    configure()
    print_info(Console(), environment(), kernel_here())


register_figures(app, configure)
register(app, configure)


def main() -> None:
    """Run the command line; a user's error is one line and exit status 2.

    With JAXSDE_DEBUG set in the environment an error shows where it came from.
    """
    try:
        app()
    except (ValueError, OSError, RuntimeError, MemoryError, ArithmeticError) as error:
        if os.environ.get("JAXSDE_DEBUG"):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        print(f"jaxsde: error: {lines[0]}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == 130:  # Ctrl-C, which Typer turns into this
            said = "nothing was replaced, and blocks of --keep are kept for --resume"
            print(f"jaxsde: interrupted; {said}", file=sys.stderr)
        raise

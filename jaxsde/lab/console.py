"""Console: tables and the progress bar of the command line."""

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from jaxsde.analysis.verify import Comparison, all_z, rms
from jaxsde.engine.native import Build
from jaxsde.inference.calibrate import Calibration
from jaxsde.lab.table import Row, format_error, format_number


class Rate(ProgressColumn):
    """Show a task's rate in its own unit."""

    def render(self, task: Task) -> Text:
        """Return the rate, or nothing before it is known."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.4g} {task.fields['unit']}/s")


@contextlib.contextmanager
def progress_bar(console: Console) -> Iterator:
    """Yield tell(task, done, total), which draws a bar with rate and time left for each task."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=not console.is_terminal,
    )
    tasks: dict[str, TaskID] = {}

    def tell(task: str, done: int, total: int) -> None:
        if task not in tasks:
            unit = "shots" if task.startswith("simulate") else "steps"
            tasks[task] = bar.add_task(task, total=total, unit=unit, completed=done)
        bar.update(tasks[task], completed=done, total=total)

    with bar:
        yield tell


def print_rows(console: Console, rows: list[Row], title: str) -> None:
    """Print estimate +- error beside exact theory."""
    table = Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("quantity", "estimate", "± error", "theory", "unit", "z"):
        table.add_column(name, justify="left" if name in ("quantity", "unit") else "right")
    for row in rows:
        table.add_row(
            escape(row.label),
            format_number(row.value, row.error),
            format_error(row.error),
            format_number(row.theory),
            row.unit,
            "-" if row.z is None else f"{row.z:+.1f}",
        )
    console.print(table)
    for row in rows:
        console.print(f"  {row.label}: {row.note}", style="dim", highlight=False, markup=False)


# Units of what is no rate, and so has no 2 pi.
UNITS = {
    "nbar": "photons",
    "efficiency": "",
    "collection": "",
    "S_SN": "W²/Hz",
    "angle": "rad",
}


def format_parameter(name: str, value: float) -> tuple[str, str]:
    """Return (number, unit) of a parameter as people read it: kHz/2pi, 1/s or a plain number."""
    field = name.partition("[")[0].rpartition(".")[2]
    if field == "B_s":
        return format_number(value), "quanta/s"
    if field in ("n_bath", "n_m0", "n_s0"):
        return format_number(value), "quanta"
    if field in UNITS:
        return format_number(value), UNITS[field]
    return f"{value / (2 * np.pi * 1e3):.4g}", "2π kHz"


HOW = {"likelihood": "of whole records", "moments": "exact expectations"}


def print_calibrations(
    console: Console, calibrations: list[Calibration], truth: dict[str, float]
) -> None:
    """Print estimate +- standard error, the truth where it is known, and the correlations."""
    for c in calibrations:
        how = HOW.get(c.objective, f"{c.n_simulated} simulated shots")
        state = "converged" if c.converged else "NOT CONVERGED"
        table = Table(
            title=f"{c.objective} ({how}): {state}, {len(c.loss) - 1} steps, "
            f"misfit {c.misfit:.0f} of {c.misfit_dof}",
            box=box.SIMPLE_HEAD,
            title_justify="left",
        )
        for name in ("free", "start", "estimate", "± error", "of it MC", "truth", "z"):
            table.add_column(name, justify="left" if name == "free" else "right")
        table.add_column("unit")
        for i, name in enumerate(c.free):
            unit = format_parameter(name, 1.0)[1]
            factor = 2 * np.pi * 1e3 if unit == "2π kHz" else 1.0
            value, error = c.values[i] / factor, c.stderr[i] / factor
            known = truth.get(name)
            table.add_row(
                name,
                format_number(c.start[i] / factor),
                format_number(value, error),
                format_error(error),
                format_error(c.mc_error[i] / factor) if c.n_simulated else "-",
                "-" if known is None else format_number(known / factor),
                "-" if known is None else f"{(c.values[i] - known) / c.stderr[i]:+.1f}",
                unit,
            )
        console.print(table)
        matrix = Table(title="correlation", box=box.SIMPLE_HEAD, title_justify="left")
        for name in ("", *c.free):
            matrix.add_column(name, justify="right")
        for i, name in enumerate(c.free):
            matrix.add_row(name, *(f"{value:+.2f}" for value in c.correlation[i]))
        console.print(matrix)


def print_comparisons(
    console: Console, receivers: Mapping[str, list[Comparison]], limit: float
) -> None:
    """Print the z-scores of a verification, group by group, under each receiver's name."""
    table = Table(title="Monte Carlo against exact theory", box=box.SIMPLE, title_justify="left")
    for name in ("group", "numbers", "rms z", f"> {limit:g}", "worst z", "of"):
        side = "left" if name in ("group", "of") else "right"
        table.add_column(name, justify=side, no_wrap=True, min_width=7 if side == "right" else None)
    for receiver, groups in receivers.items():
        table.add_section()
        table.add_row(f"[bold]{receiver}[/bold]")
        for group in groups:
            name, z = group.worst
            table.add_row(
                f"  {group.group}",
                str(len(group.z)),
                f"{rms(group.z):.2f}",
                str(group.beyond(limit)),
                f"{z:+.2f}",
                name,
            )
    every = [group for groups in receivers.values() for group in groups]
    z = all_z(every)
    table.add_section()
    table.add_row("all", str(len(z)), f"{rms(z):.2f}", str(sum(g.beyond(limit) for g in every)))
    console.print(table)


def print_note(console: Console, backend: str, note: str) -> None:
    """Say why that backend ran, or what to know of it, if there is anything to say."""
    if note:
        console.print(f"engine {backend}: {note}", highlight=False, soft_wrap=True, markup=False)


def print_info(console: Console, facts: dict, build: Build) -> None:
    """Print versions, devices, backend, precision, and the kernel that was built."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    for name, version in facts["versions"].items():
        table.add_row(name, version)
    table.add_row("python", facts["python"])
    table.add_row("platform", facts["platform"])
    table.add_row("JAX backend", facts["backend"])
    table.add_row("devices", "\n".join(facts["devices"]))
    table.add_row("x64", "on (the command line switches it on)" if facts["x64"] else "off")
    table.add_row("engine", "fused (native kernel)" if build.ready else "scan (plain JAX)")
    if build.ready:
        table.add_row("compiler", f"{build.compiler} {' '.join(build.flags)}")
        table.add_row("kernel", f"{build.library} ({'found' if build.cached else 'built now'})")
    if build.message:
        table.add_row("why" if not build.ready else "note", build.message)
    console.print(table)

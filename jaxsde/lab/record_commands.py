"""Commands for records: analyse and export."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from jaxsde.lab import units
from jaxsde.lab.calibrations import calibrate_stage
from jaxsde.lab.chain import Chain, analyse_chain, chain_rows
from jaxsde.lab.console import print_rows, progress_bar
from jaxsde.lab.diffusion_figure import diffusion_figure
from jaxsde.lab.export import export_result
from jaxsde.lab.figures import draw_figures
from jaxsde.lab.folder import StoreError, check_destination, new_folder, write_manifest
from jaxsde.lab.jobs import environment, write_json
from jaxsde.lab.matching import experiment_of
from jaxsde.lab.recordings import Losses, RecordError
from jaxsde.lab.records import Source, has_group, open_records
from jaxsde.lab.spec import Experiment
from jaxsde.lab.spectrum import Spectrum, analyse_spectrum, spectrum_rows
from jaxsde.lab.spectrum_figure import spectrum_figure
from jaxsde.lab.store import estimates, finite
from jaxsde.lab.style import save_figure
from jaxsde.lab.table import Row


def register(app: typer.Typer, configure: Callable[[], None]) -> None:
    """Add the commands to an app; configure is called before anything is computed."""

    @app.command()
    def analyse(
        path: Annotated[
            Path,
            typer.Argument(help="Result folder, HDF5 file, or folder with an HDF5 file per shot."),
        ],
        experiment: Annotated[
            Path | None,
            typer.Option(help="Experiment file (TOML) that the records follow, if not their own."),
        ] = None,
        reference: Annotated[
            Path | None, typer.Option(help="Records of the same sequence without coupling.")
        ] = None,
        empty: Annotated[
            Path | None,
            typer.Option(help="Records of an empty cavity; their noise is what is subtracted."),
        ] = None,
        skip_bad: Annotated[
            bool, typer.Option("--skip-bad", help="Leave out files and shots that are broken.")
        ] = False,
        keep_clipped: Annotated[
            bool, typer.Option("--keep-clipped", help="Take clipped samples as they are.")
        ] = False,
        spectrum: Annotated[
            bool, typer.Option("--spectrum", help="Only the spectrum, whatever the records are of.")
        ] = False,
        also: Annotated[
            str | None,
            typer.Option(help="Calibrations too, separated by commas: voigt, larmor, sidebands."),
        ] = None,
        lines: Annotated[
            str | None,
            typer.Option(help="Lines to fit in a spectrum, such as '61.6 kHz, 149.8 kHz'."),
        ] = None,
        window: Annotated[
            int | None, typer.Option(help="Samples of a window of the spectrum.")
        ] = None,
        out: Annotated[
            Path | None,
            typer.Option(help="Outcome; RESULT/analysis or results/NAME unless given."),
        ] = None,
        force: Annotated[bool, typer.Option("--force", help="Replace what exists.")] = False,
    ) -> None:
        """Analyse records, simulated or a laboratory's: table, estimates.json, figures.

        Records of an experiment go through the whole chain; others get a spectrum with its lines
        fitted.

        Example: `jaxsde analyse shots.h5 --experiment examples/kohler2018.toml`
        """
        console = Console()
        configure()
        source = open_records(path, skip_bad=skip_bad)
        plain = spectrum or lines is not None or window is not None
        chosen = None if plain else experiment_of(source, experiment)
        if also is not None and chosen is None:
            raise RecordError(
                f"{path}: --also: wanted records of an experiment, got some without; name it with "
                "--experiment"
            )
        target = _destination(source, out)
        check_destination(target, force)
        if chosen is None:
            outcome: Spectrum | Chain = analyse_spectrum(
                source, lines=_frequencies(lines), length=window, keep_clipped=keep_clipped
            )
        else:
            with progress_bar(console) as tell:
                outcome = analyse_chain(
                    chosen,
                    source,
                    reference=_reference(source, reference, skip_bad),
                    empty=None if empty is None else _other(empty, source, skip_bad),
                    keep_clipped=keep_clipped,
                    tell=tell,
                )
        extra: list[Row] = []
        if also is not None and chosen is not None:
            kinds = tuple(kind.strip() for kind in also.split(","))
            extra = calibrate_stage(source, chosen, kinds, keep_clipped=keep_clipped)
        with new_folder(target, force) as folder:
            rows, losses = _write(folder, outcome, extra)
            facts = environment(["jaxsde", *sys.argv[1:]]) | dict(records=str(path))
            write_manifest(folder, facts)
        _show(console, rows, losses, keep_clipped, _title(source, chosen))
        if not rows:
            console.print("no line stands out of this spectrum; name some with --lines")
        console.print(f"written to {target}", highlight=False, soft_wrap=True, markup=False)

    @app.command()
    def export(
        result: Annotated[Path, typer.Argument(help="Result folder of jaxsde run.")],
        out: Annotated[Path, typer.Option(help="HDF5 file to write, or with --per-shot a folder.")],
        per_shot: Annotated[
            bool, typer.Option("--per-shot", help="One file for each shot.")
        ] = False,
        group: Annotated[
            str, typer.Option(help="Which shots: main, or reference, those without coupling.")
        ] = "main",
        force: Annotated[bool, typer.Option("--force", help="Replace what exists.")] = False,
    ) -> None:
        """Write the records of a result as laboratory records in HDF5 (docs/records.md).

        Example: `jaxsde export results/kohler2018 --out shots.h5`
        """
        console = Console()
        if group not in ("main", "reference"):
            raise RecordError(f"--group: wanted main or reference, got {group!r}")
        if group == "reference" and not has_group(result, group):
            raise RecordError(f"{result}: wanted shots without coupling, got a result without them")
        taken = out.exists() and (out.is_file() or any(out.iterdir()))
        if taken and not (force and out.is_file()):
            raise StoreError(
                f"{out}: exists already; "
                + ("add --force to replace it" if out.is_file() else "name an empty or new folder")
            )
        configure()
        with progress_bar(console) as tell:
            count = export_result(
                result,
                out,
                group=None if group == "main" else group,
                per_shot=per_shot,
                tell=lambda done, total: tell("export", done, total),
            )
        console.print(
            f"{count} shots written to {out}", highlight=False, soft_wrap=True, markup=False
        )


def _destination(source: Source, out: Path | None) -> Path:
    if out is not None:
        return out
    if source.simulated:
        return source.path / "analysis"
    return Path("results") / (source.path.stem or source.path.resolve().name)


def _frequencies(text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    return tuple(units.frequency(part.strip(), "--lines") for part in text.split(","))


def _reference(source: Source, path: Path | None, skip_bad: bool) -> Source | None:
    if path is not None:
        return _other(path, source, skip_bad)
    if source.simulated and has_group(source.path, "reference"):
        return open_records(source.path, group="reference")
    return None


def _other(path: Path, source: Source, skip_bad: bool) -> Source:
    """Return further records, which must be in the shape and unit of the first."""
    found = open_records(path, skip_bad=skip_bad)
    for name in ("n_samples", "channels", "unit", "sample_interval"):
        mine, wanted = getattr(found.header, name), getattr(source.header, name)
        if mine != wanted:
            raise RecordError(
                f"{path}: {name}: got {mine}, wanted {wanted} as in {source.path}; record "
                "both alike"
            )
    return found


def _title(source: Source, experiment: Experiment | None) -> str:
    what = "spectrum" if experiment is None else experiment.title
    return f"{source.path}: {what}, {source.n_shots} shots"


def _write(
    folder: Path, outcome: Spectrum | Chain, extra: list[Row]
) -> tuple[list[Row], dict[str, Losses]]:
    if isinstance(outcome, Spectrum):
        rows, losses = spectrum_rows(outcome), {"records": outcome.losses}
        record: dict[str, Any] = {"shots": outcome.shots, "quantities": quantities(rows)}
        save_figure(spectrum_figure(outcome), folder / "figures" / "spectrum")
    else:
        rows, losses = chain_rows(outcome) + extra, outcome.losses
        record = estimates(outcome.results, rows)
        draw_figures(outcome.results, folder / "figures")
        if outcome.diffusion is not None:
            made = diffusion_figure(outcome.results.main.displacement, outcome.diffusion)
            save_figure(made, folder / "figures" / "diffusion")
    record["losses"] = {name: loss.counts() for name, loss in losses.items()}
    write_json(folder / "estimates.json", finite(record))
    return rows, losses


def quantities(rows: list[Row]) -> dict[str, Any]:
    """Return the quantities of estimates.json."""
    names = {
        "value": "value",
        "stderr": "error",
        "theory": "theory",
        "unit": "unit",
        "note": "note",
    }
    return {row.name: {k: getattr(row, v) for k, v in names.items()} for row in rows}


def _show(console: Console, rows, losses: dict[str, Losses], keep_clipped: bool, title: str):
    if rows:
        print_rows(console, rows, title)
    for name, loss in losses.items():
        for line in loss.lines(keep_clipped):
            console.print(f"{name}: {line}", highlight=False, soft_wrap=True, markup=False)

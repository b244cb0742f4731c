"""Command for figures: the paper's gallery, or the figures of a result folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from jaxsde.lab.console import progress_bar
from jaxsde.lab.figures import FIGURES, draw_figures
from jaxsde.lab.folder import StoreError
from jaxsde.lab.gallery.catalogue import NAMES, chosen
from jaxsde.lab.gallery.run import Made, draw_gallery
from jaxsde.lab.gallery.settings import Settings
from jaxsde.lab.spec import ExperimentError
from jaxsde.lab.store import load_results

Names = Annotated[
    list[str] | None,
    typer.Argument(
        help=f"Figures of the paper, all by default: {', '.join(NAMES)}; with --from, of "
        f"a result: {', '.join(FIGURES)}."
    ),
]
Source = Annotated[Path | None, typer.Option("--from", help="Result folder to draw instead.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder for the pictures; gallery/ by default, figures/ of a result."),
]
Shots = Annotated[
    int | None, typer.Option(help="Shots of every ensemble, instead of the paper's own numbers.")
]
Seed = Annotated[int, typer.Option(help="Seed of the gallery's shots.")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of the gallery's data; OUT/data by default.")
]
Force = Annotated[bool, typer.Option("--force", help="Simulate again what is kept.")]
Dpi = Annotated[float, typer.Option(help="Resolution of the PNG files.")]


def register(app: typer.Typer, configure: Callable[[], None]) -> None:
    """Add the command to an app; configure is called before anything is computed."""

    @app.command()
    def figures(
        names: Names = None,
        source: Source = None,
        out: Out = None,
        shots: Shots = None,
        seed: Seed = 2018,
        cache: Cache = None,
        force: Force = False,
        dpi: Dpi = 160,
    ) -> None:
        """Draw the paper's figures from simulated shots; or with --from those of a result.

        Each is a PNG and a PDF with its caption. What was simulated is kept: a second call draws
        again in seconds.

        Example: `jaxsde figures --out gallery`

        Example: `jaxsde figures 3c 4b --out gallery --shots 1000`

        Example: `jaxsde figures gain beat --from results/kohler2018 --out pictures`
        """
        console = Console()
        wanted = list(names or [])
        folders = [name for name in wanted if name not in NAMES and Path(name).is_dir()]
        if folders and source is None:
            source = Path(folders[0])
            wanted.remove(folders[0])
        if source is not None:
            for path in of_result(
                wanted, source, Path("figures") if out is None else out, configure
            ):
                console.print(str(path), highlight=False, soft_wrap=True, markup=False)
            return
        check_names(wanted)
        configure()
        with progress_bar(console) as tell:
            draw_gallery(
                wanted,
                Path("gallery") if out is None else out,
                settings=Settings(shots=shots, seed=seed),
                cache=cache,
                force=force,
                dpi=dpi,
                tell=tell,
                done=lambda made: show(console, made),
            )


def of_result(
    names: list[str], source: Path, out: Path, configure: Callable[[], None]
) -> list[Path]:
    """Draw figures of a result folder.

    Raises ExperimentError for unknown names, StoreError without such a folder.
    """
    for name in names:
        if name not in FIGURES:
            raise ExperimentError(
                f"NAMES: wanted figures out of {', '.join(FIGURES)}, got {name!r}"
            )
    if not source.is_dir():
        raise StoreError(
            f"{source}: wanted a result folder, got nothing there; make one with "
            "`jaxsde run examples/kohler2018.toml`, or name another with --from"
        )
    configure()
    return draw_figures(load_results(source), out, names or None)


def check_names(names: list[str]) -> None:
    """Raise ExperimentError for names that are no figures of the paper."""
    for name in names:
        if name in FIGURES:
            raise ExperimentError(
                f"NAMES: {name!r} is a figure of a result: name the result's folder with --from"
            )
    chosen(names)


def show(console: Console, made: Made) -> None:
    """Say what became of a figure and how long it took."""
    how = "; ".join(made.how) or "data of a figure above"
    console.print(
        f"{made.paths[0]}  {how}; {made.computed:.1f} s, drawn in {made.drawn:.1f} s",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )

"""Large: the main job for ensembles of any size, from a locked folder to its report."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import zarr

from jaxsde.lab.blocks import host_devices
from jaxsde.lab.chunks import DONE, Store
from jaxsde.lab.cluster import connected
from jaxsde.lab.experiment import Progress
from jaxsde.lab.figures import draw_figures
from jaxsde.lab.folder import StoreError, digests
from jaxsde.lab.guards import check_memory
from jaxsde.lab.lock import locked
from jaxsde.lab.parts import Part, parts_of
from jaxsde.lab.report import write_report
from jaxsde.lab.resume import clear, is_empty, write_whole
from jaxsde.lab.spec import Experiment
from jaxsde.lab.store import estimates, write_analysis, write_estimates
from jaxsde.lab.stream import Streamed, ThisProcess, check_keep, stream
from jaxsde.lab.streamed import analyse_sums, combine, state_moments
from jaxsde.lab.table import Row, table_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Large:
    """Hold what a streamed run came to: its table, empty where blocks are missing for one."""

    streamed: Streamed
    rows: list[Row]
    engine: str

    @property
    def complete(self) -> bool:
        """Tell whether every block is done."""
        return not self.streamed.failed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Hold what the command line says of a streamed run; see its help."""

    keep: str
    resume: bool = False
    force: bool = False
    block_shots: int | None = None
    devices: int | None = None
    cluster: str | None = None


def configure_devices(experiment: Experiment, options: Options) -> None:
    """Let JAX see a CPU as one device per core, before its first use.

    A driver of a cluster computes on its CPU alone, and leaves the accelerators to the workers.
    Raises StoreError for numbers of devices that cannot be.
    """
    if options.devices is not None and options.devices < 1:
        raise StoreError(f"--devices: wanted at least 1, got {options.devices}")
    if options.cluster is not None:
        if options.devices is not None:
            raise StoreError("--devices: wanted one of --devices and --cluster, got both")
        jax.config.update("jax_platforms", "cpu")
        return
    main = parts_of(experiment)[0].sequence
    size = main.n_samples * len(experiment.detector.quadratures) * 8
    jax.config.update("jax_num_cpu_devices", options.devices or host_devices(size))


def run_large(
    experiment: Experiment, out: Path, options: Options, command: list[str], tell: Progress
) -> Large:
    """Make an ensemble of any size block by block, or what is missing of it, and analyse it.

    Raises StoreError where another run holds the folder, for a folder that holds something else,
    for a configuration that is not the one it was begun with, and for a full disk; ExperimentError
    for what cannot be simulated.
    """
    check_keep(options.keep)
    parts = parts_of(experiment)
    check_memory(experiment, streamed=True)
    if options.force and options.resume:
        raise StoreError("--resume: wanted one of --force and --resume, got both")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{out}: cannot be written: {error.strerror}; choose another --out"
        ) from None
    with locked(out):
        if options.force and not is_empty(out):
            clear(out)
        with connected(options.cluster, ThisProcess(devices=options.devices)) as workers:
            made = stream(
                experiment,
                out,
                options.keep,
                workers=workers,
                block_shots=options.block_shots,
                resume=options.resume,
                command=command,
                tell=tell,
                cleared=options.force,
            )
        rows = _finish(experiment, out, made, parts, tell)
    return Large(streamed=made, rows=rows, engine=made.manifest["stream"]["config"]["engine"])


def _finish(
    experiment: Experiment, out: Path, made: Streamed, parts: tuple[Part, ...], tell: Progress
) -> list[Row]:
    """Write estimates, figures, report and the manifest's last word; return the table."""
    keep = made.manifest["stream"]["keep"]
    done = {name for (name, _), entry in made.entries.items() if entry["state"] == DONE}
    failed = [_told(entry) for entry in made.failed]
    made.manifest["stream"] |= dict(complete=not failed, failed=failed)
    files, rows = ["experiment.toml", made.manifest["stream"]["journal"]], []
    if all(part.name in done for part in parts):
        totals = {part.name: combine(made.store, made.entries, part.name) for part in parts}
        results = analyse_sums(experiment, made.text, parts, totals, keep, tell)
        rows = table_rows(results)
        figures = draw_figures(results, out / "figures")
        written = estimates(results, rows)
        if failed:
            written["missing"] = failed
        write_estimates(out / "estimates.json", written)
        write_analysis(out / "blocks.zarr", results)
        if keep == "moments":
            _write_moments(made.store, made, parts)
        facts = made.manifest["runs"][-1] | _facts(experiment, made)
        write_report(results, rows, facts, figures, out / "report.html")
        files += ["estimates.json", "report.html"]
        files += [str(path.relative_to(out)) for path in figures]
    made.manifest["files"] = digests(out, files)
    write_whole(out / "manifest.json", made.manifest)
    return rows


def _told(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in ("part", "block", "shots", "why", "bad", "n_bad")}


def _facts(experiment: Experiment, made: Streamed) -> dict[str, Any]:
    told = made.manifest["stream"]
    return dict(
        seed=experiment.seed,
        shots=experiment.shots,
        method=experiment.method,
        engine=told["config"]["engine"],
        keep=told["keep"],
        block_shots=told["block_shots"],
        config_sha256=told["config_sha256"],
        failed_blocks=len(made.failed),
    )


def _write_moments(store: Store, made: Streamed, parts: tuple[Part, ...]) -> None:
    """Write means over shots of the states' products, beside the analysis."""
    root = zarr.open_group(store.folder / "blocks.zarr", mode="a", zarr_format=3)
    for part in parts:
        shots = sum(
            entry["shots"][1] - entry["shots"][0]
            for (name, _), entry in made.entries.items()
            if name == part.name and entry["state"] == DONE
        )
        found = state_moments(combine(store, made.entries, part.name, "moments"), shots)
        group = root.require_group(f"state_moments/{part.name}")
        for name, units in (
            ("displacement", "(rad/s)^2"),
            ("stderr", "(rad/s)^2"),
            ("covariance", "1"),
        ):
            array = group.create_array(name, data=getattr(found, name), overwrite=True)
            array.attrs["units"] = units

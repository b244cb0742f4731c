"""Export: simulated shots as laboratory records in HDF5, one file or one file for each shot."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from jaxsde.engine.detect import detection_gain
from jaxsde.lab.config import dump_experiment, parse_experiment
from jaxsde.lab.folder import whole_file
from jaxsde.lab.hdf5 import new_file
from jaxsde.lab.recordings import Block, Header
from jaxsde.lab.records import Source, open_records, read_blocks
from jaxsde.lab.spec import Experiment, build_sequence
from jaxsde.physics.params import Params

BLOCK = 512


def header_of(experiment: Experiment, *, coupled: bool = True) -> Header:
    """Return the header of an experiment's records, with A of every stage that has one (S10)."""
    sequence, p, d = (
        build_sequence(experiment, coupled=coupled),
        experiment.params,
        experiment.detector,
    )
    starts = [sequence.span(s.name).start * sequence.sample_interval for s in sequence.stages]
    a = None
    if d.unit == "W" and d.quadratures != ("homodyne",):
        # A ramp's gain changes within the stage, and a dark stage has none.
        a = tuple(
            float("nan")
            if s.controls.is_ramp or not float(np.asarray(s.controls.nbar)) > 0
            else float(detection_gain(p, s.controls, d))
            for s in sequence.stages
        )
    values = ((f.name, float(np.asarray(getattr(p, f.name)))) for f in dataclasses.fields(Params))
    return Header(
        n_samples=sequence.n_samples,
        channels=d.quadratures,
        unit=d.unit,
        sample_interval=sequence.sample_interval,
        stages=tuple(s.name for s in sequence.stages),
        starts=tuple(starts),
        A=a,
        S_SN=float(np.asarray(d.S_SN)) or None,
        experiment=dump_experiment(experiment),
        parameters=tuple(values),
    )


def write_records(path: Path, header: Header, n_shots: int, blocks: Iterable[Block]) -> None:
    """Write shots, which come in blocks, into one HDF5 file (docs/records.md).

    Samples that are missing are written as NaN, clipped ones at the limits that they show.
    Raises ValueError if the blocks do not hold n_shots.
    """
    first, top, low = 0, np.inf, -np.inf
    with new_file(path, header, n_shots) as file:
        rejected = np.zeros(n_shots, np.uint8)
        for block in blocks:
            rows = slice(first, first + len(block.samples))
            if rows.stop > n_shots:
                break
            file["samples"][rows] = np.where(block.missing[..., None], np.nan, block.samples)
            rejected[rows] = block.rejected
            if block.clipped.any():
                hit = block.samples[block.clipped]
                top, low = min(top, np.abs(hit).max()), max(low, -np.abs(hit).max())
            first = rows.stop
        if first != n_shots:
            raise ValueError(f"blocks: wanted {n_shots} shots in all, got {first}")
        if np.isfinite(top):
            file["samples"].attrs.update(adc_max=float(top), adc_min=float(low))
        if rejected.any():
            file["rejected"] = rejected


def export_result(
    result: Path,
    out: Path,
    *,
    group: str | None = None,
    per_shot: bool = False,
    tell: Callable[[int, int], None] | None = None,
) -> int:
    """Write the records of a result folder as HDF5 and return the number of shots.

    out: a file; or with per_shot a folder, made if missing, for shot_000000.h5 and so on.
    group: None, the main ensemble, or "reference", that without coupling.
    Raises RecordError or StoreError for a folder that is no result.
    """
    source = open_records(result, group=group)
    experiment = parse_experiment(source.header.experiment, str(result / "experiment.toml"))
    header = header_of(experiment, coupled=group != "reference")
    if per_shot:
        out.mkdir(parents=True, exist_ok=True)
        _write_each(source, out, header, tell)
        return source.n_shots
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as partial:
        write_records(partial, header, source.n_shots, _told(source, tell))
    return source.n_shots


def _told(source: Source, tell) -> Iterable[Block]:
    done = 0
    for block in read_blocks(source, BLOCK):
        yield block
        done += len(block.samples)
        if tell is not None:
            tell(done, source.n_shots)


def _write_each(source: Source, out: Path, header: Header, tell) -> None:
    number = 0
    for block in _told(source, tell):
        for i in range(len(block.samples)):
            fields = dataclasses.fields(Block)
            one = Block(**{f.name: getattr(block, f.name)[i : i + 1] for f in fields})
            write_records(out / f"shot_{number:06d}.h5", header, 1, [one])
            number += 1

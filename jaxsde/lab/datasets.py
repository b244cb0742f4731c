"""Data sets: records of any kind, whole in memory, as a calibration takes them."""

import dataclasses
from pathlib import Path

import numpy as np

from jaxsde.engine.simulate import Shots
from jaxsde.inference.problem import DataSet
from jaxsde.lab.hdf5_header import SUFFIXES
from jaxsde.lab.matching import experiment_of
from jaxsde.lab.recordings import Losses, RecordError
from jaxsde.lab.records import is_result, open_records, read_blocks
from jaxsde.lab.spec import Experiment, build_sequence
from jaxsde.lab.store import load_shots
from jaxsde.physics.sequence import Sequence

BLOCK = 512


def load_data_set(
    path: Path | str,
    *,
    experiment: Path | str | None = None,
    skip_bad: bool = False,
    keep_clipped: bool = False,
) -> tuple[Experiment, DataSet, Losses]:
    """Return the experiment of records, their shots as a DataSet, and what was left out.

    path: a file, a folder of files, or a result folder; see `open_records`.
    experiment: file (TOML) that the records follow, in place of their own.
    skip_bad: leave out what is broken.  keep_clipped: take clipped samples as they are.
    Samples that are missing or clipped are NaN, which the likelihood leaves out; shots that the
    file rejects are not there.  All are in memory at once: 16 bytes a sample of I and Q.
    Raises RecordError or ExperimentError, which name the file and the remedy.
    """
    source = open_records(Path(path), skip_bad=skip_bad)
    matched = experiment_of(source, None if experiment is None else Path(experiment))
    if matched is None:
        raise RecordError(
            f"{path}: wanted records of an experiment, got some without; name its file with "
            "--experiment (in Python: experiment=)"
        )
    losses, kept = Losses(skipped=source.skipped), []
    for block in read_blocks(source, BLOCK):
        losses = losses.plus(block)
        lost = block.missing | (block.clipped & (not keep_clipped))
        kept.append(np.where(lost[..., None], np.nan, block.samples)[~block.rejected])
    record = np.concatenate(kept)
    if not len(record):
        raise RecordError(f"{path}: wanted at least one shot, got none that the file accepts")
    data = DataSet(
        record=record,
        sequence=build_sequence(matched),
        detector=matched.detector,
        name=Path(path).stem,
    )
    return dataclasses.replace(matched, shots=len(record)), data, losses


def is_laboratory(path: Path) -> bool:
    """Tell whether a path is laboratory records: a file, or a folder of files and no result."""
    if not path.is_dir():
        return path.is_file()
    return not is_result(path) and any(p.suffix in SUFFIXES for p in path.iterdir())


def load_for_calibration(
    path: Path, experiment: Path | None
) -> tuple[tuple[Experiment, Sequence, Shots | np.ndarray], Losses | None]:
    """Return what calibrate_result takes, and of laboratory records what was left out.

    Of a result of jaxsde run that is None: its true values are known.
    Raises RecordError, StoreError or ExperimentError for what cannot be read.
    """
    if is_laboratory(path):
        found, data, losses = load_data_set(path, experiment=experiment)
        return (found, data.sequence, data.record), losses
    if experiment is not None:
        raise RecordError(
            f"--experiment: wanted laboratory records to go with it, got {path}, which is none; a "
            "result of jaxsde run has its own experiment: leave --experiment out"
        )
    return load_shots(path), None


def calibration_folder(path: Path) -> Path:
    """Return where a calibration goes unless told: into the result, or a folder of its own."""
    if not is_laboratory(path):
        return path / "calibration"
    return Path("results") / f"{path.stem or path.resolve().name}-calibration"

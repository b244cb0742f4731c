"""Records of any kind, in blocks of shots: HDF5 files, folders of them, results of jaxsde run."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from jaxsde.lab.config import parse_experiment
from jaxsde.lab.folder import MANIFEST, read_manifest
from jaxsde.lab.hdf5 import read_shots
from jaxsde.lab.hdf5_header import SUFFIXES, Layout, read_header
from jaxsde.lab.recordings import Block, Header, RecordError

# Of two intervals that mean the same; digitisers write theirs as rounded floats.
SAME = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """Hold one file of a record and the numbers of its shots that are to be read.

    layout: of an HDF5 file; None for the records.zarr of a result folder, whose group it is.
    limits: of the digitiser of a simulated record.
    """

    path: Path
    header: Header
    layout: Layout | None
    shots: np.ndarray
    group: str | None = None
    limits: tuple[float, float] = (-np.inf, np.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Hold records that have been found and checked, but not yet read.

    skipped: (file, why) of what was left out.  simulated: a result of jaxsde run.
    """

    path: Path
    header: Header
    pieces: tuple[Piece, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    simulated: bool = False

    @property
    def n_shots(self) -> int:
        """Number of shots that read_blocks yields."""
        return sum(len(piece.shots) for piece in self.pieces)


def open_records(path: Path, *, skip_bad: bool = False, group: str | None = None) -> Source:
    """Return the records of a file, a folder of files (sorted by name), or a result folder.

    skip_bad: leave out files that cannot be read or do not fit the others, and shots of another
        length, and say so in the result; without it the first of them is an error.
    group: of a result folder's records: None, the main ensemble, or "reference".
    Raises RecordError, which names the file and the remedy.
    """
    path = Path(path)
    if not path.exists():
        raise RecordError(f"{path}: wanted records (a file or folder), got nothing there")
    if is_result(path):
        return _open_result(path, group)
    if path.suffix == ".toml":
        raise RecordError(
            f"{path}: wanted records, got an experiment file; simulate it with `jaxsde run`, or "
            "give records and this with --experiment"
        )
    if not path.is_dir():
        files = [path]
    else:
        files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
        if not files:
            raise RecordError(
                f"{path}: wanted a folder with files *{', *'.join(SUFFIXES)}, or a result of "
                "jaxsde run, got none of them"
            )
    return _join(path, files, skip_bad)


def is_result(path: Path) -> bool:
    """Tell whether a path is a result folder of jaxsde run."""
    return path.is_dir() and ((path / MANIFEST).is_file() or (path / "records.zarr").is_dir())


def _join(path: Path, files: list[Path], skip_bad: bool) -> Source:
    pieces, skipped = [], []

    def bad(file: Path, reason: str) -> None:
        if not skip_bad:
            hint = "" if "--skip-bad" in reason else "; --skip-bad leaves it out"
            raise RecordError(reason + hint)
        skipped.append((str(file), reason))

    for file in files:
        try:
            header, layout = read_header(file)
            whole = Piece(path=file, header=header, layout=layout, shots=np.arange(layout.n_shots))
            # The last shot too: a file cut short shows only there.
            read_shots(header, layout, whole.shots[-1:])
            pieces.append(whole)
        except RecordError as error:
            bad(file, str(error))
    if not pieces:
        raise RecordError(f"{path}: no file of it can be used; the first: {skipped[0][1]}")
    lengths = [_samples(p.layout, n) for p in pieces for n in p.layout.lengths]
    usual = max(set(lengths), key=lengths.count)
    first = next(p for p in pieces if p.header.n_samples == usual)
    kept = []
    for piece in pieces:
        short = np.array([_samples(piece.layout, n) != usual for n in piece.layout.lengths])
        if short.any():
            odd = piece.layout.lengths[int(np.argmax(short))]
            bad(
                piece.path,
                f"{piece.path}: ragged: {int(short.sum())} of {len(short)} shots have another "
                f"length, the first (shot {int(np.argmax(short))}) {odd} samples where most have "
                f"{usual}; cut all to one length",
            )
        reason = _differs(piece.header, first.header)
        if reason:
            bad(piece.path, f"{piece.path}: {reason} as in {first.path}; mend it or analyse apart")
        elif not short.all():
            kept.append(dataclasses.replace(piece, shots=piece.shots[~short]))
    return Source(path=path, header=first.header, pieces=tuple(kept), skipped=tuple(skipped))


def _samples(layout: Layout, length: int) -> int:
    return length if layout.weights is None else length // len(layout.weights)


def _differs(header: Header, first: Header) -> str:
    """Return what is not as in the first file's header, or nothing."""
    for name in ("unit", "channels", "stages", "A", "S_SN", "experiment", "parameters"):
        mine, wanted = getattr(header, name), getattr(first, name)
        if mine != wanted and not (name == "A" and mine and _equal(mine, wanted)):
            shown = ("another", "one") if name == "experiment" else (repr(mine), repr(wanted))
            return f"{name}: got {shown[0]}, wanted {shown[1]}"
    for name in ("sample_interval", "starts"):
        mine, wanted = getattr(header, name), getattr(first, name)
        if not _equal(mine, wanted):
            return f"{name}: got {mine} s, wanted {wanted} s"
    return ""


def _equal(a: object, b: object) -> bool:
    x, y = np.asarray(a, float), np.asarray(b, float)
    return x.shape == y.shape and np.allclose(x, y, rtol=SAME, atol=0, equal_nan=True)


def _open_result(path: Path, group: str | None) -> Source:
    """Return the records of a result folder, after checking its checksums."""
    read_manifest(path)
    data = _zarr(path, group)
    marks = data["stage"].values
    starts = np.flatnonzero(np.diff(marks, prepend=-1))
    interval = float(data.attrs["sample_interval_s"])
    header = Header(
        n_samples=data.sizes["time"],
        channels=tuple(data.attrs["quadratures"]),
        unit=str(data["record"].attrs["units"]),
        sample_interval=interval,
        stages=tuple(data.attrs["stages"]),
        starts=tuple((starts * interval).tolist()),
        S_SN=float(data.attrs["shot_noise_density_W2_per_Hz"]) or None,
        experiment=(path / "experiment.toml").read_text(encoding="utf-8"),
    )
    piece = Piece(
        path=path,
        header=header,
        layout=None,
        shots=np.arange(data.sizes["shot"]),
        group=group,
        limits=_limits(header.experiment, str(path / "experiment.toml")),
    )
    return Source(path=path, header=header, pieces=(piece,), simulated=True)


def _zarr(path: Path, group: str | None) -> xr.Dataset:
    return xr.open_zarr(path / "records.zarr", group=group, consolidated=False, chunks=None)


def has_group(path: Path, group: str) -> bool:
    """Tell whether a result folder has such a group of records."""
    return (Path(path) / "records.zarr" / group).is_dir()


def read_blocks(source: Source, size: int) -> Iterator[Block]:
    """Yield all shots of a source in their order, at most `size` at a time.

    Small files are joined to whole blocks, so that compiled programs see one shape.
    """
    waiting: list[Block] = []
    held = 0
    for piece in source.pieces:
        first = 0
        while first < len(piece.shots):
            take = piece.shots[first : first + size - held]
            waiting.append(_read(piece, take))
            held, first = held + len(take), first + len(take)
            if held == size:
                yield _joined(waiting)
                waiting, held = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    names = [field.name for field in dataclasses.fields(Block)]
    return Block(**{n: np.concatenate([getattr(b, n) for b in blocks]) for n in names})


def _read(piece: Piece, shots: np.ndarray) -> Block:
    if piece.layout is not None:
        return read_shots(piece.header, piece.layout, shots)
    data = _zarr(piece.path, piece.group).isel(shot=slice(int(shots[0]), int(shots[-1]) + 1))
    samples = np.asarray(data["record"].values, float)
    missing = np.asarray(~np.isfinite(samples).all(axis=-1))
    low, high = piece.limits
    clipped = np.asarray(((samples <= low) | (samples >= high)).any(axis=-1))
    return Block(
        samples=np.where(missing[..., None], 0.0, samples),
        missing=missing,
        clipped=clipped,
        rejected=np.asarray(data["status"].values) != 0,
    )


def _limits(text: str, name: str) -> tuple[float, float]:
    """Return the lowest and highest values that the digitiser of a simulated experiment gives."""
    technical = parse_experiment(text, name).detector.technical
    if technical is None or technical.adc_range is None:
        return -np.inf, np.inf
    full = float(np.asarray(technical.adc_range))
    lsb = 0.0 if technical.adc_bits is None else 2 * full / 2**technical.adc_bits
    tolerance = 1e-6 * full  # a record in single precision
    return -full + tolerance, full - lsb - tolerance


def mark_index(header: Header) -> tuple[int, ...]:
    """Return the samples at which the stages begin."""
    return tuple(math.floor(s / header.sample_interval + 0.5) for s in header.starts)

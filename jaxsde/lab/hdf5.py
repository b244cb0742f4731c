"""Shots of an HDF5 file of records, scaled, masked and demodulated; and writing such a file."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from jaxsde.lab.hdf5_header import Layout, opened, short
from jaxsde.lab.recordings import Block, Header, RecordError

SCHEMA, VERSION = "jaxsde.records", 1


def read_shots(header: Header, layout: Layout, shots: np.ndarray) -> Block:
    """Return shots of a file, given by rising numbers, scaled, masked and demodulated."""
    with opened(layout.path) as file:
        try:
            return _read(file, header, layout, shots)
        except OSError as error:
            raise RecordError(
                f"{layout.path}: samples cannot be read ({short(error)}); the file is damaged: "
                "copy it again, or leave it out (--skip-bad does so in a folder)"
            ) from None


def _read(file: Any, header: Header, layout: Layout, shots: np.ndarray) -> Block:
    data = file["samples"]
    picked = slice(int(shots[0]), int(shots[-1]) + 1)
    within = shots - shots[0]
    if layout.ragged:
        raw = np.stack([np.asarray(data[int(i)]) for i in shots])[:, :, None]
    elif "shot" in layout.axes:
        axis = layout.axes.index("shot")
        part = data[(slice(None),) * axis + (picked,)]
        raw = np.take(part, within, axis=axis) if len(within) < part.shape[axis] else part
    else:
        raw = data[()]
    raw = raw if layout.ragged else _ordered(raw, layout.axes)
    low, high = layout.limits
    clipped: Any = ((raw <= low) | (raw >= high)).any(axis=-1)
    missing: Any = ~np.isfinite(raw).all(axis=-1)
    if layout.missing is not None:
        gone = (raw == layout.missing).any(axis=-1)
        missing, clipped = missing | gone, clipped & ~gone
    missing = missing | _marked(file, layout, shots, missing.shape)
    values = raw * layout.gain - layout.offset
    values = np.where(missing[..., None], 0.0, values)
    if layout.weights is not None:
        values, missing, clipped = _demodulated(values, missing, clipped, layout.weights)
    rejected = np.zeros(len(shots), bool)
    if "rejected" in file:
        rejected = np.asarray(file["rejected"], bool).reshape(-1)[shots]
    return Block(samples=values, missing=missing, clipped=clipped & ~missing, rejected=rejected)


def _ordered(raw: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
    """Return raw numbers as (shots, samples, channels)."""
    for name in ("shot", "channel"):
        if name not in axes:
            raw, axes = np.expand_dims(raw, -1), (*axes, name)
    return np.transpose(raw, [axes.index(a) for a in ("shot", "time", "channel")])


def _marked(file, layout: Layout, shots: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    mask = file.get("mask")
    if mask is None:
        return np.zeros(shape, bool)
    if "shot" in layout.axes:
        found = np.asarray(mask[int(shots[0]) : int(shots[-1]) + 1])[shots - shots[0]]
    else:
        found = np.asarray(mask)[None]
    if found.shape != shape:
        raise RecordError(
            f"{layout.path}: mask: wanted one number for each shot and sample, got shape "
            f"{mask.shape}; mend it"
        )
    return found != 0


def _demodulated(values, missing, clipped, weights):
    n = len(weights)
    whole = values.shape[1] // n * n
    blocks = values[:, :whole, 0].reshape(len(values), -1, n)
    flags = [m[:, :whole].reshape(len(values), -1, n).any(axis=2) for m in (missing, clipped)]
    return np.where(flags[0][..., None], 0.0, blocks @ weights), *flags


def new_file(path: Path, header: Header, n_shots: int, *, dtype: str = "f8") -> Any:
    """Return a new file for n_shots shots of a header, whose samples are still to be written.

    dtype: of the samples, a float type; they are stored in the header's unit.
    """
    file: Any = h5py.File(path, "w")
    file.attrs.update(schema=SCHEMA, schema_version=VERSION)
    if header.experiment:
        file.attrs["experiment"] = header.experiment
    shape = (n_shots, header.n_samples, len(header.channels))
    chunk = (min(n_shots, max(1, 2**20 // (8 * shape[1] * shape[2]))), *shape[1:])
    data = file.create_dataset("samples", shape=shape, dtype=dtype, chunks=chunk)
    data.attrs.update(
        axes="shot,time,channel",
        units=header.unit,
        gain=1.0,
        offset=0.0,
        sample_interval_s=header.sample_interval,
        channels=list(header.channels),
    )
    if header.stages:
        data.attrs["stage_names"] = list(header.stages)
        data.attrs["stage_starts_s"] = list(header.starts)
    if header.A is not None:
        data.attrs["stage_A"] = list(header.A)
    if header.S_SN is not None:
        data.attrs["S_SN"] = header.S_SN
    group = file.create_group("parameters")
    for name, value in header.parameters:
        group.attrs[name] = value
    return file

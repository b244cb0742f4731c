"""Spectrum of records that belong to no experiment: mean periodogram, lines found and fitted."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxsde.analysis.gaps import GROUPS
from jaxsde.analysis.lines import LEAST_UNITS, LineFit, find_lines, fit_lines
from jaxsde.analysis.spectra import frequencies, hann, welch
from jaxsde.lab.recordings import Losses, RecordError
from jaxsde.lab.records import Source, read_blocks
from jaxsde.lab.table import Row
from jaxsde.physics.params import TWO_PI

# A line is fitted this far to either side, or to half way to the next one.
REACH = 8e3  # Hz
LONGEST = 8192
# Windows that a record is cut into at least, so that its scatter is known.
WINDOWS = 30
# Numbers of a block of windows: 32 MiB of them.
MEMORY = 2**22


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Hold the periodograms of a record and the lines in them.

    frequency: Hz.  units: (units, frequencies), channels added, unit^2/Hz, two-sided; of windows
    in a row, or of groups of shots.  lost: windows with a gap, left out.  fits: one for each line.
    """

    unit: str
    shots: int
    length: int
    interval: float
    frequency: np.ndarray
    units: np.ndarray
    lost: int
    losses: Losses
    fits: tuple[LineFit, ...]


def analyse_spectrum(
    source: Source,
    *,
    lines: tuple[float, ...] = (),
    length: int | None = None,
    prominence: float = 10.0,
    keep_clipped: bool = False,
) -> Spectrum:
    """Return the spectrum of records and fits of its lines.

    lines: Hz, near which one is fitted; those that stand `prominence` dB out unless given.
    length: samples of a window; a power of two that gives 30 windows unless given.
    Raises RecordError for a record too short, and for lines beyond its frequencies.
    """
    header = source.header
    if length is None:
        # Half-overlapping windows of length L: shots x (2 n/L - 1) of them in all.
        most = 2 * header.n_samples / (WINDOWS / source.n_shots + 1)
        share = min(header.n_samples, int(most))
        length = min(LONGEST, 2 ** int(np.log2(max(share, 1))))
    if not 16 <= length <= header.n_samples:
        raise RecordError(
            f"{source.path}: window: wanted from 16 to {header.n_samples} samples, got {length}; "
            "take a longer record, or another --window"
        )
    window = np.asarray(hann(length))
    units, lost, losses = _gather(source, window, keep_clipped)
    f = frequencies(length, header.sample_interval)
    if len(units) < LEAST_UNITS:
        raise RecordError(
            f"{source.path}: wanted at least {LEAST_UNITS} windows or shots without a gap, got "
            f"{len(units)}; take a shorter --window"
        )
    high = f[-1]
    for line in lines:
        if not 0 < line < high:
            raise RecordError(
                f"{source.path}: --lines: wanted frequencies between 0 and {high:g} Hz, got "
                f"{line:g} Hz; half the sampling rate is the most"
            )
    found = find_lines(f, units.mean(axis=0), prominence=prominence) if not lines else lines
    fits = []
    for i, line in enumerate(found):
        gaps = [abs(line - other) / 2 for j, other in enumerate(found) if j != i]
        reach = min([max(REACH, 16 * f[1]), *gaps])
        band = max(line - reach, 2 * f[1]), min(line + reach, high)
        fits.append(
            fit_lines(
                units[:, None],
                window,
                header.sample_interval,
                np.array([TWO_PI * line]),
                band,
                fixed_sigma=source.n_shots == 1,
            )
        )
    return Spectrum(
        unit=header.unit,
        shots=source.n_shots,
        length=length,
        interval=header.sample_interval,
        frequency=f,
        units=units,
        lost=lost,
        losses=losses,
        fits=tuple(fits),
    )


def _gather(source: Source, window: np.ndarray, keep_clipped: bool):
    """Return (periodograms, windows lost, losses): of every window of few shots, else of groups."""
    length, dt = len(window), source.header.sample_interval
    starts = np.arange(0, source.header.n_samples - length + 1, length // 2)
    few = source.n_shots < WINDOWS
    groups = source.n_shots * len(starts) if few else min(source.n_shots, GROUPS)
    sums, counts = np.zeros((groups, length // 2 + 1)), np.zeros(groups)
    losses, seen, lost = Losses(skipped=source.skipped), 0, 0
    size = min(max(1, MEMORY // (len(starts) * length)), source.n_shots)
    for block in read_blocks(source, size):
        losses = losses.plus(block)
        bad = block.missing | (block.clipped & (not keep_clipped)) | block.rejected[:, None]
        picked = starts[:, None] + np.arange(length)
        cut = block.samples[:, picked]
        cut = (cut - cut.mean(axis=2, keepdims=True)).reshape(-1, length, cut.shape[3])
        power = np.asarray(welch(jnp.asarray(cut), jnp.asarray(window), length, dt)).sum(axis=2)
        power = power.reshape(len(bad), len(starts), -1)
        whole = np.asarray(~bad[:, picked].any(axis=2))
        lost += int((~whole).sum())
        if few:
            into = slice(seen * len(starts), (seen + len(bad)) * len(starts))
            sums[into] = np.where(whole[..., None], power, 0.0).reshape(-1, power.shape[2])
            counts[into] = whole.ravel()
        else:
            into = (seen + np.arange(len(bad))) % groups
            np.add.at(sums, into, np.einsum("sw,swf->sf", whole.astype(float), power))
            np.add.at(counts, into, whole.sum(axis=1))
        seen += len(bad)
    good = counts > 0
    return sums[good] / counts[good, None], lost, losses


def spectrum_rows(spectrum: Spectrum) -> list[Row]:
    """Return the rows of a table: frequency, width and area of each line."""
    rows = []
    for i, fit in enumerate(spectrum.fits, 1):
        note = f"window {spectrum.length} samples, {len(spectrum.units)} periodograms"
        if not fit.converged:
            note += "; NOT CONVERGED"
        parts = [
            ("frequency", f"line {i}, f", fit.omega / TWO_PI / 1e3, fit.stderr("omega"), "kHz",
             note),
            ("gamma", f"line {i}, Γ/2π", fit.gamma / TWO_PI, fit.stderr("gamma"), "Hz",
             "damping of energy: full width of the Lorentzian"),
        ]  # fmt: skip
        if spectrum.shots > 1:
            bound = "; its square is not positive" if fit.sigma[0] == 0 else ""
            parts.append(
                ("sigma", f"line {i}, σ/2π", fit.sigma / TWO_PI, fit.stderr("sigma"), "Hz",
                 "jitter of the frequency from shot to shot" + bound)
            )  # fmt: skip
        for name, label, value, error, unit, text in parts:
            scale = 1e3 if unit == "kHz" else 1.0
            size = float(error[0]) / TWO_PI / scale
            rows.append(_row(f"{name}_{i}", label, float(value[0]), size, unit, text))
        area, error = float(fit.area[0, 0]), float(fit.stderr("area")[0, 0])
        text = f"chi² {fit.chi2:.0f} of {fit.dof} bins"
        label = f"line {i}, mean square"
        rows.append(_row(f"area_{i}", label, area, error, f"{spectrum.unit}²", text))
    return rows


def _row(name: str, label: str, value: float, error: float, unit: str, note: str) -> Row:
    known = error if np.isfinite(error) else None
    return Row(name=name, label=label, value=value, error=known, theory=None, unit=unit, note=note)

"""Features: linear filters of whole records whose second moments a calibration compares.

Given jitter averages these are Gaussian to good approximation, so that exact second moments are all
that theory has to give; every kind is one FilterBank, and a way to group its outputs:

- "matched": outputs of matched filters (S13-S15); the loss takes all of their second moments.
- "displacement": the power of D within a band in short windows of the whole shot, <D^2>(t) of S11.
- "spectrum": the power spectrum of one stage, bin by bin.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.analysis.displacement import BAND
from jaxsde.analysis.matched import FilterBank, matched_filter
from jaxsde.engine.detect import quadrature_gains
from jaxsde.inference.transform import Model
from jaxsde.physics.sequence import Sequence

KINDS = ("matched", "displacement", "spectrum")
# Length of the windows of "displacement", s: several periods, and a few within a pulse.
WINDOW = 20e-6


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
    """Hold filters, and the group that each belongs to; None compares all second moments.

    The power of a group is the sum of its outputs' squares.
    """

    bank: FilterBank
    groups: tuple[int, ...] | None = dataclasses.field(metadata=dict(static=True))


def make_features(kind: str, model: Model, stage: str, windows: int) -> Features:
    """Return the features of a kind for a model's records.

    stage: that "matched" and "spectrum" read.  windows: equal parts that it is cut into.
    Raises ValueError for an unknown kind, or a stage that does not suit.
    """
    if kind not in KINDS:
        raise ValueError(f"features: wanted one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "matched":
        bank = matched_filter(
            model.params, model.sequence, model.detector, stage=stage, windows=windows
        )
        return Features(bank=bank, groups=None)
    dt = model.sequence.sample_interval
    if kind == "spectrum":
        span = model.sequence.span(stage)
        edges = np.linspace(span.start, span.stop, windows + 1).round().astype(int)
        spans = list(itertools.pairwise(edges.tolist()))
        first = [s.name for s in model.sequence.stages].index(stage)
    else:
        spans, first = _lit_windows(model.sequence, round(WINDOW / dt)), 0
    filters, groups, names = [], [], []
    for number, (start, stop) in enumerate(spans):
        bins = _bins(stop - start, dt)
        for index, f in enumerate(bins):
            t = (np.arange(start, stop) - start + 0.5) * dt
            for shape in (np.cos, np.sin):
                row = np.zeros(model.sequence.n_samples)
                row[start:stop] = shape(2 * np.pi * f * t) * dt
                filters.append(row)
                groups.append(index if kind == "spectrum" else number)
                names.append(f"{start}+{f:.0f} Hz")
    weights = jnp.asarray(np.array(filters))[:, :, None] * _projection(model)[None]
    bank = FilterBank(weights=weights, names=tuple(names), stage=first)
    return Features(bank=bank, groups=tuple(groups))


def _bins(length: int, dt: float) -> np.ndarray:
    """Return the frequencies of a window (Hz) that lie within the band of S11."""
    f = np.arange(1, length // 2) / (length * dt)
    # A bin on the edge of the band is in it, however it is rounded.
    found = f[(f >= BAND[0] * (1 - 1e-9)) & (f <= BAND[1] * (1 + 1e-9))]
    if not found.size:
        raise ValueError(
            f"features: wanted windows that tell {BAND[0]:g} from {BAND[1]:g} Hz, got "
            f"{length * dt:.3g} s; take fewer windows"
        )
    return found


def _lit_windows(sequence: Sequence, length: int) -> list[tuple[int, int]]:
    """Return windows of some `length` samples that cut every stage that does not move."""
    made, first = [], 0
    for stage in sequence.stages:
        count = stage.n_samples // length
        if not stage.controls.is_ramp and count:
            edges = np.linspace(first, first + stage.n_samples, count + 1).round().astype(int)
            made += itertools.pairwise(edges.tolist())
        first += stage.n_samples
    if not made:
        raise ValueError(
            f"features: wanted a stage of at least {length} samples that is no ramp for "
            "<D^2>(t), got none; take features='matched'"
        )
    return made


def _projection(model: Model) -> Float[Array, "samples outputs"]:
    """Return the direction of the signal among the outputs of every sample, over its gain."""
    rows = []
    for stage in model.sequence.stages:
        gains = quadrature_gains(model.params, stage.controls, model.detector, 0.5)
        square = jnp.sum(gains**2)
        dark = square == 0
        row = jnp.where(dark, 0.0, gains / jnp.where(dark, 1.0, square))
        rows.append(jnp.broadcast_to(row[None], (stage.n_samples, row.shape[0])))
    return jnp.concatenate(rows)

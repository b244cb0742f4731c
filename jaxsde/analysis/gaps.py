"""Gaps of records: samples that are missing, what filters mix them into, and means without them."""

import dataclasses

import numpy as np
import scipy.signal
from jaxtyping import Bool, Float

# Share of a filter's energy beyond its reach: a filled gap then leaves 3 % of its error at most.
BEYOND = 1e-3
# At most so many groups of shots carry the scatter of a mean.
GROUPS = 1000


def fill_gaps(
    samples: Float[np.ndarray, "shots samples channels"], bad: Bool[np.ndarray, "shots samples"]
) -> Float[np.ndarray, "shots samples channels"]:
    """Return samples with straight lines across the gaps; shots without a good sample become 0.

    What stands there is never used: see `reaches`.  A line only keeps filters from ringing.
    """
    out = samples
    for shot in np.flatnonzero(bad.any(axis=1)):
        out = samples.copy() if out is samples else out
        good = np.flatnonzero(~bad[shot])
        gap = np.flatnonzero(bad[shot])
        for k in range(samples.shape[2]):
            out[shot, gap, k] = np.interp(gap, good, out[shot, good, k]) if good.size else 0.0
    return out


def filter_reach(*filters: np.ndarray, n: int = 4096) -> int:
    """Return how many samples to either side of a gap zero-phase filters in a row carry it."""
    total = 0
    for sos in filters:
        impulse = np.zeros(n)
        impulse[n // 2] = 1.0
        energy = scipy.signal.sosfiltfilt(sos, impulse) ** 2
        inside = np.cumsum(energy[n // 2 + 1 :] + energy[n // 2 - 1 : 0 : -1])
        total += 1 + int(np.argmax(inside + energy[n // 2] >= (1 - BEYOND) * energy.sum()))
    return total


def reaches(
    bad: Bool[np.ndarray, "shots samples"], reach: int
) -> Bool[np.ndarray, "shots samples"]:
    """Return which samples lie within `reach` of a bad one."""
    if not bad.any():
        return bad
    n = bad.shape[1]
    total = np.cumsum(np.pad(bad, ((0, 0), (reach + 1, reach))), axis=1)
    return total[:, 2 * reach + 1 : 2 * reach + 1 + n] > total[:, :n]


@dataclasses.dataclass(kw_only=True)
class GroupedMean:
    """Gather the mean over shots of traces with gaps, and its scatter, in fixed memory.

    Shots are dealt out to groups, GROUPS of them at most, so that what is kept does not grow with
    their number; up to that number every shot is a group of its own.
    """

    n_samples: int
    n_shots: int
    seen: int = 0

    def __post_init__(self):
        groups = max(min(self.n_shots, GROUPS), 1)
        self.sums = np.zeros((groups, self.n_samples))
        self.counts = np.zeros((groups, self.n_samples))

    def add(
        self, traces: Float[np.ndarray, "shots samples"], good: Bool[np.ndarray, "shots samples"]
    ) -> None:
        """Add shots; samples that are not good are left out."""
        for first in range(0, len(traces), len(self.sums)):
            part = slice(first, first + len(self.sums))
            into = (self.seen + np.arange(len(traces[part]))) % len(self.sums)
            self.sums[into] += np.where(good[part], traces[part], 0.0)
            self.counts[into] += good[part]
            self.seen += len(into)

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (mean, standard error, traces) over the good shots of every sample.

        traces: one for each group with a good sample, whose mean is `mean` and whose scatter is
        that of independent shots, gaps allowed for; NaN where no shot is good.
        """
        held = self.counts.any(axis=1)
        sums, counts = self.sums[held], self.counts[held]
        total = counts.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = sums.sum(axis=0) / total
            pulls = (sums - counts * mean) / total
            m = len(sums)
            # Groups that hold no good sample here must not count as scatter.
            filled = (counts > 0).sum(axis=0)
            dof = np.sqrt(filled / np.maximum(filled - 1, 0)) * np.sqrt(max(m - 1, 0) / max(m, 1))
            each = mean + pulls * m * dof
            error = np.sqrt(np.sum((each - mean) ** 2, axis=0) / (m * max(m - 1, 0)))
        return mean, error, each

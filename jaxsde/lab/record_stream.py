"""Streaming: the signal chain over blocks of shots, in memory that does not grow with them."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxsde.analysis.displacement import MeanSquaredDisplacement, mean_squared_displacement
from jaxsde.analysis.filters import band_pass, low_pass
from jaxsde.analysis.gaps import GroupedMean, fill_gaps, filter_reach, reaches
from jaxsde.analysis.matched import FilterBank, apply_filters
from jaxsde.lab.recordings import Losses, RecordError
from jaxsde.lab.records import Source, read_blocks
from jaxsde.lab.spec import Experiment
from jaxsde.physics.sequence import Sequence

BLOCK = 512  # shots at a time
SHOWN = 400  # shots without a gap that are kept for pictures


@dataclasses.dataclass(frozen=True, kw_only=True)
class Streamed:
    """Hold what is left of records: <D^2>, filters' outputs, losses, and some shots to show.

    outputs: (shots, 4) of shots without a gap where the filters look, rad; None without a bank.
    used: shots with a good sample.  shown: (shots, samples, quadratures).
    """

    displacement: MeanSquaredDisplacement
    outputs: np.ndarray | None
    losses: Losses
    used: int
    shown: np.ndarray


def stream(
    source: Source,
    experiment: Experiment,
    sequence: Sequence,
    bank: FilterBank | None,
    *,
    keep_clipped: bool = False,
    size: int = BLOCK,
    tell: Callable[[int, int], None] | None = None,
) -> Streamed:
    """Take records through S11 and the matched filters (S15), block by block.

    A sample that is missing, or clipped unless keep_clipped, is left out of <D^2> of its shot with
    all samples that the filters mix it into; a shot with one where the bank looks is left out of
    the outputs.  Shots that the file rejects are left out of everything.
    tell: called with shots done and their total.
    Raises RecordError if no good shot is left.
    """
    spec, dt = experiment.analysis, sequence.sample_interval
    reach = filter_reach(band_pass(spec.band, dt), low_pass(spec.cycle_average, dt))
    gathered = GroupedMean(n_samples=sequence.n_samples, n_shots=source.n_shots)
    looks = None if bank is None else np.any(np.asarray(bank.weights) != 0, axis=(0, 2))
    losses, outputs, shown, used, bias = Losses(skipped=source.skipped), [], [], 0, None
    size = min(size, source.n_shots)
    for block in read_blocks(source, size):
        losses = losses.plus(block)
        bad = block.missing | (block.clipped & (not keep_clipped)) | block.rejected[:, None]
        n = len(bad)
        record = _padded(fill_gaps(block.samples, bad), size)
        made = mean_squared_displacement(
            record,
            experiment.params,
            sequence,
            experiment.detector,
            band=spec.band,
            cycle_average=spec.cycle_average,
        )
        bias = made.noise_bias
        gathered.add(np.asarray(made.each)[:n], ~reaches(bad, reach))
        used += int((~bad).any(axis=1).sum())
        if bank is not None and looks is not None:
            whole = ~bad[:, looks].any(axis=1)
            outputs.append(np.asarray(apply_filters(record, bank))[:n][whole])
        room = SHOWN - sum(len(s) for s in shown)
        # A slice of the block would keep all of it alive: an index copies.
        shown.append(block.samples[np.flatnonzero(~bad.any(axis=1))[:room]])
        if tell is not None:
            tell(losses.shots, source.n_shots)
    if used == 0 or bias is None:
        raise RecordError(
            f"{source.path}: no shot with a good sample is left; look at its masks and limits"
        )
    mean, error, each = gathered.result()
    return Streamed(
        displacement=MeanSquaredDisplacement(
            time=sequence.time,
            mean=jnp.asarray(mean),
            stderr=jnp.asarray(error),
            each=jnp.asarray(each),
            noise_bias=bias,
        ),
        outputs=None if bank is None else np.concatenate(outputs),
        losses=losses,
        used=used,
        shown=np.concatenate(shown),
    )


def _padded(record: np.ndarray, size: int) -> jnp.ndarray:
    """Return a block of `size` shots, so that the last one needs no program of its own."""
    return jnp.asarray(np.pad(record, ((0, size - len(record)), (0, 0), (0, 0))))

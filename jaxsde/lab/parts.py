"""Parts: the ensembles that a run is made of, and the blocks that they are made in."""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from jaxsde.analysis.cells import Production
from jaxsde.analysis.sums import CELL, make_reduction
from jaxsde.engine.backends import choose_engine
from jaxsde.engine.noise import seed_words
from jaxsde.engine.outputs import GROUP
from jaxsde.engine.resolution import choose_resolution
from jaxsde.lab.config import parse_experiment
from jaxsde.lab.experiment import MAIN, REFERENCE, SCAN, ringdown_filters, scan_sequences
from jaxsde.lab.guards import engine_errors, has_reference
from jaxsde.lab.pulse import pulse_start
from jaxsde.lab.spec import Experiment, ExperimentError, build_sequence
from jaxsde.physics.sequence import Sequence

# Indices of shots are 32-bit words, and the last cells of a block may reach beyond its end.
MOST_SHOTS = 2**32 - 2**20
# Fit windows are varied by this much (S.5).
REACH = 1.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Hold one ensemble of a run: the main one, the reference without coupling, a scan's.

    stream: of its random numbers.  delta: rad/s, of a scan.  window: s, of a fit to it, or None.
    filtered: whether matched filters read it.
    """

    name: str
    stream: int
    sequence: Sequence
    shots: int
    delta: float | None = None
    window: tuple[float, float] | None = None
    filtered: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """Name the shots from first to end of a part; number is the block's, and its chunks'."""

    part: str
    number: int
    first: int
    end: int

    @property
    def shots(self) -> int:
        """How many shots the block has."""
        return self.end - self.first


def parts_of(experiment: Experiment) -> tuple[Part, ...]:
    """Return the ensembles of an experiment in the order in which they are made.

    Raises ExperimentError for more shots than there are indices.
    """
    if experiment.shots > MOST_SHOTS:
        raise ExperimentError(
            f"simulation.shots: wanted at most {MOST_SHOTS:,}, the indices that a seed has, got "
            f"{experiment.shots:,}; run several seeds"
        )
    spec, scan = experiment.analysis, experiment.gain_scan
    sequence = build_sequence(experiment)

    def window(sequence: Sequence, fit: tuple[float, float] | None) -> tuple[float, float] | None:
        if fit is None or spec.pulse is None:
            return None
        origin = pulse_start(experiment, sequence)
        return origin + fit[0], origin + fit[0] + REACH * (fit[1] - fit[0])

    alone = None if scan is not None else window(sequence, spec.fit_window)
    parts = [
        Part(
            name="main",
            stream=MAIN,
            sequence=sequence,
            shots=experiment.shots,
            window=alone,
            filtered=True,
        )
    ]
    if has_reference(experiment):
        calm = build_sequence(experiment, coupled=False)
        parts.append(
            Part(name="reference", stream=REFERENCE, sequence=calm, shots=experiment.shots)
        )
    if scan is not None:
        for i, (delta, one) in enumerate(scan_sequences(experiment)):
            parts.append(
                Part(
                    name=f"scan_{i:02d}",
                    stream=SCAN + i,
                    sequence=one,
                    shots=scan.shots,
                    delta=delta,
                    window=window(one, scan.fit_window),
                )
            )
    return tuple(parts)


def blocks_of(part: Part, block_shots: int) -> Iterator[Block]:
    """Yield the blocks of a part in order."""
    for number, first in enumerate(range(0, part.shots, block_shots)):
        end = min(first + block_shots, part.shots)
        yield Block(part=part.name, number=number, first=first, end=end)


def check_block_shots(block_shots: int, keep: str) -> None:
    """Raise ExperimentError unless blocks are 2^k cells, or groups where moments are kept."""
    least = GROUP if keep == "moments" else CELL
    cells, rest = divmod(block_shots, least)
    if rest or cells < 1 or cells & (cells - 1):
        raise ExperimentError(
            f"--block-shots: wanted {least} times a power of two, so that sums over blocks do not "
            f"depend on their size, got {block_shots}; take {least << max(cells, 1).bit_length()}"
        )


@functools.lru_cache(maxsize=2)
def open_experiment(text: str) -> tuple[Experiment, dict[str, Part]]:
    """Return the experiment of a TOML text and its parts, as every process of a run sees them."""
    experiment = parse_experiment(text, "experiment.toml")
    return experiment, {part.name: part for part in parts_of(experiment)}


@functools.lru_cache(maxsize=4)
def production(text: str, name: str, keep: str, backend: str = "auto") -> Production:
    """Return what makes and reduces the shots of a part.

    Raises ExperimentError where the engine cannot.
    """
    experiment, parts = open_experiment(text)
    part = parts[name]
    p, d, spec = experiment.params, experiment.detector, experiment.analysis
    bank = ringdown_filters(experiment, part.sequence) if part.filtered else None
    with engine_errors(experiment):
        resolution = choose_resolution(
            p,
            part.sequence,
            method=experiment.method,
            substeps=experiment.substeps,
            tolerance=experiment.tolerance,
        )
        engine, prepared = choose_engine(
            backend, p, part.sequence, d, resolution, jnp.dtype(experiment.dtype), 4
        )
    return Production(
        seed=seed_words(jax.random.fold_in(jax.random.key(experiment.seed), part.stream)),
        params=p,
        sequence=part.sequence,
        detector=d,
        prepared=prepared,
        reduction=make_reduction(
            p,
            part.sequence,
            d,
            band=spec.band,
            cycle_average=spec.cycle_average,
            window=part.window,
            products=bank is not None,
        ),
        weights=None if bank is None else bank.weights,
        backend=engine,
        resolution=resolution,
        dtype=experiment.dtype,
        keep=keep,
    )

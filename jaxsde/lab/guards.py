"""Guards of a run: what fits in memory before it, the engine's errors, what overflowed after it."""

import contextlib
import os
from collections.abc import Iterator

import numpy as np

from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.engine.simulate import Shots
from jaxsde.lab.spec import Experiment, ExperimentError, build_sequence, in_file
from jaxsde.physics.model import SIGNALS
from jaxsde.physics.sequence import Sequence
from jaxsde.physics.theory import instability_gain


def has_reference(experiment: Experiment) -> bool:
    """Tell whether a reference without coupling can be made: there is a pulse, after a stage."""
    return experiment.analysis.pulse not in (None, experiment.stages[0].name)


def total_shots(experiment: Experiment) -> int:
    """Return the shots of all ensembles of a run."""
    scan = experiment.gain_scan
    extra = 0 if scan is None else scan.shots * len(scan.delta)
    return experiment.shots * (2 if has_reference(experiment) else 1) + extra


def check_memory(experiment: Experiment, streamed: bool = False) -> None:
    """Raise ExperimentError if all records and their theory would not fit in this memory.

    streamed: the theory alone is asked about.
    """
    samples = build_sequence(experiment).n_samples
    detector = experiment.detector
    # A homodyne receiver whose angle wanders is made from both quadratures.
    turned = detector.technical is not None and detector.quadratures == ("homodyne",)
    quadratures = 2 if turned else len(detector.quadratures)
    # Records, their float64 copies in the filters, and <D^2> of every shot.
    each = samples * (6 * quadratures + 4) * 8
    records = (0 if streamed else total_shots(experiment)) * each
    # The covariance of every two samples, filters, and their products (measured: 7 and 12 copies).
    theory = 8 * samples**2 * (5 + 2 * len(SIGNALS[detector.model]) ** 2)
    needed = records + theory
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return  # this system does not tell
    if theory > 0.8 * memory and streamed:
        raise ExperimentError(
            f"sequence.stages: wanted a shot whose theory fits in 80 % of this machine's "
            f"{memory / 2**30:.1f} GiB, got {samples} samples, which need {needed / 2**30:.1f} "
            "GiB; shorten the stages"
        )
    if needed > 0.8 * memory:
        most = max(int(experiment.shots * (0.8 * memory - theory) / records), 1)
        raise ExperimentError(
            f"simulation.shots: wanted what fits in 80 % of this machine's "
            f"{memory / 2**30:.1f} GiB, got {experiment.shots} shots of {samples} samples, which "
            f"need {needed / 2**30:.1f} GiB; take at most {most} shots or shorter stages, or make "
            "any number in blocks with --keep estimates"
        )


# Fields of an experiment file that the engine's own errors begin with, under its names for them.
_TABLES = {
    "tolerance": "simulation.tolerance",
    "substeps": "simulation.substeps",
    "method": "simulation.method",
    "sample_interval": "detector.sample_interval",
    "sequence.sample_interval": "detector.sample_interval",
}


@contextlib.contextmanager
def engine_errors(experiment: Experiment) -> Iterator[None]:
    """Turn the engine's ValueError into an ExperimentError that names the file and its field."""
    try:
        yield
    except ExperimentError:
        raise
    except ValueError as error:
        field, colon, rest = str(error).partition(": ")
        message = _TABLES.get(field, field) + colon + rest
        raise ExperimentError(in_file(experiment, message)) from None


def exact_resolution(
    experiment: Experiment, sequence: Sequence, shots: Shots | None = None
) -> Resolution:
    """Return the Resolution of exact theory at the experiment's tolerance; that of shots, if exact.

    Raises ExperimentError for a tolerance that cannot be met.
    """
    if shots is not None and shots.resolution.method == "exact":
        return shots.resolution
    with engine_errors(experiment):
        return choose_resolution(experiment.params, sequence, tolerance=experiment.tolerance)


def check_finite(shots: Shots, sequence: Sequence, experiment: Experiment) -> None:
    """Raise ExperimentError, naming stage and gain, if a shot is not finite."""
    bad = np.flatnonzero(np.asarray(shots.status))
    if bad.size == 0:
        return
    finite = np.isfinite(np.asarray(shots.states)).all(axis=(0, 2))
    stage = sequence.stages[int(np.argmin(finite))] if not finite.all() else sequence.stages[-1]
    gain = float(instability_gain(experiment.params, stage.controls))
    length = stage.n_samples * sequence.sample_interval
    raise ExperimentError(
        f"stage {stage.name!r}: {bad.size} of {shots.status.shape[0]} shots overflowed "
        f"{shots.record.dtype} (first is shot {bad[0]}); its gain {gain:.3g} /s over "
        f"{length:.3g} s grows D^2 by e^{gain * length:.0f}; shorten the stage or weaken the "
        "coupling" + ("" if experiment.method == "exact" else ", or take more substeps")
    )

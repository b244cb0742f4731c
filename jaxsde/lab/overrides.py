"""Overrides: what the command line chooses in place of an experiment file."""

import dataclasses

from jaxsde.engine.resolution import METHODS
from jaxsde.lab.checks import check_experiment
from jaxsde.lab.spec import Experiment, ExperimentError

MAX_SUBSTEPS = 1_000_000


def check_seed(seed: int | None) -> None:
    """Raise ExperimentError for a seed that no file may hold either."""
    if seed is not None and not 0 <= seed < 2**63:
        raise ExperimentError(f"--seed: wanted a whole number from 0 to 2^63 - 1, got {seed}")


def override(
    experiment: Experiment,
    name: str,
    shots: int | None,
    seed: int | None,
    method: str | None,
    substeps: int | None,
) -> Experiment:
    """Return the experiment with the command line's choices, checked as a file's are."""
    if shots is not None and shots < 1:
        raise ExperimentError(f"--shots: wanted a whole number, at least 1, got {shots}")
    check_seed(seed)
    if method is not None and method not in METHODS:
        raise ExperimentError(f"--method: wanted one of {', '.join(METHODS)}, got {method!r}")
    if substeps is not None and not 1 <= substeps <= MAX_SUBSTEPS:
        raise ExperimentError(
            f"--substeps: wanted a whole number from 1 to {MAX_SUBSTEPS}, got {substeps}"
        )
    given = dict(shots=shots, seed=seed, method=method, substeps=substeps)
    changes = {key: value for key, value in given.items() if value is not None}
    scan = experiment.gain_scan
    if scan is not None and shots is not None:
        scan = dataclasses.replace(scan, shots=min(scan.shots, shots))
    chosen = dataclasses.replace(experiment, gain_scan=scan, **changes)
    if chosen.method == "exact" and chosen.substeps != 1:
        raise ExperimentError(
            f"{name}: simulation.substeps: the exact method takes none, got {chosen.substeps}; "
            "leave it out, or choose interaction_euler or euler_maruyama"
        )
    try:
        check_experiment(chosen)
    except ValueError as error:
        raise ExperimentError(f"{name}: {error}") from None
    return chosen

"""Streamed: the analysis of an ensemble from the sums of its blocks, shots not kept."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsde.analysis.displacement import expected_displacement
from jaxsde.analysis.moments import true_moments
from jaxsde.analysis.sums import (
    summed_displacement,
    summed_moments,
    tree_sum,
    unpack,
)
from jaxsde.engine.simulate import simulate
from jaxsde.lab.chunks import Key, Store, read_rows
from jaxsde.lab.experiment import (
    Ensemble,
    Progress,
    Results,
    fit_growth,
    reconstruct,
    ringdown_filters,
)
from jaxsde.lab.guards import engine_errors, exact_resolution
from jaxsde.lab.parts import Part, production
from jaxsde.lab.spec import Experiment
from jaxsde.physics.model import N_STATE

# Shots of each ensemble that are made again for the spectrogram.
SHOWN = 256


def combine(store: Store, entries: dict[Key, Any], part: str, name: str = "sums") -> np.ndarray:
    """Return the total of a part's blocks, added in the fixed order of `tree_sum`.

    Raises ValueError if none is done.
    """
    return tree_sum(read_rows(store, part, name, entries))


def analyse_sums(
    experiment: Experiment,
    text: str,
    parts: tuple[Part, ...],
    totals: Mapping[str, np.ndarray],
    keep: str,
    tell: Progress,
) -> Results:
    """Return the Results of a run from its sums, as `analyse` does from shots.

    totals: of every part.  Of the shots themselves the Results hold the first SHOWN.
    """
    steps, done = len(parts) + 3, 0

    def step():
        nonlocal done
        done += 1
        tell("analyse", done, steps)

    made = {}
    for part in parts:
        made[part.name] = _ensemble(experiment, text, part, totals[part.name], keep)
        step()
    main = made["main"]
    points = [(p.delta, made[p.name]) for p in parts if p.delta is not None]
    growth = fit_growth(experiment, main, points)
    step()
    p, sequence = experiment.params, main.sequence
    bank = ringdown_filters(experiment, sequence)
    resolution = exact_resolution(experiment, sequence, main.shots)
    sums = unpack(production(text, "main", keep).reduction, totals["main"])
    moments = summed_moments(sums, bank, p, sequence, experiment.detector, resolution)
    c_theory = np.asarray(true_moments(p, sequence, bank.stage, resolution=resolution))
    step()
    beat = reconstruct(experiment, sequence, moments, resolution)
    step()
    return Results(
        experiment=experiment,
        main=main,
        reference=made.get("reference"),
        bank=bank,
        moments=moments,
        C_theory=c_theory,
        beat=beat,
        growth=growth,
    )


def _ensemble(
    experiment: Experiment, text: str, part: Part, total: np.ndarray, keep: str
) -> Ensemble:
    p, d, spec = experiment.params, experiment.detector, experiment.analysis
    reduction = production(text, part.name, keep).reduction
    sums = unpack(reduction, total)
    with engine_errors(experiment):
        shots = simulate(
            jax.random.fold_in(jax.random.key(experiment.seed), part.stream),
            p,
            part.sequence,
            d,
            min(SHOWN, part.shots) if part.delta is None else 1,
            method=experiment.method,
            substeps=experiment.substeps,
            tolerance=experiment.tolerance,
            dtype=jnp.dtype(experiment.dtype),
        )
    expected = expected_displacement(
        p,
        part.sequence,
        d,
        resolution=exact_resolution(experiment, part.sequence, shots),
        band=spec.band,
        cycle_average=spec.cycle_average,
    )
    return Ensemble(
        sequence=part.sequence,
        shots=shots,
        displacement=summed_displacement(reduction, sums, part.sequence.time),
        expected=np.asarray(expected),
        counted=(int(sums["shots"]), int(sums["clipped"])),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StateMoments:
    """Hold means over shots at the end of every sample, free of the receiver.

    displacement, stderr: <D^2>, (rad/s)^2.  covariance: <x_i x_j>, j <= i, row by row.
    """

    displacement: np.ndarray
    stderr: np.ndarray
    covariance: np.ndarray


def state_moments(total: np.ndarray, shots: int) -> StateMoments:
    """Return the StateMoments of a part from the sums that --keep moments keeps."""
    rows = total.reshape(-1, 2 + N_STATE * (N_STATE + 1) // 2) / shots
    spread = np.sqrt(np.maximum(rows[:, 1] - rows[:, 0] ** 2, 0.0) / max(shots - 1, 1))
    return StateMoments(displacement=rows[:, 0], stderr=spread, covariance=rows[:, 2:])

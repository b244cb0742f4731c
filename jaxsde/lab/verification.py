"""Verification: every receiver's shots against exact theory, to know a machine by."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxsde.analysis.verify import Comparison, compare_record, compare_states
from jaxsde.engine.detect import Detector
from jaxsde.engine.resolution import Resolution
from jaxsde.engine.simulate import Shots, simulate
from jaxsde.lab.spec import Experiment, build_sequence

RECEIVERS = ("file", "all")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
    """Hold the outcome: comparisons of each receiver by its name, and what ran.

    The states, which no receiver touches, come first under the name STATES.
    """

    receivers: dict[str, list[Comparison]]
    backend: str
    note: str
    resolution: Resolution
    n_shots: int

    @property
    def groups(self) -> list[Comparison]:
        """All comparisons, each group with its receiver's name before its own."""
        return [
            dataclasses.replace(g, group=f"{name}: {g.group}" if name != STATES else g.group)
            for name, groups in self.receivers.items()
            for g in groups
        ]


STATES = "states"


def receiver_name(detector: Detector) -> str:
    """Return "I Q, adiabatic", "homodyne 90 deg, input-output" or "D" of a detector."""
    if detector.quadratures == ("D",):
        return "D"
    kind = " ".join(detector.quadratures)
    if detector.quadratures == ("homodyne",):
        kind += f" {math.degrees(float(np.asarray(detector.angle))):.0f} deg"
    return f"{kind}, {detector.model.replace('_', '-')}"


def receivers(detector: Detector, which: str) -> dict[str, Detector]:
    """Return receivers to verify by name: that of the file, and for "all" every other kind.

    Technical layers, which theory does not know, are left out.
    """
    own = dataclasses.replace(detector, technical=None)
    found = {receiver_name(own): own}
    if which == "all":
        ideal = own.quadratures == ("D",)
        base = Detector(sample_interval=own.sample_interval) if ideal else own
        for model in ("adiabatic", "input_output"):
            for quadratures in (("I", "Q"), ("homodyne",)):
                other = dataclasses.replace(base, model=model, quadratures=quadratures)
                found.setdefault(receiver_name(other), other)
    return found


def verify_experiment(
    experiment: Experiment, which: str, tell: Callable[[str, int, int], None]
) -> Verification:
    """Simulate an experiment with each receiver and compare it with theory.

    which: "file" (the experiment's own receiver) or "all".
    """
    sequence, params = build_sequence(experiment), experiment.params
    wanted = receivers(experiment.detector, which)
    found: dict[str, list[Comparison]] = {}
    ran: Shots | None = None
    for number, (name, detector) in enumerate(wanted.items()):
        shots = simulate(
            jax.random.key(experiment.seed),
            params,
            sequence,
            detector,
            experiment.shots,
            method=experiment.method,
            substeps=experiment.substeps,
            tolerance=experiment.tolerance,
            dtype=jax.numpy.dtype(experiment.dtype),
        )
        tell("verify", 2 * number + 1, 2 * len(wanted))
        if ran is None:
            ran = shots
            found[STATES] = compare_states(shots, params, sequence, tolerance=experiment.tolerance)
        found[name] = compare_record(
            shots,
            params,
            sequence,
            detector,
            stage=experiment.analysis.ringdown,
            tolerance=experiment.tolerance,
        )
        tell("verify", 2 * number + 2, 2 * len(wanted))
    assert ran is not None
    return Verification(
        receivers=found,
        backend=ran.backend,
        note=ran.note,
        resolution=ran.resolution,
        n_shots=experiment.shots,
    )


def verification_record(outcome: Verification, limit: float) -> dict[str, Any]:
    """Return what verification.json holds; numbers that are not finite are null."""

    def plain(values: np.ndarray) -> list[float | None]:
        return [float(v) if np.isfinite(v) else None for v in values]

    return {
        "shots": outcome.n_shots,
        "backend": outcome.backend,
        "resolution": dataclasses.asdict(outcome.resolution),
        "limit": limit,
        "beyond": sum(g.beyond(limit) for g in outcome.groups),
        "receivers": {
            name: [
                {
                    "group": g.group,
                    "unit": g.unit,
                    "names": list(g.names),
                    "measured": plain(g.measured),
                    "theory": plain(g.theory),
                    "error": plain(g.error),
                    "z": plain(g.z),
                }
                for g in groups
            ]
            for name, groups in outcome.receivers.items()
        },
    }

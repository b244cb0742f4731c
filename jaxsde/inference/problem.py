"""Problem: data sets, the models that predict them, and what is free in them."""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence as Series
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jaxsde.engine.detect import Detector, check_detector
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.engine.simulate import Shots
from jaxsde.inference.evidence import Evidence, arrange, check_record
from jaxsde.inference.likelihood import TOLERANCE
from jaxsde.inference.tables import interval_of
from jaxsde.inference.transform import (
    PARAMETERS,
    Free,
    Model,
    Prior,
    check_free,
    check_priors,
    known_names,
    make_free,
    placed,
    residual,
    value_of,
    values_of,
)
from jaxsde.physics.params import Leaf, Params, check_params
from jaxsde.physics.sequence import Sequence, check_sequence


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSet:
    """Hold records of one kind of shot, and how they were made.

    record: (shots, samples, outputs), W; NaN where a sample is missing.
    sequence, detector: of these shots.
    own: names of free parameters that this data set has a value of its own of.
    given: values of Params fields that are known to differ in it, as g_s = 0 of unpolarised atoms.
    name: distinguishes its own parameters in the results; its number by default.
    """

    record: Any
    sequence: Sequence
    detector: Detector
    own: tuple[str, ...] = dataclasses.field(default=(), metadata=dict(static=True))
    given: Mapping[str, Leaf] = dataclasses.field(default_factory=dict)
    name: str = dataclasses.field(default="", metadata=dict(static=True))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Hold all that a calibration is about; models are at the start.

    mesh: of the devices that share the likelihood's shots; None is one device.
    """

    models: tuple[Model, ...]
    records: tuple[Any, ...]
    frees: tuple[Free, ...]
    priors: Mapping[str, Any]
    resolutions: tuple[Resolution, ...] = dataclasses.field(metadata=dict(static=True))
    mesh: Mesh | None = dataclasses.field(default=None, metadata=dict(static=True))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the free parameters."""
        return tuple(f.name for f in self.frees)

    @property
    def n_shots(self) -> int:
        """Number of shots in all data sets."""
        return sum(len(record) for record in self.records)


def make_problem(
    params: Params,
    data: Any,
    free: Series[str],
    *,
    sequence: Sequence | None = None,
    detector: Detector | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    priors: Mapping[str, Prior] | None = None,
    mesh: Mesh | None = None,
) -> Problem:
    """Return the Problem of data: Shots, a record, a DataSet or several of them.

    Raises ValueError for what cannot be.
    """
    check_params(params)
    sets = _data_sets(data, sequence, detector)
    models, records, resolutions = [], [], []
    for number, one in enumerate(sets):
        check_sequence(one.sequence)
        check_detector(one.detector)
        label = "record" if len(sets) == 1 else f"data[{number}].record"
        model = _model(params, one, number)
        record = check_record(one.record, one.sequence, model.detector, label)
        if np.isinf(record).any():
            raise ValueError(f"{label}: wanted finite samples, or NaN where missing, got infinity")
        models.append(model)
        records.append(record)
        resolutions.append(choose_resolution(model.params, one.sequence, tolerance=TOLERANCE))
    frees = _frees(models, sets, free, dict(bounds or {}))
    priors = dict(priors or {})
    check_priors(priors, frees)
    return Problem(
        models=tuple(models),
        records=tuple(records),
        frees=frees,
        priors=priors,
        resolutions=tuple(resolutions),
        mesh=mesh,
    )


def _data_sets(data: Any, sequence: Any, detector: Any) -> list[DataSet]:
    if isinstance(data, DataSet):
        return [data]
    if isinstance(data, list | tuple):
        wrong = [type(one).__name__ for one in data if not isinstance(one, DataSet)]
        if wrong or not data:
            raise ValueError(
                f"data: wanted Shots, a record or a list of DataSet, got {wrong[0] if wrong else 0}"
            )
        return list(data)
    if sequence is None or detector is None:
        missing = "sequence" if sequence is None else "detector"
        raise ValueError(f"{missing}: wanted the one that the records were made with, got none")
    record = data.record if isinstance(data, Shots) else data
    return [DataSet(record=record, sequence=sequence, detector=detector)]


def _model(params: Params, one: DataSet, number: int) -> Model:
    for name in one.given:
        if name not in (*PARAMETERS, "epsilon"):
            raise ValueError(
                f"data[{number}].given: wanted fields of Params, {', '.join(PARAMETERS)}, "
                f"got {name!r}"
            )
    own = dataclasses.replace(params, **one.given)
    check_params(own)
    # Local oscillator and digitiser are no part of the model that is fitted.
    detector = dataclasses.replace(one.detector, technical=None)
    return Model(params=own, sequence=one.sequence, detector=detector)


def _frees(models, sets, free, bounds) -> tuple[Free, ...]:
    names = tuple(free)
    for model in models:
        # A stage that one data set lacks may still be free in another.
        held = [n for n in names if "." not in n or n.startswith("detector.")]
        check_free(model, held or names)
    for name in bounds:
        if name not in names:
            raise ValueError(
                f"bounds: wanted names of free parameters ({', '.join(names)}), got {name!r}"
            )
    made = []
    for name in dict.fromkeys(names):
        holders = [d for d, model in enumerate(models) if name in _known(model)]
        if not holders or names.count(name) > 1:
            check_free(models[0], names)
        apart = [d for d in holders if name in sets[d].own]
        # A value given for one data set is not the shared one.
        shared = tuple(d for d in holders if d not in apart and name not in sets[d].given)
        if shared:
            made.append(make_free(models, name, bounds, shared, name))
        for d in apart:
            label = f"{name}[{sets[d].name or d}]"
            made.append(make_free(models, name, bounds, (d,), label))
    for d, one in enumerate(sets):
        for name in one.own:
            if name not in names:
                raise ValueError(
                    f"data[{d}].own: wanted names of free parameters ({', '.join(names)}), "
                    f"got {name!r}"
                )
    return tuple(made)


def _known(model: Model) -> set[str]:

    return set(known_names(model))


def model_at(problem: Problem, u: Float[Any, "free"], data: int) -> Model:
    """Return the model of a data set at u."""
    return placed(problem.models[data], problem.frees, u, data)


def prior_loss(problem: Problem, u: Float[Any, "free"]) -> Float[Array, ""]:
    """Return -log of the priors' density at u, up to a constant: sum of residual^2/2."""
    return jnp.sum(prior_residuals(problem, u) ** 2) / 2


def prior_residuals(problem: Problem, u: Float[Any, "free"]) -> Float[Array, "priors"]:
    """Return every prior's residual, in standard deviations."""
    found = [
        residual(problem.priors[f.field], value_of(f, u[i]))
        for i, f in enumerate(problem.frees)
        if f.field in problem.priors
    ]
    return jnp.stack([jnp.asarray(r, float) for r in found]) if found else jnp.zeros(0)


def values_at(problem: Problem, u: Float[Any, "free"]) -> np.ndarray:
    """Return the free parameters' values at u, SI."""
    return np.asarray(values_of(problem.frees, jnp.asarray(u)))


def evidence_of(problem: Problem, data: int) -> tuple[tuple[Evidence, ...], Array]:
    """Return a data set's records ready for the filter, and each sample's interval."""
    which = interval_of(problem.models[data].sequence, problem.resolutions[data])
    return arrange(problem.records[data]), jnp.asarray(which)

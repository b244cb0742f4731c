"""Free parameters on unconstrained scales, with bounds, of one data set or of several.

A free parameter is a field of Params, "detector.FIELD", "STAGE.FIELD" of a stage's controls, or
"nbar", a factor of the photon numbers of all stages.  A setting that a sequence has in several
places (the ends of a ramp, the trap at rest) is one setting and moves as one.
"""

import dataclasses
import math
from collections.abc import Mapping
from collections.abc import Sequence as Series
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.engine.detect import Detector
from jaxsde.physics.params import Leaf, Params
from jaxsde.physics.sequence import Controls, Sequence

PARAMETERS = tuple(f.name for f in dataclasses.fields(Params) if f.name != "epsilon")
OF_DETECTOR = ("efficiency", "collection", "S_SN", "angle")
OF_STAGE = tuple(f.name for f in dataclasses.fields(Controls))
FREQUENCIES = ("omega_m", "omega_s")
# Scales that reach across zero; all others keep the sign of their start.
SIGNED = ("angle", "delta_pc")

# Share of a range that is left where a parameter counts as being at its edge.
EDGE = 1e-3

# Where a leaf lies: ("params", field), ("detector", field) or (stage, field, end of a ramp).
Path = tuple[Any, ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """Hold what predicts a record: parameters, sequence and detector."""

    params: Params
    sequence: Sequence
    detector: Detector


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Free:
    """Hold one free parameter: its unconstrained scale u, 0 at the start, and where it acts.

    name: as in the results.  field: its name without the data set's.
    scale: "half" has value = edge + (start - edge) exp(u), with edge 0 for the log of a
        magnitude; "between" has low + (high - low)/(1 + exp(-u - u0)); "line" has start + u unit.
    data: numbers of the data sets it acts on.  paths: of the leaves, for each of these.
    factor: whether the leaves are multiplied by the value, or are it.
    """

    name: str = dataclasses.field(metadata=dict(static=True))
    field: str = dataclasses.field(metadata=dict(static=True))
    scale: str = dataclasses.field(metadata=dict(static=True))
    data: tuple[int, ...] = dataclasses.field(metadata=dict(static=True))
    paths: tuple[tuple[Path, ...], ...] = dataclasses.field(metadata=dict(static=True))
    factor: bool = dataclasses.field(metadata=dict(static=True))
    start: Leaf
    low: Leaf
    high: Leaf
    unit: Leaf


def value_of(free: Free, u: Leaf) -> Leaf:
    """Return the value of a free parameter at u, in SI units."""
    if free.scale == "line":
        return free.start + free.unit * u
    if free.scale == "half":
        edge = jnp.where(jnp.isfinite(free.low), free.low, free.high)
        return edge + (free.start - edge) * jnp.exp(u)
    share = (free.start - free.low) / (free.high - free.low)
    return free.low + (free.high - free.low) * jax.nn.sigmoid(u + jnp.log(share / (1 - share)))


def u_of(free: Free, value: float) -> float:
    """Return the u of a value, the inverse of value_of."""
    if free.scale == "line":
        return (value - free.start) / free.unit
    if free.scale == "half":
        edge = free.low if math.isfinite(free.low) else free.high
        return math.log((value - edge) / (free.start - edge))
    shares = [(v - free.low) / (free.high - free.low) for v in (value, free.start)]
    inside, before = (math.log(s / (1 - s)) for s in shares)
    return inside - before


def edges_of(frees: tuple[Free, ...], u: np.ndarray) -> np.ndarray:
    """Return -1 or 1 where u has run to the edge of its parameter's range, down or up, else 0.

    An edge is reached where less than EDGE of the way to it from the start is left.
    """
    out = np.zeros(len(frees))
    for i, free in enumerate(frees):
        if free.scale == "half":
            out[i] = -1.0 if u[i] < math.log(EDGE) else 0.0
        elif free.scale == "between":
            width, value = free.high - free.low, float(value_of(free, u[i]))
            below = value - free.low < EDGE * width
            out[i] = -1.0 if below else float(free.high - value < EDGE * width)
    return out


def values_of(frees: tuple[Free, ...], u: Float[Any, "free"]) -> Float[Array, "free"]:
    """Return the values of all free parameters at u, in SI units."""
    return jnp.stack([jnp.asarray(value_of(f, u[i]), float) for i, f in enumerate(frees)])


def placed(model: Model, frees: tuple[Free, ...], u: Float[Any, "free"], data: int) -> Model:
    """Return a data set's model with every free parameter that acts on it at u."""
    for i, free in enumerate(frees):
        if data in free.data:
            value = value_of(free, u[i])
            for path in free.paths[free.data.index(data)]:
                old = _get(model, path)
                model = _put(model, path, old * value if free.factor else value)
    return model


def _get(model: Model, path: Path) -> Leaf:
    if path[0] in ("params", "detector"):
        return getattr(getattr(model, path[0]), path[1])
    value = getattr(model.sequence.stages[path[0]].controls, path[1])
    return value if path[2] is None else value[path[2]]


def _put(model: Model, path: Path, value: Leaf) -> Model:
    if path[0] in ("params", "detector"):
        changed = dataclasses.replace(getattr(model, path[0]), **{path[1]: value})
        return dataclasses.replace(model, **{path[0]: changed})
    index, field, end = path
    stages = list(model.sequence.stages)
    controls = stages[index].controls
    if end is not None:
        ends = list(getattr(controls, field))
        ends[end] = value
        value = tuple(ends)
    controls = dataclasses.replace(controls, **{field: value})
    stages[index] = dataclasses.replace(stages[index], controls=controls)
    return dataclasses.replace(
        model, sequence=dataclasses.replace(model.sequence, stages=tuple(stages))
    )


# --- names ----------------------------------------------------------------------------------------


def known_names(model: Model) -> list[str]:
    """Return the names of all that may be free in a model."""
    detector = [f"detector.{field}" for field in OF_DETECTOR]
    stages = [
        f"{stage.name}.{field}"
        for stage in model.sequence.stages
        for field in OF_STAGE
        if getattr(stage.controls, field) is not None
        and not isinstance(getattr(stage.controls, field), tuple)
    ]
    return [*PARAMETERS, "nbar", *detector, *stages]


def check_free(model: Model, free: Series[str]) -> tuple[str, ...]:
    """Return the names of the free parameters, checked.

    Raises ValueError for an unknown, doubled or discrete name, or none at all.
    """
    known = known_names(model)
    names = tuple(free)
    if not names:
        raise ValueError(f"free: wanted at least one of {', '.join(PARAMETERS)}, got none")
    for name in names:
        if name not in known:
            raise ValueError(f"free: wanted names out of {', '.join(known)}, got {name!r}")
        if names.count(name) > 1:
            raise ValueError(f"free: wanted each name once, got {name!r} {names.count(name)} times")
    return names


def paths_of(model: Model, name: str) -> tuple[Path, ...]:
    """Return the leaves that a free parameter's name moves in a model."""
    head, _, field = name.rpartition(".")
    if name == "nbar":
        return tuple(p for p, v in _settings(model.sequence, "nbar") if v is not None)
    if head == "detector":
        return (("detector", field),)
    if not head:
        own: tuple[Path, ...] = (("params", name),)
        if name != "omega_m":
            return own
        rest = float(np.asarray(model.params.omega_m))
        settings = _settings(model.sequence, name)
        same = _same(model.sequence, name, rest)
        if not same and all(v is not None for _, v in settings):
            raise ValueError(
                f"free: omega_m: wanted a stage at params.omega_m, {rest:.6g} rad/s, got stages "
                "that all set another one; make the sequence with the same start, or name a "
                f"stage's, such as {model.sequence.stages[-1].name}.omega_m"
            )
        return own + same
    index = [stage.name for stage in model.sequence.stages].index(head)
    value = float(np.asarray(getattr(model.sequence.stages[index].controls, field)))
    return _same(model.sequence, field, value)


def _settings(sequence: Sequence, field: str) -> list[tuple[Path, Leaf]]:
    """Return (path, value) of a field in all stages, both ends of a ramp apart."""
    found: list[tuple[Path, Leaf]] = []
    for index, stage in enumerate(sequence.stages):
        value = getattr(stage.controls, field)
        if isinstance(value, tuple):
            found += [((index, field, end), v) for end, v in enumerate(value)]
        else:
            found.append(((index, field, None), value))
    return found


def _same(sequence: Sequence, field: str, value: float) -> tuple[Path, ...]:
    settings = _settings(sequence, field)
    return tuple(p for p, v in settings if v is not None and float(np.asarray(v)) == value)


def make_free(
    models: Series[Model],
    name: str,
    bounds: Mapping[str, tuple[float, float]],
    data: tuple[int, ...],
    label: str,
) -> Free:
    """Return the Free of a name that acts on the data sets numbered `data`.

    Raises ValueError for a start at zero or one that its bounds exclude.
    """
    paths = tuple(paths_of(models[d], name) for d in data)
    start = 1.0 if name == "nbar" else float(np.asarray(_get(models[data[0]], paths[0][0])))
    low, high = bounds.get(name, (-math.inf, math.inf))
    if not low < high:
        raise ValueError(f"bounds: {name}: wanted (low, high) with low < high, got ({low}, {high})")
    if not low < start < high:
        raise ValueError(
            f"bounds: {name}: wanted bounds around its start {start:.6g}, got ({low:.6g}, "
            f"{high:.6g}); start inside of them, or widen them"
        )
    unit = 1.0
    if math.isfinite(low) and math.isfinite(high):
        scale = "between"
    elif math.isfinite(low) or math.isfinite(high):
        scale = "half"
    elif name.rpartition(".")[2] in SIGNED:
        scale, unit = "line", max(abs(start), 1.0)
    elif start == 0:
        raise ValueError(
            f"free: {name} starts at 0, where its scale and sign are unknown; start it at a "
            "guess of the right sign and order of magnitude, or give it bounds"
        )
    else:
        scale = "half"
        low, high = (0.0, math.inf) if start > 0 else (-math.inf, 0.0)
    return Free(
        name=label, field=name, scale=scale, data=data, paths=paths, factor=name == "nbar",
        start=start, low=low, high=high, unit=unit,
    )  # fmt: skip


# --- priors ---------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Hold what an independent calibration found of a parameter: mean and standard error, SI."""

    mean: Leaf
    stderr: Leaf


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LogNormal:
    """Hold a prior by which log(value/median) has a standard deviation: a relative error.

    median: SI, of the parameter's sign.  spread: such as 0.1 for 10 %.
    """

    median: Leaf
    spread: Leaf


Prior = Gaussian | LogNormal


def residual(prior: Prior, value: Leaf) -> Leaf:
    """Return how many standard deviations a value is off; -log p of it is half its square."""
    if isinstance(prior, Gaussian):
        return (value - prior.mean) / prior.stderr
    return jnp.log(value / prior.median) / prior.spread


def check_priors(priors: Mapping[str, Any], frees: Series[Free]) -> None:
    """Raise ValueError for priors of what is not free, or that cannot be."""
    fields = {f.field: f for f in frees}
    for name, prior in priors.items():
        if name not in fields:
            raise ValueError(
                f"priors: wanted names of free parameters ({', '.join(fields)}), got {name!r}"
            )
        if not isinstance(prior, Gaussian | LogNormal):
            raise ValueError(f"priors: {name}: wanted a Gaussian or a LogNormal, got {prior!r}")
        width = prior.stderr if isinstance(prior, Gaussian) else prior.spread
        if not (np.isfinite(float(width)) and float(width) > 0):
            raise ValueError(f"priors: {name}: wanted a positive width, got {width}")
        if isinstance(prior, LogNormal) and not float(prior.median) * fields[name].start > 0:
            raise ValueError(
                f"priors: {name}: wanted a median of the start's sign, got {prior.median}"
            )

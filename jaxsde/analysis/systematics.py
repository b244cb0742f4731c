"""Systematics: how far estimates of C move when what they take for known does (S.6).

Every draw of the parameters has filters, mixing and biases of its own; all see the same records.
Second moments of outputs are w R w^T with R the records' own second moments, made once: draws cost
the same for any number of records, which may come in blocks.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.analysis.inversion import COLUMNS, ROWS, mixing_matrix
from jaxsde.analysis.matched import FilterBank, matched_filter
from jaxsde.analysis.moments import QUANTITIES, derived_quantities
from jaxsde.engine.covariance import gauss_hermite, state_at
from jaxsde.engine.detect import Detector
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.engine.response import filter_response
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence

LEVEL = 0.6827  # of the central interval
CHUNK = 8  # draws whose mixing is made together: few enough to stay in a core's cache


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Systematics:
    """Hold what draws of the parameters make of C.

    C: upper triangles.  values: of QUANTITIES.  low, high: central 68 % of each, phases unwrapped
    around that of the mean.  drawn: {name: (draws,)}, of the parameters.
    """

    C: Float[Array, "draws 10"]
    values: Float[Array, "draws 6"]
    low: Float[np.ndarray, "6"]
    high: Float[np.ndarray, "6"]
    drawn: dict[str, np.ndarray]

    def interval(self, name: str) -> tuple[float, float]:
        """Return (low, high) of one of QUANTITIES."""
        i = QUANTITIES.index(name)
        return float(self.low[i]), float(self.high[i])


def record_moments(
    record: Float[Array, "shots samples quadratures"], bank: FilterBank
) -> Float[Array, "used used"]:
    """Return the mean over shots of y y^T at the samples that a bank's filters see (W^2).

    Means of blocks of shots, weighted by their number, are those of all: records may be streamed.
    """
    return _second_moments(record, jnp.asarray(_used(bank)))


def _used(bank: FilterBank) -> np.ndarray:
    """Return the indices of the samples that have weights, over samples and quadratures."""
    return np.flatnonzero(np.any(np.asarray(bank.weights) != 0, axis=0).reshape(-1))


@jax.jit
def _second_moments(record, used):
    y = record.reshape(record.shape[0], -1)[:, used]
    return (y.T @ y).astype(jnp.result_type(float)) / record.shape[0]


def filter_second_moments(
    weights: Float[Array, "draws 4 used"], moments: Float[Array, "used used"]
) -> Float[Array, "draws 10"]:
    """Return <q q^T> of every filter set, upper triangles: w R w^T in one product."""
    draws, four, used = weights.shape
    through = (weights.reshape(draws * four, used) @ moments).reshape(draws, four, used)
    return jnp.einsum("dit,djt->dij", through, weights)[:, ROWS, COLUMNS]


def systematic_moments(
    key: Array,
    moments: Float[Array, "used used"],
    params: Params,
    sequence: Sequence,
    detector: Detector,
    uncertainties: Mapping[str, float],
    *,
    draws: int = 1000,
    stage: str = "ringdown",
    start: int = 0,
    stop: int | None = None,
    nodes: tuple[int, int] = (5, 3),
    resolution: Resolution | None = None,
) -> Systematics:
    """Return C of draws of the parameters about their calibrated values, independent normals (S.6).

    moments: of `record_moments` with the matched filters of params.
    uncertainties: {name: standard error}, SI, of fields of Params, "detector.efficiency",
        "detector.S_SN" or "nbar" of the stage.  omega_m moves the trap at rest.
    start, stop: window of the filters, samples of the stage.  nodes: of the average over jitter.
    What the pulse's phases have in common with the ringdown's is taken from params themselves.
    Raises ValueError for an unknown name, a standard error that is not positive, or less than 2
    draws.
    """
    _check(uncertainties, params, draws)
    resolution = choose_resolution(params, sequence) if resolution is None else resolution
    bank = matched_filter(params, sequence, detector, stage=stage, start=start, stop=stop)
    used = _used(bank)
    if moments.shape != (len(used), len(used)):
        raise ValueError(
            f"moments: wanted ({len(used)}, {len(used)}), of the samples that these filters see, "
            f"got {moments.shape}; make them by record_moments with the same window"
        )
    z, w = gauss_hermite(nodes)
    state = state_at(params, sequence, bank.stage, z, resolution)
    names = tuple(uncertainties)
    spread = jnp.asarray([float(uncertainties[n]) for n in names])
    offsets = jax.random.normal(key, (draws, len(names))) * spread[None]

    common = params, sequence, detector, state, z, w, jnp.asarray(used)
    weights, mixing, bias = _drawn(common, offsets, names, (stage, start, stop), resolution)
    raw = filter_second_moments(weights, moments)
    c = jnp.linalg.solve(mixing, (raw - bias)[..., None])[..., 0]
    values = jax.vmap(derived_quantities)(c)
    low, high = _central(np.asarray(values), np.asarray(derived_quantities(c.mean(axis=0))))
    at = {n: np.asarray(offsets[:, i]) for i, n in enumerate(names)}
    return Systematics(C=c, values=values, low=low, high=high, drawn=at)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _drawn(common, offsets, names: tuple[str, ...], window: tuple, resolution: Resolution):
    """Return weights, mixing and bias of every draw, CHUNK of them at a time."""
    params, sequence, detector, state, z, w, used = common
    stage, start, stop = window
    index = [s.name for s in sequence.stages].index(stage)
    mean = jnp.einsum("k,kij->ij", w, state)[:4, :4]
    beyond = state.at[:, :4, :4].add(-mean)

    def one(offset):
        p, s, d = moved(params, sequence, detector, index, dict(zip(names, offset, strict=True)))
        bank = matched_filter(p, s, d, stage=stage, start=start, stop=stop)
        h, noise = filter_response(p, s, d, bank.weights, index, z, resolution)
        bias = jnp.einsum("k,kij->ij", w, h @ beyond @ jnp.swapaxes(h, 1, 2) + noise)
        seen = bank.weights.reshape(4, -1)[:, used]
        return seen, mixing_matrix(h[:, :, :4], w), bias[ROWS, COLUMNS]

    return jax.lax.map(one, offsets, batch_size=CHUNK)


def moved(
    params: Params, sequence: Sequence, detector: Detector, stage: int, offsets: Mapping
) -> tuple[Params, Sequence, Detector]:
    """Return params, sequence and detector with offsets added, by the names of systematic_moments.

    In the sequence the stage alone is moved: the others are over when its record begins.
    """
    controls = sequence.stages[stage].controls
    for name, offset in offsets.items():
        if name.startswith("detector."):
            field = name.removeprefix("detector.")
            detector = dataclasses.replace(detector, **{field: getattr(detector, field) + offset})
        elif name == "nbar":
            controls = dataclasses.replace(controls, nbar=controls.nbar + offset)
        else:
            params = dataclasses.replace(params, **{name: getattr(params, name) + offset})
        if name == "omega_m" and controls.omega_m is not None:
            controls = dataclasses.replace(controls, omega_m=controls.omega_m + offset)
    stages = list(sequence.stages)
    stages[stage] = dataclasses.replace(stages[stage], controls=controls)
    return params, dataclasses.replace(sequence, stages=tuple(stages)), detector


def _central(values: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the central LEVEL of every quantity; phases relative to that of the mean."""
    apart = values - centre
    phases = np.array([name.startswith("arg") for name in QUANTITIES])
    apart[:, phases] = np.angle(np.exp(1j * apart[:, phases]))
    low, high = np.quantile(apart, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return centre + low, centre + high


def _check(uncertainties: Mapping[str, float], params: Params, draws: int) -> None:
    known = {field.name for field in dataclasses.fields(params)} - {"epsilon", "n_m0", "n_s0"}
    known |= {"nbar", "detector.efficiency", "detector.collection", "detector.S_SN"}
    if draws < 2:
        raise ValueError(f"draws: wanted at least 2 to tell a spread, got {draws}")
    if not uncertainties:
        raise ValueError("uncertainties: wanted the standard error of a parameter, got none")
    for name, error in uncertainties.items():
        if name not in known:
            raise ValueError(
                f"uncertainties: wanted names among {', '.join(sorted(known))}, got {name!r}"
            )
        if not (np.isfinite(error) and error > 0):
            raise ValueError(f"uncertainties[{name!r}]: wanted a positive number, got {error}")

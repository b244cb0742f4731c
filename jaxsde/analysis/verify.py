"""Verify: moments of simulated shots against exact covariance theory, as z-scores."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxsde.analysis.matched import apply_filters, matched_filter
from jaxsde.analysis.moments import COLUMNS, ROWS, estimate_moments, true_moments
from jaxsde.engine.covariance import choose_nodes, covariance, filter_covariance, gauss_hermite
from jaxsde.engine.detect import Detector
from jaxsde.engine.plan import Resolution, choose_resolution
from jaxsde.engine.simulate import Shots
from jaxsde.physics.model import STATE
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence

RECORD_SAMPLES = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Hold one group of moments: their names and z = (sample mean - theory)/standard error."""

    group: str
    names: tuple[str, ...]
    z: Float[np.ndarray, "moments"]

    @property
    def worst(self) -> tuple[str, float]:
        """Name and z of the moment farthest from theory; not finite counts as farthest."""
        size = np.where(np.isfinite(self.z), np.abs(self.z), np.inf)
        i = int(np.argmax(size))
        return self.names[i], float(self.z[i])

    def beyond(self, limit: float) -> int:
        """Return how many moments are farther than limit, or not finite."""
        return int(np.sum(~(np.abs(self.z) <= limit)))


def compare(
    shots: Shots,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    *,
    stage: str = "ringdown",
) -> list[Comparison]:
    """Compare second moments of shots with theory: states, record, filter outputs, estimates.

    States at the end of every stage; covariances of samples spread over the record; outputs of
    the matched filters of a stage, and the C inferred from them.  Theory is the exact method's,
    whatever method made the shots.  Standard errors come from the shots' scatter.
    """
    resolution = choose_resolution(params, sequence)
    theory = np.asarray(covariance(params, sequence, resolution=resolution))
    states = np.asarray(shots.states, float)
    groups = [
        _group(f"state, end of {s.name}", states[:, i], theory[i], STATE)
        for i, s in enumerate(sequence.stages)
    ]
    groups.append(_record(shots, params, sequence, detector, resolution))
    bank = matched_filter(params, sequence, detector, stage=stage)
    q = np.asarray(apply_filters(shots.record, bank), float)
    expected = _outputs(params, sequence, detector, bank.weights, bank.stage, resolution)
    groups.append(_group("matched-filter outputs", q, expected, bank.names))
    moments = estimate_moments(
        shots.record, bank, params, sequence, detector, resolution=resolution
    )
    truth = true_moments(params, sequence, bank.stage, resolution=resolution)
    error = np.sqrt(np.diag(np.asarray(moments.C_cov)))
    z = np.asarray(moments.C - truth)[ROWS, COLUMNS] / error
    names = tuple(f"{STATE[i]} {STATE[j]}" for i, j in zip(ROWS, COLUMNS, strict=True))
    groups.append(Comparison(group=f"estimates, start of {stage}", names=names, z=z))
    return groups


def _outputs(params, sequence, detector, weights, stage, resolution) -> np.ndarray:
    z, w = gauss_hermite(choose_nodes(params, sequence))
    each = filter_covariance(params, sequence, detector, weights, stage, z, resolution)
    return np.einsum("k,kij->ij", w, np.asarray(each))


def _record(
    shots: Shots, params: Params, sequence: Sequence, detector: Detector, resolution: Resolution
) -> Comparison:
    """Compare covariances of samples in pairs of neighbours, spread over the whole record."""
    n, quadratures = sequence.n_samples, len(detector.quadratures)
    pairs = np.linspace(0, max(n - 2, 0), RECORD_SAMPLES // 2).astype(int)
    chosen = np.unique(np.clip(np.concatenate([pairs, pairs + 1]), 0, n - 1))
    weights = np.zeros((len(chosen) * quadratures, n, quadratures))
    names = []
    for i, t in enumerate(chosen):
        for k in range(quadratures):
            weights[i * quadratures + k, t, k] = 1.0
            names.append(f"{detector.quadratures[k]}[{t}]")
    theory = _outputs(params, sequence, detector, jnp.asarray(weights), 0, resolution)
    samples = np.asarray(shots.record, float)[:, chosen].reshape(shots.record.shape[0], -1)
    return _group("record", samples, theory, tuple(names))


def _group(name: str, x: np.ndarray, theory: np.ndarray, names: tuple[str, ...]) -> Comparison:
    """Compare <x_i x_j> of samples x (shots, n) with theory (n, n)."""
    scale = np.sqrt(np.diag(theory))
    x, theory = x / scale, theory / np.outer(scale, scale)
    rows, columns = np.triu_indices(len(scale))
    count = x.shape[0]
    mean = (x.T @ x / count)[rows, columns]
    square = ((x**2).T @ x**2 / count)[rows, columns]
    error = np.sqrt((square - mean**2) / (count - 1))
    return Comparison(
        group=name,
        names=tuple(f"{names[i]} {names[j]}" for i, j in zip(rows, columns, strict=True)),
        z=(mean - theory[rows, columns]) / error,
    )


def all_z(groups: list[Comparison]) -> Float[np.ndarray, "moments"]:
    """Return the z-scores of all groups in one array."""
    return np.concatenate([group.z for group in groups])


def rms(z: Float[np.ndarray, "moments"]) -> float:
    """Return the root mean square of z, near 1 if theory and errors are right."""
    return float(np.sqrt(np.mean(np.square(z))))

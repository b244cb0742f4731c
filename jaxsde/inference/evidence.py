"""Evidence: records arranged by which samples are missing, as the filter takes them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxsde.engine.detect import Detector
from jaxsde.physics.sequence import Sequence


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """Hold records of shots that lack the same number of samples, ready for the filter.

    record: with 0 where a sample is missing.  seen: where it is not; None has all.
    shots: index of each shot in the data.
    """

    record: Float[Array, "samples k patterns shots"]
    seen: Bool[Array, "samples k patterns"] | None
    shots: Int[Any, "patterns shots"]


def arrange(record: Float[np.ndarray, "shots samples k"]) -> tuple[Evidence, ...]:
    """Return the records by which samples are missing (NaN): shots that lack the same share work.

    Patterns that as many shots have are filtered together; one without a gap has no mask.
    Raises ValueError for infinite samples or records that are missing altogether.
    """
    y = np.asarray(record, float)
    if np.isinf(y).any():
        bad = int(np.isinf(y).any(axis=(1, 2)).sum())
        raise ValueError(
            f"record: wanted finite samples, or NaN where one is missing, got infinity in {bad} "
            "shots"
        )
    seen = ~np.isnan(y)
    if not seen.any():
        raise ValueError("record: wanted at least one sample, got NaN throughout")
    flat, inverse = np.unique(seen.reshape(len(y), -1), axis=0, return_inverse=True)
    members = [np.flatnonzero(inverse == i) for i in range(len(flat))]
    made = []
    for size in sorted({len(m) for m in members}, reverse=True):
        chosen = [i for i, m in enumerate(members) if len(m) == size]
        whole = [i for i in chosen if flat[i].all()]
        for group in (whole, [i for i in chosen if i not in whole]):
            if group:
                made.append(_evidence(y, seen, np.stack([members[i] for i in group])))
    return tuple(made)


def _evidence(y: np.ndarray, seen: np.ndarray, shots: np.ndarray) -> Evidence:
    mask = np.moveaxis(seen[shots[:, 0]], 0, -1)
    record = np.transpose(np.nan_to_num(y[shots]), (2, 3, 0, 1))
    whole = mask.all()
    return Evidence(
        record=jnp.asarray(record), seen=None if whole else jnp.asarray(mask), shots=shots
    )


def check_record(
    record: Any, sequence: Sequence, detector: Detector, name: str = "record"
) -> Float[np.ndarray, "shots samples k"]:
    """Return a record as float64, checked against sequence and detector.

    Raises ValueError for a shape that does not fit, or where JAX would compute in float32.
    """
    if jnp.result_type(float) != jnp.float64:
        raise ValueError(
            "likelihood: wanted float64, got float32, in which differences of log-likelihoods "
            "are lost; call jax.config.update('jax_enable_x64', True) first"
        )
    shape, k = np.shape(record), len(detector.quadratures)
    if len(shape) != 3 or shape[0] < 1 or shape[1:] != (sequence.n_samples, k):
        raise ValueError(
            f"{name}: wanted (shots, {sequence.n_samples}, {k}), the samples of this sequence and "
            f"the outputs of this detector, got {shape}"
        )
    return np.asarray(record, float)

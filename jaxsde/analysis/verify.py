"""Verify: moments, spectra and filter outputs of shots against exact theory, as z-scores."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxsde.analysis.matched import apply_filters, matched_filter
from jaxsde.analysis.moments import COLUMNS, ROWS, estimate_moments, true_moments
from jaxsde.analysis.spectra import frequencies, hann, welch
from jaxsde.engine.covariance import choose_nodes, covariance
from jaxsde.engine.detect import Detector
from jaxsde.engine.records import record_covariance
from jaxsde.engine.resolution import TOLERANCE, Resolution, choose_resolution
from jaxsde.engine.response import average_filter_covariance
from jaxsde.engine.simulate import Shots
from jaxsde.engine.spectrum import expected_periodogram
from jaxsde.physics.model import STATE
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence

RECORD_SAMPLES = 24
# A spectrum is taken of at most so many samples of a stage, in windows of at most so many.
SPECTRUM_SAMPLES, WINDOW = 512, 256
SHORTEST = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Hold one group of moments, measured over shots and from theory.

    group, names: what they are.  measured, theory, error: in `unit`; error is the standard error
    of measured.  z = (measured - theory)/error.
    """

    group: str
    names: tuple[str, ...]
    measured: Float[np.ndarray, "moments"]
    theory: Float[np.ndarray, "moments"]
    error: Float[np.ndarray, "moments"]
    unit: str = "1"

    @property
    def z(self) -> Float[np.ndarray, "moments"]:
        """z-scores; not a number where a moment is not finite or has no error."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return (self.measured - self.theory) / self.error

    @property
    def worst(self) -> tuple[str, float]:
        """Name and z of the moment farthest from theory; not finite counts as farthest."""
        z = self.z
        i = int(np.argmax(np.where(np.isfinite(z), np.abs(z), np.inf)))
        return self.names[i], float(z[i])

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
    tolerance: float = TOLERANCE,
) -> list[Comparison]:
    """Compare shots with theory: compare_states and compare_record together."""
    states = compare_states(shots, params, sequence, tolerance=tolerance)
    return states + compare_record(
        shots, params, sequence, detector, stage=stage, tolerance=tolerance
    )


def compare_states(
    shots: Shots, params: Params, sequence: Sequence, *, tolerance: float = TOLERANCE
) -> list[Comparison]:
    """Compare the shots' frequencies, and their states at the end of every stage, with theory.

    Theory is the exact method's, whatever method made the shots, through ramps to `tolerance`.
    Standard errors come from the shots' scatter.
    """
    resolution = choose_resolution(params, sequence, tolerance=tolerance)
    theory = np.asarray(covariance(params, sequence, resolution=resolution))
    states = np.asarray(shots.states, float)
    jitter = _frequencies(shots, params)
    return [jitter] * bool(jitter.names) + [
        _products(f"state, end of {s.name}", states[:, i], theory[i], STATE)
        for i, s in enumerate(sequence.stages)
    ]


def _frequencies(shots: Shots, params: Params) -> Comparison:
    """Compare mean, variance and correlation of the two frequencies with independent normals.

    In units of their standard deviations; frequencies without jitter are left out.
    """
    n, names, values, wanted, errors = shots.omega_m.shape[0], [], [], [], []
    u = {}
    for name in ("m", "s"):
        sigma = float(np.asarray(getattr(params, f"sigma_{name}")))
        if sigma > 0:
            rest = float(np.asarray(getattr(params, f"omega_{name}")))
            u[name] = (np.asarray(getattr(shots, f"omega_{name}"), float) - rest) / sigma
    for name, x in u.items():
        names += [f"omega_{name} mean", f"omega_{name} variance"]
        values += [x.mean(), np.mean(x**2)]
        wanted += [0.0, 1.0]
        errors += [1 / np.sqrt(n), np.sqrt(2 / n)]
    if len(u) == 2:
        names.append("omega_m omega_s")
        values.append(np.mean(u["m"] * u["s"]))
        wanted.append(0.0)
        errors.append(1 / np.sqrt(n))
    return Comparison(
        group="frequency jitter",
        names=tuple(names),
        measured=np.array(values),
        theory=np.array(wanted),
        error=np.array(errors),
    )


def compare_record(
    shots: Shots,
    params: Params,
    sequence: Sequence,
    detector: Detector,
    *,
    stage: str = "ringdown",
    tolerance: float = TOLERANCE,
) -> list[Comparison]:
    """Compare a receiver's record with theory: covariances, spectra, filter outputs, estimates.

    Covariances of samples spread over the record; the Welch spectrum of every stage that stands
    still and is long enough; the outputs of the matched filters of a stage, and the C inferred
    from them.  A technical layer has no theory here: simulate without it.
    Raises ValueError for a detector with a technical layer.
    """
    if detector.technical is not None:
        raise ValueError(
            "detector.technical: wanted None, since theory has no local oscillator that drifts and "
            "no digitiser; verify the receiver without its technical layer"
        )
    resolution = choose_resolution(params, sequence, tolerance=tolerance)
    groups = [_record(shots, params, sequence, detector, resolution)]
    groups += _spectra(shots, params, sequence, detector, resolution)
    bank = matched_filter(params, sequence, detector, stage=stage)
    q = np.asarray(apply_filters(shots.record, bank), float)
    expected = _outputs(params, sequence, detector, bank.weights, bank.stage, resolution)
    groups.append(_products("matched-filter outputs", q, expected, bank.names))
    moments = estimate_moments(
        shots.record, bank, params, sequence, detector, resolution=resolution
    )
    truth = true_moments(params, sequence, bank.stage, resolution=resolution)
    estimates = Comparison(
        group=f"estimates, start of {stage}",
        names=tuple(f"{STATE[i]} {STATE[j]}" for i, j in zip(ROWS, COLUMNS, strict=True)),
        measured=np.asarray(moments.C)[ROWS, COLUMNS],
        theory=np.asarray(truth)[ROWS, COLUMNS],
        error=np.sqrt(np.diag(np.asarray(moments.C_cov))),
    )
    return [*groups, estimates]


def _outputs(params, sequence, detector, weights, stage, resolution) -> np.ndarray:
    nodes = choose_nodes(params, sequence)
    args = (params, sequence, detector, weights, stage, nodes, resolution)
    return np.asarray(average_filter_covariance(*args))


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
    return _products("record", samples, theory, tuple(names))


def _spectra(
    shots: Shots, params: Params, sequence: Sequence, detector: Detector, resolution: Resolution
) -> list[Comparison]:
    """Compare Welch's spectrum of every standing stage with its exact expectation, bin by bin."""
    groups, first, n_shots = [], 0, shots.record.shape[0]
    dt = sequence.sample_interval
    # The quadrature over jitter need only be finer than the shots' own scatter.
    error = 0.05 / np.sqrt(n_shots)
    for index, stage in enumerate(sequence.stages):
        length = min(stage.n_samples, SPECTRUM_SAMPLES)
        if length >= SHORTEST and not stage.controls.is_ramp:
            window = hann(min(WINDOW, 2 ** int(np.log2(length))))
            hop = window.shape[0] // 2
            cut = (*sequence.stages[:index], dataclasses.replace(stage, n_samples=length))
            part = dataclasses.replace(sequence, stages=cut)
            nodes = choose_nodes(params, part, error=error, least=(5, 5))
            r = record_covariance(
                params, part, detector, resolution, nodes=nodes, first_stage=index
            )
            theory = np.asarray(expected_periodogram(r, window, hop, dt))
            record = shots.record[:, first : first + length].astype(jnp.result_type(float))
            each = np.asarray(welch(record, window, hop, dt))
            f = frequencies(window.shape[0], dt)
            groups.append(
                Comparison(
                    group=f"spectrum of {stage.name}",
                    names=tuple(f"{q} {x / 1e3:.1f} kHz" for x in f for q in detector.quadratures),
                    measured=each.mean(axis=0).ravel(),
                    theory=theory.ravel(),
                    error=(each.std(axis=0, ddof=1) / np.sqrt(n_shots)).ravel(),
                    unit=f"({detector.unit})^2/Hz",
                )
            )
        first += stage.n_samples
    return groups


def _products(name: str, x: np.ndarray, theory: np.ndarray, names: tuple[str, ...]) -> Comparison:
    """Compare <x_i x_j> of samples x (shots, n) with theory (n, n), in standard deviations."""
    scale = np.sqrt(np.diag(theory))
    x, theory = x / scale, theory / np.outer(scale, scale)
    rows, columns = np.triu_indices(len(scale))
    count = x.shape[0]
    mean = (x.T @ x / count)[rows, columns]
    square = ((x**2).T @ x**2 / count)[rows, columns]
    return Comparison(
        group=name,
        names=tuple(f"{names[i]} {names[j]}" for i, j in zip(rows, columns, strict=True)),
        measured=mean,
        theory=theory[rows, columns],
        error=np.sqrt((square - mean**2) / (count - 1)),
    )


def all_z(groups: list[Comparison]) -> Float[np.ndarray, "moments"]:
    """Return the z-scores of all groups in one array."""
    return np.concatenate([group.z for group in groups])


def rms(z: Float[np.ndarray, "moments"]) -> float:
    """Return the root mean square of z, near 1 if theory and errors are right."""
    return float(np.sqrt(np.mean(np.square(z)))) if len(z) else float("nan")

"""The main job, in the order of its parts: simulate, recover <D^2>, fit the gain, estimate C."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsde.analysis.displacement import (
    MeanSquaredDisplacement,
    expected_displacement,
    mean_squared_displacement,
)
from jaxsde.analysis.filters import filter_matrix, low_pass
from jaxsde.analysis.gain import GainFit, fit_gain
from jaxsde.analysis.matched import FilterBank, matched_filter
from jaxsde.analysis.moments import Moments, estimate_moments, true_moments
from jaxsde.analysis.reconstruct import beat, beat_map, maximal_beat
from jaxsde.engine.resolution import Resolution
from jaxsde.engine.simulate import Shots, simulate
from jaxsde.lab.guards import (
    check_finite,
    check_memory,
    engine_errors,
    exact_resolution,
    has_reference,
    total_shots,
)
from jaxsde.lab.pulse import pulse_gain, pulse_start
from jaxsde.lab.spec import Experiment, build_sequence
from jaxsde.physics.sequence import Sequence

# Called as progress(task, done, total); total is shots for "simulate", parts for "analyse".
Progress = Callable[[str, int, int], None]

# Streams of random numbers: one per ensemble, so that none shares a draw with another.
MAIN, REFERENCE, SCAN = 0, 1, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Hold one ensemble: what was run, its shots, and <D^2> with its exact expectation.

    counted: shots, and samples that the digitiser clipped, of an ensemble of which `shots` are
    but the first; None where they are all of it.
    """

    sequence: Sequence
    shots: Shots
    displacement: MeanSquaredDisplacement
    expected: np.ndarray
    counted: tuple[int, int] | None = None

    @property
    def counts(self) -> tuple[int, int]:
        """Shots of the whole ensemble, and samples of them that the digitiser clipped."""
        whole = self.shots.record.shape[0], int(np.sum(np.asarray(self.shots.clipped)))
        return whole if self.counted is None else self.counted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Growth:
    """Hold the growth of <D^2> during pulses and its joint fit (Figs. 3b and 3c).

    The traces are the gain scan's, or the pulse of the main ensemble alone where there is no scan.
    delta: of each trace, rad/s.  t_c: s.  shots: of each trace.  at: the trace whose delta is
    nearest to the experiment's.  fit: of S12, with a common D_0.
    time: s from the start of the pulse.  displacement, stderr: (traces, samples), (rad/s)^2.
    theory: steady-state gain at each delta, fine_theory on the grid fine_delta.  expected: the
    same fit applied to the exact <D^2>, which holds what filters and transients do to it; 1/s.
    clipped: samples of each trace that left the digitiser's range.
    """

    delta: np.ndarray
    t_c: float
    shots: int
    at: int
    fit: GainFit
    time: np.ndarray
    displacement: np.ndarray
    stderr: np.ndarray
    theory: np.ndarray
    expected: np.ndarray
    fine_delta: np.ndarray
    fine_theory: np.ndarray
    clipped: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beat:
    """Hold <D^2> in the ringdown from the estimated C, as Fig. 4c: value, error, bounds, time."""

    time: np.ndarray
    mean: np.ndarray
    stderr: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """Hold everything that one run of an experiment yields.

    C_theory: exact C.
    """

    experiment: Experiment
    main: Ensemble
    reference: Ensemble | None
    bank: FilterBank
    moments: Moments
    C_theory: np.ndarray
    beat: Beat
    growth: Growth | None


def run_experiment(experiment: Experiment, progress: Progress | None = None) -> Results:
    """Simulate an experiment and analyse its records; the whole chain, in order.

    Raises ExperimentError where the shots do not fit in memory, a tolerance cannot be met, or
    shots are not finite.
    """
    tell = progress or (lambda task, done, total: None)
    check_memory(experiment)
    key = jax.random.key(experiment.seed)
    total, done = total_shots(experiment), 0
    tell("simulate", 0, total)

    def simulated(name: int, sequence: Sequence, shots: int) -> Shots:
        nonlocal done
        before = done
        with engine_errors(experiment):
            out = simulate(
                jax.random.fold_in(key, name),
                experiment.params,
                sequence,
                experiment.detector,
                shots,
                method=experiment.method,
                substeps=experiment.substeps,
                tolerance=experiment.tolerance,
                dtype=jnp.dtype(experiment.dtype),
                on_block=lambda count: tell("simulate", before + count, total),
            )
        done += shots
        check_finite(out, sequence, experiment)
        return out

    sequence = build_sequence(experiment)
    if experiment.method != "exact":
        exact_resolution(experiment, sequence)  # theory needs it later: fail now
    shots = simulated(MAIN, sequence, experiment.shots)
    reference = None
    if has_reference(experiment):
        calm = build_sequence(experiment, coupled=False)
        reference = calm, simulated(REFERENCE, calm, experiment.shots)
    scan = [
        (delta, s, simulated(SCAN + i, s, experiment.gain_scan.shots))
        for i, (delta, s) in enumerate(scan_sequences(experiment))
        if experiment.gain_scan is not None
    ]
    return analyse(experiment, sequence, shots, reference, scan, tell)


def analyse(
    experiment: Experiment,
    sequence: Sequence,
    shots: Shots,
    reference: tuple[Sequence, Shots] | None,
    scan: list[tuple[float, Sequence, Shots]],
    tell: Progress,
) -> Results:
    """Analyse shots: <D^2> (S11), the gain (S12), the matched filters (S13-S16), the beat."""
    parts = iter(range(1, 7))

    def step():
        tell("analyse", next(parts), 6)

    main = ensemble(experiment, sequence, shots)
    step()
    calm = None if reference is None else ensemble(experiment, *reference)
    step()
    points = [(delta, ensemble(experiment, s, made)) for delta, s, made in scan]
    step()
    growth = fit_growth(experiment, main, points)
    step()
    p, bank = experiment.params, ringdown_filters(experiment, sequence)
    resolution = exact_resolution(experiment, sequence, shots)
    moments = estimate_moments(
        shots.record, bank, p, sequence, experiment.detector, resolution=resolution
    )
    c_theory = np.asarray(true_moments(p, sequence, bank.stage, resolution=resolution))
    step()
    reconstructed = reconstruct(experiment, sequence, moments, resolution)
    step()
    return Results(
        experiment=experiment,
        main=main,
        reference=calm,
        bank=bank,
        moments=moments,
        C_theory=c_theory,
        beat=reconstructed,
        growth=growth,
    )


def scan_sequences(experiment: Experiment) -> list[tuple[float, Sequence]]:
    """Return (delta, sequence) of the gain scan; stages after the pulse are cut to 40 us.

    Nothing after the pulse enters the fit but the filters' reach, which 40 us covers.
    """
    spec = experiment.gain_scan
    if spec is None:
        return []
    out = []
    for delta in spec.delta:
        full = build_sequence(experiment, delta=delta, t_c=spec.t_c)
        after = full.span(str(experiment.analysis.pulse)).stop
        most = after + round(40e-6 / full.sample_interval)
        stages, first = [], 0
        for stage in full.stages:
            # A ramp cannot be cut without changing its slope: it is kept whole.
            n = stage.n_samples if stage.controls.is_ramp else min(stage.n_samples, most - first)
            if first < most and n > 0:
                stages.append(dataclasses.replace(stage, n_samples=n))
            first += stage.n_samples
        out.append((delta, dataclasses.replace(full, stages=tuple(stages))))
    return out


def ensemble(experiment: Experiment, sequence: Sequence, shots: Shots) -> Ensemble:
    """Return <D^2>_cyc of shots (S11) beside its exact expectation."""
    options: dict[str, Any] = dict(
        band=experiment.analysis.band, cycle_average=experiment.analysis.cycle_average
    )
    p, d = experiment.params, experiment.detector
    exact = exact_resolution(experiment, sequence, shots)
    return Ensemble(
        sequence=sequence,
        shots=shots,
        displacement=mean_squared_displacement(shots.record, p, sequence, d, **options),
        expected=np.asarray(expected_displacement(p, sequence, d, resolution=exact, **options)),
    )


def fit_growth(
    experiment: Experiment, main: Ensemble, points: list[tuple[float, Ensemble]]
) -> Growth | None:
    """Fit S12 to the scan, jointly and with a common D_0 (S.5), or to the pulse without one."""
    spec, window = experiment.gain_scan, experiment.analysis.fit_window
    if experiment.analysis.pulse is None or window is None:
        return None
    if spec is not None and points:
        window = spec.fit_window
    else:
        points = [(np.nan if experiment.delta is None else experiment.delta, main)]
    ensembles = [e for _, e in points]
    origin = pulse_start(experiment, ensembles[0].sequence)

    def fit(traces):
        start, stop = (origin + t for t in window)
        return fit_gain(traces, start=start, stop=stop, origin=origin)

    traces = [e.displacement for e in ensembles]
    exact = [
        dataclasses.replace(t, mean=jnp.asarray(e.expected))
        for t, e in zip(traces, ensembles, strict=True)
    ]
    delta = np.array([d for d, _ in points])
    fine = np.linspace(delta.min(), delta.max(), 241) if len(points) > 1 else delta
    wanted = delta[0] if experiment.delta is None else experiment.delta
    stage = ensembles[0].sequence.span(experiment.analysis.pulse)
    return Growth(
        delta=delta,
        t_c=(stage.stop - stage.start) * main.sequence.sample_interval,
        shots=traces[0].n_shots,
        at=int(np.argmin(np.abs(delta - wanted))) if len(points) > 1 else 0,
        fit=fit(traces),
        time=traces[0].time - origin,
        displacement=np.stack([np.asarray(t.mean) for t in traces]),
        stderr=np.stack([np.asarray(t.stderr) for t in traces]),
        theory=pulse_gain(experiment, delta),
        expected=fit(exact).gain,
        fine_delta=fine,
        fine_theory=pulse_gain(experiment, fine),
        clipped=np.array([e.counts[1] for e in ensembles]),
    )


def ringdown_filters(experiment: Experiment, sequence: Sequence) -> FilterBank:
    """Return the matched filters of the experiment's ringdown."""
    spec, dt = experiment.analysis, sequence.sample_interval
    span = sequence.span(spec.ringdown)
    start = round(spec.filter_start / dt)
    stop = span.stop - span.start
    if spec.filter_length is not None:
        stop = start + round(spec.filter_length / dt)
    return matched_filter(
        experiment.params,
        sequence,
        experiment.detector,
        stage=spec.ringdown,
        start=start,
        stop=stop,
    )


def reconstruct(
    experiment: Experiment,
    sequence: Sequence,
    moments: Moments,
    resolution: Resolution | None = None,
) -> Beat:
    """Return the beat of the estimated C, and 1-sigma bounds of a maximally correlated state.

    Averaged over cycles by S11's own low-pass, since the measured <D^2>_cyc was.
    """
    spec = experiment.analysis
    evolution = beat_map(experiment.params, sequence, spec.ringdown, resolution=resolution)
    sos = low_pass(spec.cycle_average, sequence.sample_interval)
    average = jnp.asarray(filter_matrix(sos, evolution.time.size))
    evolution = dataclasses.replace(
        evolution, weights=average @ evolution.weights, noise=average @ evolution.noise
    )
    mean, stderr = beat(evolution, moments.C, moments.C_cov)
    epsilon = experiment.params.epsilon
    extreme, spread = maximal_beat(evolution, moments.C, moments.C_cov, epsilon)
    return Beat(
        time=evolution.time,
        mean=np.asarray(mean),
        stderr=np.asarray(stderr),
        lower=np.asarray(extreme - spread),
        upper=np.asarray(extreme + spread),
    )

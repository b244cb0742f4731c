"""Nouns of an experiment in SI units, and the sequences that it stands for."""

import dataclasses
from typing import Literal

from jaxsde.engine.detect import Detector
from jaxsde.engine.resolution import TOLERANCE
from jaxsde.physics.params import Leaf, Params
from jaxsde.physics.sequence import Controls, Sequence, Stage, Switching, whole_samples

TrapEnd = float | Literal["rest", "coupled"]
TrapSpec = TrapEnd | tuple[TrapEnd, TrapEnd]


class ExperimentError(ValueError):
    """Say in one line which field of which experiment file is wrong, and the remedy."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSpec:
    """Hold one stage as the file has it.

    duration: s.  nbar: photons.  delta_pc: rad/s.  omega_m: rad/s, "rest" (params.omega_m) or
    "coupled" (omega_s + delta); of these three, a pair (from, to) is a linear ramp.  B_s
    (quanta/s) and n_bath override params; None keeps them.
    """

    name: str
    duration: float
    nbar: float | tuple[float, float]
    delta_pc: float | tuple[float, float] = 0.0
    omega_m: TrapSpec = "rest"
    B_s: float | None = None
    n_bath: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalysisSpec:
    """Hold what the analysis is to do.

    ringdown: stage that the matched filters read.
    band: passband of S11, Hz.  cycle_average: corner of the low-pass after squaring, Hz.
    pulse: stage whose growth is fitted, or None.  fit_window: s after the start of the pulse.
    filter_start: s after the start of the ringdown.
    filter_length: s; None takes the rest of the stage.
    """

    ringdown: str
    band: tuple[float, float]
    cycle_average: float
    pulse: str | None = None
    fit_window: tuple[float, float] | None = None
    filter_start: float = 0.0
    filter_length: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class GainScanSpec:
    """Hold a scan of the gain against delta, with pulses of its own.

    delta: rad/s.  t_c: s.  fit_window: s after the start of the pulse.  shots: for each delta.
    """

    delta: tuple[float, ...]
    t_c: float
    fit_window: tuple[float, float]
    shots: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Hold an experiment file in SI units.

    delta: omega_m - omega_s while coupled, rad/s.  switching: of the mean field between stages;
    None is instantaneous.  tolerance: of the covariance through ramps and switches.
    text, source: the file as read, and its name; they take no part in comparisons.
    """

    title: str
    params: Params
    detector: Detector
    stages: tuple[StageSpec, ...]
    delta: float | None
    shots: int
    seed: int
    method: str = "exact"
    substeps: int = 1
    dtype: str = "float64"
    tolerance: float = TOLERANCE
    switching: Switching | None = None
    analysis: AnalysisSpec
    gain_scan: GainScanSpec | None = None
    text: str = dataclasses.field(default="", compare=False, repr=False)
    source: str = dataclasses.field(default="", compare=False, repr=False)


def build_sequence(
    experiment: Experiment,
    *,
    delta: Leaf | None = None,
    coupled: bool = True,
    t_c: float | None = None,
) -> Sequence:
    """Return the sequence of an experiment, or a variation of it.

    delta: omega_m - omega_s while coupled, rad/s, in place of the file's.
    coupled: False gives the reference "performed without coupling": the trap stays at rest
        throughout, and the probe of the pulse is that with which the stage before it ends.
    t_c: length of the pulse, s, in place of the file's; 0 leaves the pulse out.
    Raises ExperimentError for a length that is no whole number of samples, or if the
    experiment has no pulse to vary.
    """
    pulse = experiment.analysis.pulse
    if pulse is None and not (coupled and t_c is None):
        raise ExperimentError("analysis.pulse: missing, so that there is no pulse to vary")
    delta = experiment.delta if delta is None else delta
    interval = experiment.detector.sample_interval
    stages: list[Stage] = []
    for i, spec in enumerate(experiment.stages):
        is_pulse = spec.name == pulse
        length = t_c if is_pulse and t_c is not None else spec.duration
        if is_pulse and t_c == 0:
            continue
        probe = spec
        if is_pulse and not coupled:
            if i == 0:
                raise ExperimentError(
                    f"stage {pulse!r}: wanted a stage before it, whose probe the reference "
                    "without coupling keeps, got none"
                )
            probe = experiment.stages[i - 1]
            probe = dataclasses.replace(
                probe, nbar=ends_of(probe.nbar)[1], delta_pc=ends_of(probe.delta_pc)[1]
            )
        try:
            count = whole_samples(spec.name, length, interval)
        except ValueError as error:
            raise ExperimentError(str(error)) from None
        controls = Controls(
            nbar=probe.nbar,
            delta_pc=probe.delta_pc,
            omega_m=_trap(experiment, spec, delta) if coupled else experiment.params.omega_m,
            B_s=spec.B_s,
            n_bath=spec.n_bath,
        )
        stages.append(Stage(name=spec.name, n_samples=count, controls=controls))
    return Sequence(stages=tuple(stages), sample_interval=interval, switching=experiment.switching)


def ends_of(value: Leaf | tuple[Leaf, Leaf]) -> tuple[Leaf, Leaf]:
    """Return both ends of a control: a ramp's, or twice a constant."""
    return value if isinstance(value, tuple) else (value, value)


def _trap(experiment: Experiment, stage: StageSpec, delta: Leaf | None):
    """Return the stage's omega_m in rad/s, or its pair."""

    def end(spec: TrapEnd) -> Leaf:
        if spec == "rest":
            return experiment.params.omega_m
        if spec != "coupled":
            return spec
        if delta is None:
            raise ExperimentError(
                f"sequence.delta: this key is missing; stage {stage.name!r} has omega_m = "
                '"coupled", which is omega_s + delta: write one such as delta = "2pi * 5.5 kHz"'
            )
        return experiment.params.omega_s + delta

    if isinstance(stage.omega_m, tuple):
        return end(stage.omega_m[0]), end(stage.omega_m[1])
    return end(stage.omega_m)


def in_file(experiment: Experiment, message: str) -> str:
    """Return a message with the name of the experiment's file before it, if it has one."""
    return f"{experiment.source}: {message}" if experiment.source else message

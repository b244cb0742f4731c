"""Checks that an experiment makes sense as a whole, before anything runs."""

from collections import Counter

from jaxsde.engine.detect import check_detector
from jaxsde.lab import units
from jaxsde.lab.spec import Experiment, GainScanSpec, StageSpec, build_sequence
from jaxsde.physics.params import check_params
from jaxsde.physics.sequence import check_sequence, whole_samples

MIN_FILTER = 32
MAX_SAMPLES = 6000


def check_experiment(experiment: Experiment) -> None:
    """Raise ValueError, beginning with the field's path, for an experiment that makes no sense."""
    check_params(experiment.params)
    check_detector(experiment.detector)
    names = [stage.name for stage in experiment.stages]
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(
                f"stage {name!r}: name: wanted its own name, got {count} stages so called"
            )
    _check_delta(experiment)
    _check_stage_names(experiment, names)
    check_sequence(build_sequence(experiment))
    if experiment.shots < 2:
        raise ValueError(
            "simulation.shots: wanted at least 2, whose scatter gives the errors, "
            f"got {experiment.shots}"
        )
    _check_filters(experiment)
    _check_windows(experiment)
    _check_ringdown(experiment)
    if experiment.gain_scan is not None:
        _check_gain_scan(experiment, experiment.gain_scan)


def _coupled_stages(experiment: Experiment) -> list[str]:
    return [s.name for s in experiment.stages if s.omega_m == "coupled" or _ramps_to_coupled(s)]


def _ramps_to_coupled(stage: StageSpec) -> bool:
    return isinstance(stage.omega_m, tuple) and "coupled" in stage.omega_m


def _check_delta(experiment: Experiment) -> None:
    if experiment.delta is not None and not _coupled_stages(experiment):
        raise ValueError(
            'sequence.delta: given, but no stage uses it: set omega_m = "coupled" in the pulse, '
            "or leave delta out"
        )


def _check_stage_names(experiment: Experiment, names: list[str]) -> None:
    analysis = experiment.analysis
    for field in ("pulse", "ringdown"):
        name = getattr(analysis, field)
        if name is not None and name not in names:
            raise ValueError(
                f"analysis.{field}: wanted the name of a stage, got {name!r} "
                f"(stages: {', '.join(names)})"
            )
    if analysis.pulse == analysis.ringdown:
        raise ValueError(
            f"analysis.ringdown: wanted a stage other than the pulse, got {analysis.ringdown!r}"
        )


def _check_filters(experiment: Experiment) -> None:
    analysis = experiment.analysis
    nyquist = 0.5 / experiment.detector.sample_interval
    low, high = analysis.band
    shown = f"[{units.format_frequency(low)}, {units.format_frequency(high)}]"
    if not 0 < low < high:
        raise ValueError(f"analysis.band: wanted increasing frequencies above 0, got {shown}")
    limit = f"the Nyquist frequency of the sample interval, {units.format_frequency(nyquist)}"
    if high >= nyquist:
        raise ValueError(
            f"analysis.band: wanted frequencies below {limit}, got {shown}: shorten "
            "detector.sample_interval or lower the band"
        )
    if not 0 < analysis.cycle_average < nyquist:
        raise ValueError(
            f"analysis.cycle_average: wanted a frequency above 0 and below {limit}, "
            f"got {units.format_frequency(analysis.cycle_average)}"
        )


def _check_windows(experiment: Experiment) -> None:
    analysis = experiment.analysis
    lengths = {stage.name: stage.duration for stage in experiment.stages}
    if (analysis.pulse is None) != (analysis.fit_window is None):
        missing = "pulse" if analysis.pulse is None else "fit_window"
        other = "fit_window" if analysis.pulse is None else "pulse"
        raise ValueError(f"analysis.{missing}: this key is missing; {other} needs it: give both")
    dt = experiment.detector.sample_interval
    if analysis.pulse is not None and analysis.fit_window is not None:
        _check_window("analysis.fit_window", analysis.fit_window, lengths[analysis.pulse], dt)
        pulse = next(s for s in experiment.stages if s.name == analysis.pulse)
        if not pulse.nbar > 0:
            raise ValueError(
                f"stage {pulse.name!r}: nbar: wanted a positive number to see growth by, "
                f"got {pulse.nbar}"
            )
    stage = lengths[analysis.ringdown]
    start, length = analysis.filter_start, analysis.filter_length
    shown = units.format_duration
    if not 0 <= start < stage:
        raise ValueError(
            f"analysis.filter_start: wanted a time from 0 to below {shown(stage)}, the length of "
            f"stage {analysis.ringdown!r}, got {shown(start)}"
        )
    slack = experiment.detector.sample_interval * 1e-6  # for the rounding of start + length
    if length is not None and not 0 < length <= stage - start + slack:
        raise ValueError(
            f"analysis.filter_length: wanted a time above 0 and up to {shown(stage - start)}, what "
            f"stage {analysis.ringdown!r} leaves after filter_start, got {shown(length)}"
        )


def _check_ringdown(experiment: Experiment) -> None:
    """Check that matched filters can be applied to the ringdown."""
    analysis, dt = experiment.analysis, experiment.detector.sample_interval
    stage = next(s for s in experiment.stages if s.name == analysis.ringdown)
    where = f"stage {stage.name!r}"
    if isinstance(stage.omega_m, tuple):
        raise ValueError(f"{where}: omega_m: wanted a constant for matched filters, got a ramp")
    if not stage.nbar > 0:
        raise ValueError(f"{where}: nbar: wanted a positive number to measure by, got {stage.nbar}")
    if experiment.detector.quadratures == ("I",) and stage.delta_pc == 0:
        raise ValueError(
            f"detector.quadratures: wanted 'Q' for {where}, got only 'I', which holds no signal "
            "at delta_pc = 0"
        )
    for name in ("filter_start", "filter_length"):
        value = getattr(analysis, name)
        if value:
            try:
                whole_samples(stage.name, value, dt)
            except ValueError as error:
                raise ValueError(f"analysis.{name}: {error}") from None
    length = analysis.filter_length or stage.duration - analysis.filter_start
    if round(length / dt) < MIN_FILTER:
        raise ValueError(
            f"analysis.filter_length: wanted at least {MIN_FILTER} samples of "
            f"{units.format_duration(dt)} to filter, got {round(length / dt)}; lengthen {where}"
        )
    total = build_sequence(experiment).n_samples
    if total > MAX_SAMPLES:
        raise ValueError(
            f"sequence.stages: wanted at most {MAX_SAMPLES} samples in all, since the exact "
            f"expectation of a record grows with their square, got {total}; lengthen "
            "detector.sample_interval or shorten stages"
        )


def _check_window(field: str, window: tuple[float, float], length: float, dt: float) -> None:
    start, end = window
    shown = units.format_duration
    if not 0 <= start < end <= length:
        raise ValueError(
            f"{field}: wanted increasing times from 0 to {shown(length)}, the length of the pulse, "
            f"got [{shown(start)}, {shown(end)}]"
        )
    if round((end - start) / dt) < 4:
        raise ValueError(
            f"{field}: wanted at least 4 samples of {shown(dt)} to fit, "
            f"got [{shown(start)}, {shown(end)}]"
        )


def _check_gain_scan(experiment: Experiment, scan: GainScanSpec) -> None:
    pulse = experiment.analysis.pulse
    if pulse is None:
        raise ValueError("gain_scan: given, but analysis.pulse is missing: name the pulse's stage")
    if pulse not in _coupled_stages(experiment):
        raise ValueError(
            f'gain_scan.delta: the pulse does not depend on delta: set omega_m = "coupled" in '
            f"stage {pulse!r}"
        )
    try:
        whole_samples(pulse, scan.t_c, experiment.detector.sample_interval)
    except ValueError as error:
        raise ValueError(f"gain_scan.t_c: {error}") from None
    interval = experiment.detector.sample_interval
    _check_window("gain_scan.fit_window", scan.fit_window, scan.t_c, interval)
    for i, delta in enumerate(scan.delta):
        if not experiment.params.omega_s + delta > 0:
            raise ValueError(
                f"gain_scan.delta[{i}]: wanted omega_s + delta above 0, "
                f"got delta = {units.format_angular(delta)}"
            )

"""Checks that an experiment makes sense as a whole, before anything runs."""

import warnings
from collections import Counter

import numpy as np

from jaxsde.engine.aliasing import aliases
from jaxsde.engine.detect import Detector, check_detector
from jaxsde.lab import units
from jaxsde.lab.spec import Experiment, GainScanSpec, StageSpec, build_sequence, ends_of
from jaxsde.physics.params import Params, check_params
from jaxsde.physics.sequence import Sequence, check_sequence, whole_samples

MIN_FILTER = 32
MAX_SAMPLES = 6000
# Below this share of the signal's amplitude a receiver is blind: its estimates are noise.
BLIND = 0.01
TOLERANCES = (1e-12, 1.0)


def check_experiment(experiment: Experiment) -> None:
    """Raise ValueError, beginning with the field's path, for an experiment that makes no sense."""
    check_params(experiment.params)
    with warnings.catch_warnings():
        # A file is refused where a library user is warned: nobody reads on after an hour's run.
        warnings.simplefilter("error", UserWarning)
        try:
            check_detector(experiment.detector)
        except UserWarning as warning:
            raise ValueError(f"detector.technical: {warning}") from None
    names = [stage.name for stage in experiment.stages]
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(
                f"stage {name!r}: name: wanted its own name, got {count} stages so called"
            )
    _check_delta(experiment)
    _check_stage_names(experiment, names)
    _check_sequences(experiment)
    _check_tolerance(experiment.tolerance)
    if experiment.shots < 2:
        raise ValueError(
            "simulation.shots: wanted at least 2, whose scatter gives the errors, "
            f"got {experiment.shots}"
        )
    _check_filters(experiment)
    _check_windows(experiment)
    _check_ringdown(experiment)
    _check_receiver(experiment)
    if experiment.gain_scan is not None:
        _check_gain_scan(experiment, experiment.gain_scan)


def _check_sequences(experiment: Experiment) -> None:
    """Check the sequences that a run simulates: the file's, its reference and its scan's."""
    rise = None if experiment.switching is None else experiment.switching.rise_time
    if rise is not None and not rise >= 0:
        raise ValueError(
            f"sequence.rise_time: wanted zero or a positive time, got {units.format_duration(rise)}"
        )
    _check_sequence(experiment.params, build_sequence(experiment))
    if experiment.analysis.pulse not in (None, experiment.stages[0].name):
        _check_sequence(experiment.params, build_sequence(experiment, coupled=False))


def _check_sequence(params: Params, sequence: Sequence) -> None:
    for stage in sequence.stages:
        first, last = (params.omega_m if w is None else w for w in ends_of(stage.controls.omega_m))
        if not min(first, last) > 0:
            through = "; the ramp would go through zero frequency, where the trap holds nothing"
            raise ValueError(
                f"stage {stage.name!r}: omega_m: wanted an angular frequency above 0, got "
                f"{units.format_angular(min(first, last))}" + (through if first != last else "")
            )
    check_sequence(sequence)
    for message in aliases(params, sequence):
        raise ValueError(message.replace("a sample_interval", "a detector.sample_interval"))
    _check_rise(sequence)


def _check_rise(sequence: Sequence) -> None:
    """Check that the drive has risen when a stage ends, from where the next one takes it up."""
    if sequence.switching is None:
        return
    rise = sequence.switching.rise_time
    for before, stage in zip(sequence.stages[:-1], sequence.stages[1:], strict=True):
        steps = any(
            ends_of(getattr(before.controls, field))[1]
            != ends_of(getattr(stage.controls, field))[0]
            for field in ("nbar", "delta_pc")
        )
        length = stage.n_samples * sequence.sample_interval
        if steps and rise > length * (1 + 1e-9):
            raise ValueError(
                f"sequence.rise_time: wanted at most {length * 1e6:g} us, the length of stage "
                f"{stage.name!r}, whose probe steps when it begins, got {rise * 1e6:g} us"
            )


def _check_tolerance(tolerance: float) -> None:
    least, below = TOLERANCES
    if not least <= tolerance < below:
        raise ValueError(
            f"simulation.tolerance: wanted a number from {least:g}, which rounding allows, to "
            f"below {below:g}, got {tolerance:g}"
        )


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
        _check_light(pulse, "to see growth by")
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
    for field in ("nbar", "delta_pc", "omega_m"):
        if isinstance(getattr(stage, field), tuple):
            raise ValueError(
                f"{where}: {field}: wanted a constant for matched filters, got a ramp; put the "
                "ramp into a stage before it"
            )
    _check_light(stage, "to measure by")
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
    _check_length(experiment)


def _check_length(experiment: Experiment) -> None:
    total = build_sequence(experiment).n_samples
    if total > MAX_SAMPLES:
        raise ValueError(
            f"sequence.stages: wanted at most {MAX_SAMPLES} samples in all, since the exact "
            f"expectation of a record grows with their square, got {total}; lengthen "
            "detector.sample_interval or shorten stages"
        )


def _check_light(stage: StageSpec, why: str) -> None:
    if not min(ends_of(stage.nbar)) > 0:
        pair = " at both ends of the ramp" if isinstance(stage.nbar, tuple) else ""
        raise ValueError(
            f"stage {stage.name!r}: nbar: wanted a positive number{pair} {why}, got "
            f"{min(ends_of(stage.nbar))}"
        )


def _check_receiver(experiment: Experiment) -> None:
    """Check that the quadrature that is recorded holds a signal where one is looked for.

    A stage that enters no estimate may hold none at all, and is then left out, but not next to
    none: every record is divided by its gain.
    """
    read = (experiment.analysis.ringdown, experiment.analysis.pulse)
    for stage in sorted(experiment.stages, key=lambda stage: stage.name not in read):
        share = visible(experiment.params, experiment.detector, stage)
        left_out = share == 0 and stage.name not in read and not isinstance(stage.delta_pc, tuple)
        if max(ends_of(stage.nbar)) == 0 or share >= BLIND or left_out:
            continue
        where = f"stage {stage.name!r}"
        if experiment.detector.quadratures == ("homodyne",):
            phases = [np.degrees(_phase(experiment.params, d)) for d in ends_of(stage.delta_pc)]
            at = " to ".join(f"{p:.4g} deg" for p in dict.fromkeys(phases))
            raise ValueError(
                f"detector.angle: wanted one that sees the signal of {where}, which lies at {at}, "
                f"got {units.format_angle(experiment.detector.angle)}, which sees {share:.2g} of "
                "its amplitude: a homodyne receiver is blind at right angles to the signal"
            )
        raise ValueError(
            f"detector.quadratures: wanted 'Q' for {where}, got only 'I', which holds {share:.2g} "
            "of the signal's amplitude"
        )


def _phase(params: Params, delta_pc: float) -> float:
    """Return phi_q, the direction of the signal in (I, Q), tan = kappa/Delta (S9), rad."""
    return float(np.arctan2(params.kappa, delta_pc))


def visible(params: Params, detector: Detector, stage: StageSpec) -> float:
    """Return the least share of the signal's amplitude that a stage's record holds, 0 to 1.

    |cos(theta - phi_q)| for homodyne, |cos phi_q| for I alone, |sin phi_q| for Q alone, as in
    engine.detect.quadrature_gains.  phi_q turns one way during a ramp, by less than pi, so that
    the least is at an end, or 0 where the sign changes.
    """
    shares = []
    for delta in ends_of(stage.delta_pc):
        norm = np.hypot(params.kappa, delta)
        cos, sin = delta / norm, params.kappa / norm
        along = np.cos(detector.angle) * cos + np.sin(detector.angle) * sin
        kinds: dict[tuple[str, ...], float] = {("I",): cos, ("Q",): sin, ("homodyne",): along}
        shares.append(float(kinds.get(detector.quadratures, 1.0)))
    first, last = shares
    return 0.0 if first * last < 0 else min(abs(first), abs(last))


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
        try:
            _check_sequence(
                experiment.params, build_sequence(experiment, delta=delta, t_c=scan.t_c)
            )
        except ValueError as error:
            raise ValueError(f"gain_scan.delta[{i}]: {error}") from None

"""Matching of records with an experiment: whose sequence they follow, and whose calibration."""

import dataclasses
from pathlib import Path

import numpy as np

from jaxsde.engine.detect import detection_gain
from jaxsde.lab.config import load_experiment, parse_experiment
from jaxsde.lab.recordings import Header, RecordError
from jaxsde.lab.records import SAME, Source, mark_index
from jaxsde.lab.spec import Experiment, build_sequence
from jaxsde.physics.params import Params

# Calibrations A of the stages may differ from one efficiency by this share, and no more.
SPREAD = 0.05


def experiment_of(source: Source, override: Path | None) -> Experiment | None:
    """Return the experiment of records, calibrated by their file, or None if they belong to none.

    override: an experiment file that takes the place of the records' own.
    Raises RecordError or ExperimentError where records and experiment do not fit.
    """
    if override is not None:
        experiment = load_experiment(override)
    elif source.header.experiment:
        experiment = parse_experiment(source.header.experiment, f"{source.path} (its experiment)")
    else:
        return None
    experiment = _with_parameters(experiment, source)
    experiment = dataclasses.replace(experiment, gain_scan=None, shots=source.n_shots)
    _check_layout(experiment, source)
    return _calibrated(experiment, source)


def _with_parameters(experiment: Experiment, source: Source) -> Experiment:
    """Return the experiment with the parameters that the file gives under Params' names, SI."""
    known = {field.name for field in dataclasses.fields(Params)}
    own = {k: v for k, v in source.header.parameters if k in known}
    for name, value in own.items():
        if not isinstance(value, float) or not np.isfinite(value):
            raise RecordError(
                f"{source.path}: parameters.attrs[{name!r}]: wanted a finite number in SI units "
                f"(rad/s, 1/s), got {value!r}; mend it or take it out"
            )
    return dataclasses.replace(experiment, params=dataclasses.replace(experiment.params, **own))


def _check_layout(experiment: Experiment, source: Source) -> None:
    """Raise RecordError unless samples, channels and marks are those of the experiment."""
    header, detector, sequence = source.header, experiment.detector, build_sequence(experiment)
    name = experiment.source or "the experiment"
    if abs(header.sample_interval - detector.sample_interval) > SAME * detector.sample_interval:
        raise RecordError(
            f"{source.path}: sample_interval_s: got {header.sample_interval:g}, where {name} has "
            f"{detector.sample_interval:g} s; write the record's interval into the experiment"
        )
    if header.channels != detector.quadratures:
        raise RecordError(
            f"{source.path}: channels: got {header.channels}, where {name} has quadratures "
            f"{detector.quadratures}; name the channels, or change detector.quadratures"
        )
    if header.n_samples != sequence.n_samples:
        raise RecordError(
            f"{source.path}: samples: got {header.n_samples} a shot, where the stages of {name} "
            f"have {sequence.n_samples}; cut the record or change the stages' durations"
        )
    if header.stages:
        spans = {s.name: sequence.span(s.name).start for s in sequence.stages}
        marks = dict(zip(header.stages, mark_index(header), strict=True))
        if marks != spans:
            off = next(k for k in (*spans, *marks) if spans.get(k) != marks.get(k))
            raise RecordError(
                f"{source.path}: stage_starts_s: stage {off!r} begins at sample {marks.get(off)}, "
                f"where {name} has {spans.get(off)}; mend the marks or the stages' durations"
            )


def _calibrated(experiment: Experiment, source: Source) -> Experiment:
    """Return the experiment with S_SN and A of the file in its detector.

    A enters as the efficiency that S10 needs for it, from the stage that is measured.
    """
    header, detector = source.header, experiment.detector
    if header.unit != detector.unit and (header.S_SN is None or header.A is None):
        missing = " and ".join(n for n in ("S_SN", "stage_A") if _lacks(header, n))
        raise RecordError(
            f"{source.path}: missing calibration: samples are in {header.unit}, those of the "
            f"experiment in {detector.unit}; add the attribute {missing} "
            f"(S_SN in ({header.unit})^2/Hz, stage_A in {header.unit}/(rad/s) for each stage), or "
            f"gain, offset and units that give {detector.unit}"
        )
    if header.S_SN is not None:
        if not (np.isfinite(header.S_SN) and header.S_SN > 0):
            raise RecordError(
                f"{source.path}: samples.attrs['S_SN']: wanted a positive density, got "
                f"{header.S_SN:g}; measure it with an empty cavity"
            )
        detector = dataclasses.replace(detector, S_SN=header.S_SN)
    if header.A is not None:
        efficiency = _efficiency(dataclasses.replace(experiment, detector=detector), source)
        detector = dataclasses.replace(detector, efficiency=efficiency)
    return dataclasses.replace(experiment, detector=detector)


def _lacks(header: Header, name: str) -> bool:
    return header.S_SN is None if name == "S_SN" else header.A is None


def _efficiency(experiment: Experiment, source: Source) -> float:
    """Return efficiency = A^2 (kappa^2 + Delta^2)/(2 collection S_SN nbar kappa), S10."""
    sequence, p, d = build_sequence(experiment), experiment.params, experiment.detector
    found: dict[str, float] = {}
    for stage, a in zip(sequence.stages, source.header.A or (), strict=True):
        c = stage.controls
        if np.isfinite(a) and not c.is_ramp and float(np.asarray(c.nbar)) > 0:
            one = float(detection_gain(p, c, dataclasses.replace(d, efficiency=1.0)))
            found[stage.name] = (a / one) ** 2
    ringdown = experiment.analysis.ringdown
    if ringdown not in found:
        raise RecordError(
            f"{source.path}: missing calibration: stage_A of {ringdown!r}, the stage that is "
            "measured; write it, or leave stage_A out and give samples in W"
        )
    wanted = found[ringdown]
    for name, value in found.items():
        if abs(value / wanted - 1) > 2 * SPREAD:
            raise RecordError(
                f"{source.path}: stage_A: {name!r} and {ringdown!r} imply efficiencies of "
                f"{value:.3g} and {wanted:.3g}; A goes as sqrt(nbar/(kappa^2 + delta_pc^2)): mend "
                "it, or nbar and delta_pc of the experiment's stages"
            )
    if not 0 < wanted <= 1:
        raise RecordError(
            f"{source.path}: stage_A: {ringdown!r} implies an efficiency of {wanted:.3g}, which is "
            "not from 0 to 1; mend stage_A or S_SN"
        )
    return wanted

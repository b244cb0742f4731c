"""Experiment files: TOML with explicit units -> Experiment -> TOML again."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxsde.engine.detect import RECEIVERS, Detector, shot_noise_density
from jaxsde.engine.resolution import TOLERANCE
from jaxsde.engine.technical import LO_FIELDS, TURNED, Technical
from jaxsde.lab import units
from jaxsde.lab.checks import check_experiment
from jaxsde.lab.schema import (
    DetectorTable,
    ExperimentTable,
    SequenceTable,
    TechnicalTable,
    read_tables,
)
from jaxsde.lab.spec import (
    AnalysisSpec,
    Experiment,
    ExperimentError,
    GainScanSpec,
    StageSpec,
    build_sequence,
)
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Switching

__all__ = [
    "AnalysisSpec",
    "Experiment",
    "ExperimentError",
    "GainScanSpec",
    "StageSpec",
    "build_sequence",
    "check_experiment",
    "dump_experiment",
    "load_experiment",
    "parse_experiment",
]


def load_experiment(path: str | Path) -> Experiment:
    """Return the experiment that the TOML file at path describes.

    Raises ExperimentError, in one line that begins with path, for anything wrong with it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ExperimentError(f"{path}: no such file; wanted an experiment file (TOML)") from None
    except IsADirectoryError:
        raise ExperimentError(f"{path}: wanted an experiment file (TOML), got a folder") from None
    except UnicodeDecodeError as error:
        raise ExperimentError(
            f"{path}: wanted UTF-8 text, got the byte 0x{error.object[error.start]:02x} at offset "
            f"{error.start}: save the file as UTF-8"
        ) from None
    except OSError as error:
        raise ExperimentError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_experiment(text, str(path))


def parse_experiment(text: str, name: str) -> Experiment:
    """Return the experiment that a TOML text describes.

    Raises ExperimentError, in one line that begins with name, for anything wrong with it.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).rstrip(")").rpartition(" (at ")
        raise ExperimentError(f"{name}: {place}: not valid TOML: {reason}") from None
    try:
        experiment = _experiment(read_tables(document), text, name)
        check_experiment(experiment)
    except ValueError as error:
        raise ExperimentError(f"{name}: {error}") from None
    return experiment


def _experiment(file: ExperimentTable, text: str, name: str) -> Experiment:
    analysis: dict[str, Any] = file.analysis.model_dump() | {"band": _pair(file.analysis.band)}
    if file.analysis.fit_window is not None:
        analysis["fit_window"] = _pair(file.analysis.fit_window)
    scan = None
    if file.gain_scan is not None:
        scan = GainScanSpec(
            delta=tuple(file.gain_scan.delta),
            t_c=file.gain_scan.t_c,
            fit_window=_pair(file.gain_scan.fit_window),
            shots=file.gain_scan.shots,
        )
    return Experiment(
        title=file.title,
        params=Params(**file.params.model_dump()),
        detector=_detector(file.detector),
        stages=tuple(StageSpec(**stage.model_dump()) for stage in file.sequence.stages),
        delta=file.sequence.delta,
        switching=_switching(file.sequence),
        **file.simulation.model_dump(),
        analysis=AnalysisSpec(**analysis),
        gain_scan=scan,
        text=text,
        source=name,
    )


def _pair(values: list[float]) -> tuple[float, float]:
    return values[0], values[1]


def _switching(table: SequenceTable) -> Switching | None:
    if table.switching == "cavity":
        return Switching(rise_time=table.rise_time or 0.0)
    if table.rise_time is not None:
        raise ValueError(
            "sequence.rise_time: given, but switching is instantaneous, which takes no time: add "
            'switching = "cavity", or leave rise_time out'
        )
    return None


def _technical(table: TechnicalTable, quadratures: list[str]) -> Technical:
    where = "detector.technical"
    if quadratures == ["D"]:
        raise ValueError(
            f"{where}: wanted a receiver of light, got the ideal record D, which has neither local "
            "oscillator nor digitiser: leave this table out, or record 'I' and 'Q' or 'homodyne'"
        )
    for name in LO_FIELDS:
        if getattr(table, name) and tuple(quadratures) not in TURNED:
            raise ValueError(
                f"{where}.{name}: wanted none with quadratures = {_toml(quadratures)}, since the "
                'local oscillator turns both quadratures into each other: record ["I", "Q"] or '
                f'["homodyne"], or leave {name} out'
            )
    if table.adc_bits is not None and table.adc_range is None:
        raise ValueError(
            f"{where}.adc_range: this key is missing; adc_bits needs it: write one such as "
            'adc_range = "100 nW"'
        )
    if table.adc_range is not None and not table.adc_range > 0:
        raise ValueError(
            f"{where}.adc_range: wanted a positive full scale, got "
            f"'{units.format_power(table.adc_range)}'; without an ADC leave adc_range out"
        )
    if isinstance(table.dc_offset, tuple) and len(table.dc_offset) != len(quadratures):
        raise ValueError(
            f"{where}.dc_offset: wanted one power, or one for each of quadratures = "
            f"{_toml(quadratures)}, got {len(table.dc_offset)}"
        )
    return Technical(**table.model_dump())


def _detector(table: DetectorTable) -> Detector:
    if tuple(table.quadratures) not in RECEIVERS:
        raise ValueError(
            f"detector.quadratures: wanted one of {', '.join(_toml(list(r)) for r in RECEIVERS)}, "
            f"got {_toml(table.quadratures)}"
        )
    if table.angle is not None and table.quadratures != ["homodyne"]:
        raise ValueError(
            'detector.angle: given, but only quadratures = ["homodyne"] has an angle, got '
            f"{_toml(table.quadratures)}: leave angle out, or record homodyne"
        )
    s_sn = table.S_SN
    if s_sn is not None and not (table.lo_power is None and table.wavelength is None):
        raise ValueError(
            "detector.S_SN: given together with lo_power or wavelength, which also fix it: "
            "keep one of the two"
        )
    if s_sn is None:
        if table.lo_power is None or table.wavelength is None:
            missing = "lo_power" if table.lo_power is None else "wavelength"
            raise ValueError(
                f"detector.{missing}: this key is missing; give lo_power and wavelength, "
                "or S_SN alone such as '2.5e-22 W^2/Hz'"
            )
        for name, value in (("lo_power", table.lo_power), ("wavelength", table.wavelength)):
            if not value > 0:
                raise ValueError(f"detector.{name}: wanted a positive quantity, got {value}")
        s_sn = shot_noise_density(table.lo_power, table.wavelength)
    technical = table.technical
    return Detector(
        efficiency=table.efficiency,
        sample_interval=table.sample_interval,
        collection=table.collection,
        S_SN=s_sn,
        quadratures=tuple(table.quadratures),
        model=table.model,
        technical=None if technical is None else _technical(technical, table.quadratures),
        **({} if table.angle is None else {"angle": table.angle}),
    )


def dump_experiment(experiment: Experiment) -> str:
    """Return the experiment as canonical TOML, which parses to an equal experiment.

    Keys that arrived after the first version are left out where they have their defaults.
    """
    angular, duration = units.format_angular, units.format_duration
    p, d, a = experiment.params, experiment.detector, experiment.analysis
    switching = experiment.switching
    simulation = {name: getattr(experiment, name) for name in _SIMULATION}
    if experiment.tolerance != TOLERANCE:
        simulation["tolerance"] = float(experiment.tolerance)
    tables = [
        _table("", title=experiment.title),
        _table(
            "[params]",
            **{name: angular(getattr(p, name)) for name in _ANGULAR_PARAMS},
            B_s=units.format_rate(p.B_s),
            **{name: float(getattr(p, name)) for name in _PLAIN_PARAMS},
        ),
        _table(
            "[detector]",
            efficiency=float(d.efficiency),
            collection=float(d.collection),
            sample_interval=duration(d.sample_interval),
            S_SN=units.format_power_density(d.S_SN),
            quadratures=list(d.quadratures),
            model=None if d.model == "adiabatic" else d.model,
            angle=units.format_angle(d.angle) if d.quadratures == ("homodyne",) else None,
        ),
        *([] if d.technical is None else [_dump_technical(d.technical)]),
        _table(
            "[sequence]",
            delta=None if experiment.delta is None else angular(experiment.delta),
            switching=None if switching is None else "cavity",
            rise_time=None if switching is None else duration(switching.rise_time),
        ),
        *[_dump_stage(stage) for stage in experiment.stages],
        _table("[simulation]", **simulation),
        _table(
            "[analysis]",
            pulse=a.pulse,
            ringdown=a.ringdown,
            band=[units.format_frequency(f) for f in a.band],
            cycle_average=units.format_frequency(a.cycle_average),
            fit_window=None if a.fit_window is None else [duration(t) for t in a.fit_window],
            filter_start=duration(a.filter_start),
            filter_length=None if a.filter_length is None else duration(a.filter_length),
        ),
    ]
    if experiment.gain_scan is not None:
        scan = experiment.gain_scan
        tables.append(
            _table(
                "[gain_scan]",
                delta=[angular(delta) for delta in scan.delta],
                t_c=duration(scan.t_c),
                fit_window=[duration(t) for t in scan.fit_window],
                shots=scan.shots,
            )
        )
    return "\n".join(tables)


_ANGULAR_PARAMS = "omega_m omega_s kappa g_m g_s g_sm gamma_m sigma_m sigma_s".split()
_PLAIN_PARAMS = ("n_bath", "epsilon", "n_m0", "n_s0")
_SIMULATION = ("shots", "seed", "method", "substeps", "dtype")


def _dump_technical(technical: Technical) -> str:
    offset = technical.dc_offset
    return _table(
        "[detector.technical]",
        lo_offset=units.format_angular(technical.lo_offset),
        lo_phase=units.format_angle(technical.lo_phase),
        phase_drift=units.format_phase_drift(technical.phase_drift),
        dc_offset=[units.format_power(part) for part in offset]
        if isinstance(offset, tuple)
        else units.format_power(offset),
        adc_range=None if technical.adc_range is None else units.format_power(technical.adc_range),
        adc_bits=technical.adc_bits,
    )


def _dump_stage(stage: StageSpec) -> str:
    def trap(end: float | str) -> str:
        return end if isinstance(end, str) else units.format_angular(end)

    def ramp(value, write: Callable[[Any], object]) -> object:
        return [write(end) for end in value] if isinstance(value, tuple) else write(value)

    return _table(
        "[[sequence.stages]]",
        name=stage.name,
        duration=units.format_duration(stage.duration),
        nbar=ramp(stage.nbar, float),
        delta_pc=ramp(stage.delta_pc, units.format_angular),
        omega_m=ramp(stage.omega_m, trap),
        B_s=None if stage.B_s is None else units.format_rate(stage.B_s),
        n_bath=None if stage.n_bath is None else float(stage.n_bath),
    )


def _table(header: str, **entries: object) -> str:
    """Return a TOML table; entries that are None are left out."""
    lines = [f"{key} = {_toml(value)}" for key, value in entries.items() if value is not None]
    return "\n".join([header, *lines] if header else lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str):
        # TOML's basic strings are JSON's, but for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)

"""Keys of an experiment file: pydantic models, units turned to SI, and errors people can read."""

import difflib
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
)

from jaxsde.engine.resolution import TOLERANCE
from jaxsde.engine.technical import MAX_BITS
from jaxsde.lab import units
from jaxsde.lab.spec import TrapEnd, TrapSpec

Angular = Annotated[float, BeforeValidator(lambda text: units.angular(text))]
Rate = Annotated[float, BeforeValidator(lambda text: units.rate(text))]
Duration = Annotated[float, BeforeValidator(lambda text: units.duration(text))]
Frequency = Annotated[float, BeforeValidator(lambda text: units.frequency(text))]
Power = Annotated[float, BeforeValidator(lambda text: units.power(text))]
Length = Annotated[float, BeforeValidator(lambda text: units.length(text))]
PowerDensity = Annotated[float, BeforeValidator(lambda text: units.power_density(text))]
Angle = Annotated[float, BeforeValidator(lambda text: units.angle(text))]
PhaseDrift = Annotated[float, BeforeValidator(lambda text: units.phase_drift(text))]
Ramp = float | tuple[float, float]


def _one_or_ramp(value: Any, read: Callable[[Any], Any]) -> Any:
    """Return what read makes of a value, or of both ends of a ramp [from, to]."""
    if not isinstance(value, list):
        return read(value)
    if len(value) != 2:
        raise ValueError(f"wanted a pair [from, to] for a ramp, got {units.shown(value)}")
    return read(value[0]), read(value[1])


def _photons(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        wanted = "a number, or a pair [from, to] of numbers for a ramp"
        raise ValueError(f"wanted {wanted}, got {units.shown(value)}")
    if not math.isfinite(value):
        raise ValueError(f"wanted a finite number, got {units.shown(value)}")
    return float(value)


def _dc_offset(value: Any) -> float | tuple[float, ...]:
    if isinstance(value, list):
        return tuple(units.power(part) for part in value)
    return units.power(value)


def _trap_end(value: Any) -> TrapEnd:
    if value == "rest" or value == "coupled":
        return value
    if isinstance(value, str) and not any(letter.isdigit() for letter in value):
        wanted = f"'rest', 'coupled' or a quantity such as '{units.ANGULAR.example}'"
        raise ValueError(f"wanted {wanted}, got {value!r}")
    return units.angular(value)


class _Table(BaseModel):
    """Refuse unknown keys, NaN and numbers of another type ("4" for 4)."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class ParamsTable(_Table):
    """[params], the fields of jaxsde.Params."""

    omega_m: Angular
    omega_s: Angular
    kappa: Angular
    g_m: Angular
    g_s: Angular
    g_sm: Angular = 0.0
    gamma_m: Rate = 0.0
    n_bath: float = 0.0
    B_s: Rate = 0.0
    epsilon: float = -1.0
    sigma_m: Angular = 0.0
    sigma_s: Angular = 0.0
    n_m0: float = 0.0
    n_s0: float = 0.0


class TechnicalTable(_Table):
    """[detector.technical], the fields of jaxsde.Technical."""

    lo_offset: Angular = 0.0
    lo_phase: Angle = 0.0
    phase_drift: PhaseDrift = 0.0
    dc_offset: Annotated[float | tuple[float, ...], PlainValidator(_dc_offset)] = 0.0
    adc_range: Power | None = None
    adc_bits: int | None = Field(default=None, ge=1, lt=MAX_BITS + 1)


class DetectorTable(_Table):
    """[detector]; S_SN, or lo_power with wavelength."""

    efficiency: float
    sample_interval: Duration
    collection: float = 0.5
    S_SN: PowerDensity | None = None
    lo_power: Power | None = None
    wavelength: Length | None = None
    quadratures: list[str] = ["I", "Q"]
    model: Literal["adiabatic", "input_output"] = "adiabatic"
    angle: Angle | None = None
    technical: TechnicalTable | None = None


class StageTable(_Table):
    """[[sequence.stages]]."""

    name: str = Field(min_length=1)
    duration: Duration
    nbar: Annotated[Ramp, PlainValidator(lambda value: _one_or_ramp(value, _photons))]
    delta_pc: Annotated[Ramp, PlainValidator(lambda value: _one_or_ramp(value, units.angular))] = (
        0.0
    )
    omega_m: Annotated[TrapSpec, PlainValidator(lambda value: _one_or_ramp(value, _trap_end))] = (
        "rest"
    )
    B_s: Rate | None = None
    n_bath: float | None = None


class SequenceTable(_Table):
    """[sequence]."""

    delta: Angular | None = None
    switching: Literal["instantaneous", "cavity"] = "instantaneous"
    rise_time: Duration | None = None
    stages: list[StageTable] = Field(min_length=1)


class SimulationTable(_Table):
    """[simulation]."""

    shots: int = Field(ge=1)
    seed: int = Field(ge=0, lt=2**63)
    method: Literal["exact", "interaction_euler", "euler_maruyama"] = "exact"
    substeps: int = Field(default=1, ge=1)
    dtype: Literal["float32", "float64"] = "float64"
    tolerance: float = TOLERANCE


class AnalysisTable(_Table):
    """[analysis]."""

    ringdown: str
    band: list[Frequency] = Field(min_length=2, max_length=2)
    cycle_average: Frequency
    pulse: str | None = None
    fit_window: list[Duration] | None = Field(default=None, min_length=2, max_length=2)
    filter_start: Duration = 0.0
    filter_length: Duration | None = None


class GainScanTable(_Table):
    """[gain_scan]."""

    delta: list[Angular] = Field(min_length=1)
    t_c: Duration
    fit_window: list[Duration] = Field(min_length=2, max_length=2)
    shots: int = Field(ge=1)


class ExperimentTable(_Table):
    """The whole file."""

    title: str
    params: ParamsTable
    detector: DetectorTable
    sequence: SequenceTable
    simulation: SimulationTable
    analysis: AnalysisTable
    gain_scan: GainScanTable | None = None


_TABLES: dict[str, type[_Table]] = {
    "params": ParamsTable,
    "detector": DetectorTable,
    "detector.technical": TechnicalTable,
    "sequence": SequenceTable,
    "sequence.stages": StageTable,
    "simulation": SimulationTable,
    "analysis": AnalysisTable,
    "gain_scan": GainScanTable,
}
_EXAMPLES = {
    "title": 'title = "Negative-mass instability"',
    "params": "[params]",
    "detector": "[detector]",
    "sequence": "[sequence]",
    "params.omega_m": 'omega_m = "2pi * 95 kHz"',
    "simulation": "[simulation]",
    "analysis": "[analysis]",
    "params.omega_s": 'omega_s = "2pi * 120 kHz"',
    "params.kappa": 'kappa = "2pi * 1.82 MHz"',
    "params.g_m": 'g_m = "2pi * 26 kHz"',
    "params.g_s": 'g_s = "2pi * -18 kHz"',
    "sequence.stages": "[[sequence.stages]]",
    "sequence.stages.name": 'name = "pulse"',
    "sequence.stages.duration": 'duration = "60 us"',
    "sequence.stages.nbar": "nbar = 10.0",
    "detector.efficiency": "efficiency = 0.09",
    "detector.sample_interval": 'sample_interval = "0.5 us"',
    "simulation.shots": "shots = 200",
    "simulation.seed": "seed = 2018",
    "analysis.ringdown": 'ringdown = "ringdown"',
    "analysis.band": 'band = ["85 kHz", "150 kHz"]',
    "analysis.cycle_average": 'cycle_average = "120 kHz"',
    "gain_scan.delta": 'delta = ["2pi * 0 kHz", "2pi * 5 kHz"]',
    "gain_scan.t_c": 't_c = "100 us"',
    "gain_scan.fit_window": 'fit_window = ["12 us", "92 us"]',
    "gain_scan.shots": "shots = 200",
}
_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text in quotes",
    "list_type": "a list [...]",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def read_tables(document: dict[str, Any]) -> ExperimentTable:
    """Return the validated tables of a parsed TOML document.

    Raises ValueError for the first thing wrong, as one line that begins with its dotted path.
    """
    try:
        return ExperimentTable.model_validate(document)
    except ValidationError as error:
        # A misspelt key also makes the right one missing: name the cause, not its consequence.
        errors = error.errors(include_url=False)
        first = min(errors, key=lambda e: e["type"] != "extra_forbidden")
        raise ValueError(_readable(document, first)) from None


def _readable(document: dict[str, Any], error: Any) -> str:
    """Return one line for one pydantic error."""
    loc, kind, got, limits = error["loc"], error["type"], error["input"], error.get("ctx", {})
    where = dotted(document, loc)
    keys = ".".join(str(part) for part in loc if not isinstance(part, int))
    if kind == "extra_forbidden":
        return f"{where}: {_unknown_key(keys)}"
    if kind == "missing":
        return f"{where}: this key is missing; write one such as {_EXAMPLES[keys]}"
    if kind == "value_error":
        return f"{where}: {limits['error']}"
    if kind == "literal_error":
        return f"{where}: wanted {limits['expected']}, got {units.shown(got)}"
    if kind in ("greater_than_equal", "less_than"):
        sign = "at least" if kind == "greater_than_equal" else "less than"
        bound = limits.get("ge", limits.get("lt"))
        return f"{where}: wanted a whole number, {sign} {bound}, got {got}"
    if kind in ("too_short", "too_long"):
        side = "least" if kind == "too_short" else "most"
        bound = limits.get("min_length", limits.get("max_length"))
        return f"{where}: wanted at {side} {bound} entries, got {limits['actual_length']}"
    if kind == "string_too_short":
        return f"{where}: wanted a name, got empty text"
    wanted = _WANTED.get(kind) or str(error["msg"])
    return f"{where}: wanted {wanted}, got {units.shown(got)}"


def dotted(document: dict[str, Any], loc: tuple[int | str, ...]) -> str:
    """Return the path of an entry: params.kappa, analysis.band[1], or stage 'pulse': nbar."""
    path = ".".join(str(part) for part in loc)
    path = re.sub(r"\.(\d+)", r"[\1]", path)
    if loc[:2] != ("sequence", "stages") or len(loc) < 4 or not isinstance(loc[2], int):
        return path
    name = document["sequence"]["stages"][loc[2]].get("name")
    rest = path.partition("].")[2]
    return f"stage {name!r}: {rest}" if isinstance(name, str) and name else path


def _unknown_key(keys: str) -> str:
    table, _, key = keys.rpartition(".")
    known = list(_TABLES.get(table, ExperimentTable).model_fields)
    same = [k for k in known if k.lower() == key.lower()]
    near = same or difflib.get_close_matches(key, known, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    return f"no such key{guess} (known: {', '.join(known)})"

"""Quantities with explicit units, at the border only: text <-> SI floats (rad/s, 1/s, s, Hz, ...).

Angular frequency, ordinary frequency and rate are three dimensions here, so that "95 kHz" can
never be taken for an angular frequency.  Numbers are read as decimals and rounded to a float
once: "60 us" is 60e-6 to the last bit, and what the format functions write parses back exactly.
"""

import decimal
import functools
import math
import re
from typing import Any, NamedTuple

import pint

from jaxsde.physics.params import TWO_PI

_EXACT = decimal.Context(prec=120)  # enough for a float's 2 pi times any number people write
_QUANTITY = re.compile(
    r"(?P<turns>(?P<sign>[+-])?\s*2\s*\*?\s*(?:pi|π)\s*[*·×x]?\s*)?"
    r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf))"
    r"\s*(?P<unit>.*)",
    re.IGNORECASE,
)
_POWER = r"[a-zA-Zµμ°]+(?:\s*(?:\^|\*\*)\s*-?\d)?"
_UNIT = re.compile(rf"(?:1|{_POWER})(?:\s*[*/]\s*{_POWER})*")


@functools.cache
def registry() -> Any:
    """Return the units that experiment files may use; turns and radians are dimensions of it."""
    empty: Any = None  # no file of definitions; pint's annotations allow neither this nor decimals
    number: Any = decimal.Decimal
    units = pint.UnitRegistry(empty, non_int_type=number)
    for line in (
        "giga- = 1e9 = G-",
        "mega- = 1e6 = M-",
        "kilo- = 1e3 = k-",
        "milli- = 1e-3 = m-",
        "micro- = 1e-6 = u- = µ- = μ-",
        "nano- = 1e-9 = n-",
        "pico- = 1e-12 = p-",
        "second = [time] = s",
        "turn = [turn] = _ = cycle",
        "radian = [angle] = rad",
        f"degree = {_EXACT.divide(decimal.Decimal(TWO_PI), 360)} * radian = deg = °",
        "quantum = [quantum] = _ = quanta",
        "meter = [length] = m",
        "watt = [power] = W",
        "hertz = turn / second = Hz",
    ):
        units.define(line)
    return units


class Kind(NamedTuple):
    """Hold what a field accepts: SI units, and hertz if a leading "2pi *" turns it into rad/s."""

    what: str
    units: tuple[str, ...]
    example: str
    turns: bool = False


ANGULAR = Kind("an angular frequency", ("radian/second",), "2pi * 95 kHz", turns=True)
RATE = Kind(
    "a rate",
    ("1/second", "quantum/second", "radian/second"),
    "2pi * 2 kHz' or '12566 1/s",
    turns=True,
)
DURATION = Kind("a time", ("second",), "60 us")
FREQUENCY = Kind("an ordinary frequency", ("hertz",), "85 kHz")
POWER = Kind("a power", ("watt",), "1 mW")
LENGTH = Kind("a length", ("meter",), "780 nm")
ANGLE = Kind("an angle", ("radian",), "90 deg' or '1.5 rad")
PHASE_DRIFT = Kind("a phase diffusion", ("radian**2/second",), "10 rad^2/s")
POWER_DENSITY = Kind("a power density", ("watt**2/hertz",), "2.5e-22 W^2/Hz")


def angular(text: object, field: str = "") -> float:
    """Return the angular frequency in rad/s of "2pi * 95 kHz", "2π 95 kHz" or "6e5 rad/s".

    text: what the file holds.  field: dotted path that the error shall begin with.
    Raises ValueError for anything else; "95 kHz" alone is refused, since it does not say which.
    """
    return _parse(text, ANGULAR, field)


def rate(text: object, field: str = "") -> float:
    """Return the rate in 1/s of "2pi * 2 kHz", "12566 1/s" or "3e4 quanta/s" (see angular)."""
    return _parse(text, RATE, field)


def duration(text: object, field: str = "") -> float:
    """Return the time in s of "60 us" (see angular)."""
    return _parse(text, DURATION, field)


def frequency(text: object, field: str = "") -> float:
    """Return the ordinary frequency in Hz of "85 kHz"; "2pi *" is refused (see angular)."""
    return _parse(text, FREQUENCY, field)


def power(text: object, field: str = "") -> float:
    """Return the power in W of "1 mW" (see angular)."""
    return _parse(text, POWER, field)


def length(text: object, field: str = "") -> float:
    """Return the length in m of "780 nm" (see angular)."""
    return _parse(text, LENGTH, field)


def angle(text: object, field: str = "") -> float:
    """Return the angle in rad of "90 deg" or "1.5 rad" (see angular)."""
    return _parse(text, ANGLE, field)


def phase_drift(text: object, field: str = "") -> float:
    """Return the phase diffusion in rad^2/s of "10 rad^2/s" (see angular)."""
    return _parse(text, PHASE_DRIFT, field)


def power_density(text: object, field: str = "") -> float:
    """Return the spectral density in W^2/Hz of "2.5e-22 W^2/Hz" (see angular)."""
    return _parse(text, POWER_DENSITY, field)


def format_angular(value: float) -> str:
    """Return value (rad/s) as "2pi * 95 kHz", which angular and rate read back exactly."""
    return "2pi * " + _format(value, ("GHz", "MHz", "kHz", "Hz"), "hertz", TWO_PI)


def format_rate(value: float) -> str:
    """Return value (1/s) as "30000 1/s", which rate reads back exactly."""
    return _format(value, ("1/s",), "1/second")


def format_duration(value: float) -> str:
    """Return value (s) as "60 us", which duration reads back exactly."""
    return _format(value, ("s", "ms", "us", "ns"), "second")


def format_frequency(value: float) -> str:
    """Return value (Hz) as "85 kHz", which frequency reads back exactly."""
    return _format(value, ("GHz", "MHz", "kHz", "Hz"), "hertz")


def format_power(value: float) -> str:
    """Return value (W) as "1 pW", which power reads back exactly."""
    return _format(value, ("W", "mW", "uW", "nW", "pW"), "watt")


def format_angle(value: float) -> str:
    """Return value (rad) as "90 deg", which angle reads back exactly."""
    return _format(value, ("deg",), "radian")


def format_phase_drift(value: float) -> str:
    """Return value as "10 rad^2/s", which phase_drift reads back exactly."""
    return _format(value, ("rad^2/s",), "radian**2/second")


def format_power_density(value: float) -> str:
    """Return value as "2.5e-22 W^2/Hz", which power_density reads back exactly."""
    return _format(value, ("W^2/Hz",), "watt**2/hertz")


def _parse(text: object, kind: Kind, field: str) -> float:
    try:
        return _read(text, kind)
    except ValueError as error:
        raise ValueError(f"{field}: {error}" if field else str(error)) from None


def _read(text: object, kind: Kind) -> float:
    if not isinstance(text, str):
        raise ValueError(
            f"wanted a quantity with its unit such as '{kind.example}', got {shown(text)}"
        )
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise _refusal(text, kind, "write a number, then its unit")
    if not math.isfinite(float(match["number"])):
        raise _refusal(text, kind, "it must be finite")
    factor = _si_factor(text, kind, match["turns"] is not None, match["unit"])
    if match["sign"] == "-":
        factor = -factor
    number = decimal.Decimal(match["number"]) if float(match["number"]) else decimal.Decimal(0)
    value = float(_EXACT.multiply(number, factor))
    if not math.isfinite(value):
        raise _refusal(text, kind, "it must be finite")
    return value


def _si_factor(text: str, kind: Kind, turns: bool, unit_text: str) -> decimal.Decimal:
    """Return the SI value of one of the unit, 2 pi included, refusing units that do not fit."""
    if not unit_text:
        raise _refusal(text, kind, "its unit is missing")
    unit = _unit(unit_text)
    if unit is None:
        raise _refusal(text, kind, f"{unit_text!r} is no unit known here")
    if turns and not kind.turns:
        raise _refusal(text, kind, "leave the 2pi out")
    is_frequency = unit.is_compatible_with("hertz")
    if turns and not is_frequency:
        raise _refusal(text, kind, "after '2pi *' the unit must be Hz, kHz, MHz or GHz")
    if turns:
        return _EXACT.multiply(_factor(str(unit), "hertz"), decimal.Decimal(TWO_PI))
    if kind.turns and is_frequency:
        plain = text.strip()
        raise _refusal(text, kind, f"write '2pi * {plain}' if {plain} is the ordinary frequency")
    for target in kind.units:
        if unit.is_compatible_with(target):
            return _factor(str(unit), target)
    raise _refusal(text, kind, f"the unit {unit_text!r} does not fit")


def _refusal(text: str, kind: Kind, remedy: str) -> ValueError:
    return ValueError(f"wanted {kind.what} such as '{kind.example}', got {text!r}: {remedy}")


def shown(value: object) -> str:
    """Return value as an experiment file would write it, cut short, for an error message."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@functools.cache
def _unit(text: str) -> Any:
    """Return the unit that text names, or None."""
    text = "1" + text if text.startswith("/") else text  # "3e4 /s" is 3e4 1/s
    if _UNIT.fullmatch(text) is None:
        return None
    try:
        return registry().parse_units(text)
    except pint.UndefinedUnitError:
        return None


def _format(value: float, names: tuple[str, ...], base: str, turn: float = 1.0) -> str:
    """Return value in the first of names, largest first, that leaves a number of at least 1."""
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"wanted a finite number, got {value}")
    factors = [_EXACT.multiply(_factor(name, base), decimal.Decimal(turn)) for name in names]
    # 0.999999 allows for the rounding of a number that people wrote as a round one.
    size = abs(decimal.Decimal(value)) / decimal.Decimal("0.999999")
    best = next((i for i, factor in enumerate(factors) if size >= factor), len(names) - 1)
    return f"{_shortest(value, factors[best])} {names[best]}"


@functools.cache
def _factor(unit: str, base: str) -> decimal.Decimal:
    """Return how many of base make up one unit, exactly."""
    return registry().Quantity(decimal.Decimal(1), unit).to(base).magnitude


def _shortest(value: float, factor: decimal.Decimal) -> str:
    """Return the shortest decimal d with float(d * factor) == value: repr, for a unit."""
    exact = _EXACT.divide(decimal.Decimal(value), factor)
    for digits in range(1, 40):
        short = decimal.Context(prec=digits).plus(exact)
        if float(_EXACT.multiply(short, factor)) == value:
            break
    short = short.normalize() + 0  # + 0 turns -0 into 0
    return f"{short:f}" if -6 <= short.adjusted() <= 15 else f"{short:e}"

"""Aliasing: lines of a record that its samples would show at another frequency."""

import math

import numpy as np

from jaxsde.physics.params import TWO_PI, Leaf, Params, is_concrete
from jaxsde.physics.sequence import Controls, Sequence


def alias(frequency: float, sample_interval: float) -> float:
    """Return where a record shows a line, |f - round(f dt)/dt|, from 0 to 1/(2 dt).

    frequency: Hz.  sample_interval: dt, s.
    """
    return abs(frequency - round(frequency * sample_interval) / sample_interval)


def aliases(params: Params, sequence: Sequence) -> list[str]:
    """Return a message for every frequency that the samples of a sequence cannot hold.

    The spin's, and the motion's at both ends of every stage with light (jitter left out), if
    omega/2pi >= 1/(2 dt), half the sample rate.  Each message names its field and the frequency
    at which a record would show the line.  Tracers pass unexamined.
    """
    dt = sequence.sample_interval
    lit = [stage for stage in sequence.stages if not _is_dark(stage.controls)]
    found = []
    for stage in lit:
        for omega in _ends(stage.controls.omega_m, params.omega_m):
            found += _message(f"stage {stage.name!r}: omega_m", omega, dt)
    if lit:
        found += _message("params.omega_s", params.omega_s, dt)
    return list(dict.fromkeys(found))


def _is_dark(controls: Controls) -> bool:
    """Tell whether a stage has no light throughout, so that its record holds no line."""
    return all(is_concrete(nbar) and float(np.asarray(nbar)) == 0 for nbar in _ends(controls.nbar))


def _ends(value: Leaf | tuple[Leaf, Leaf], rest: Leaf = None) -> tuple[Leaf, ...]:
    pair = value if isinstance(value, tuple) else (value,)
    return tuple(rest if end is None else end for end in pair)


def _message(field: str, omega: Leaf, dt: float) -> list[str]:
    if not is_concrete(omega):
        return []
    name = field.rpartition(" ")[2].rpartition(".")[2]
    f, half = abs(float(np.asarray(omega))) / TWO_PI, 0.5 / dt
    # To rounding: a frequency written as half the sample rate is there.
    if not math.isfinite(f) or f < half * (1 - 1e-12):
        return []
    return [
        f"{field}: wanted {name}/2pi below {_khz(half)}, half the sample rate, got {_khz(f)}: the "
        f"record would show it at {_khz(alias(f, dt))}; take a sample_interval below "
        f"{0.5e6 / f:.4g} us"
    ]


def _khz(hertz: float) -> str:
    return f"{round(hertz / 1e3, 6):.9g} kHz"

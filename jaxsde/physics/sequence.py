"""Sequence: stages of an experiment, each an integer number of record samples long."""

import dataclasses
import math

import jax
import numpy as np

from jaxsde.physics.params import TWO_PI, Leaf, is_concrete


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Controls:
    """Hold what a stage sets.

    nbar: mean intracavity photon number.
    delta_pc: probe detuning omega_probe - omega_cavity', rad/s.
    omega_m: rad/s; None keeps params.omega_m, a pair (start, end) is a linear ramp over the stage.
    B_s, n_bath: override the fields of Params during this stage; None keeps them.
    """

    nbar: Leaf
    delta_pc: Leaf = 0.0
    omega_m: Leaf | tuple[Leaf, Leaf] | None = None
    B_s: Leaf | None = None
    n_bath: Leaf | None = None

    @property
    def is_ramp(self) -> bool:
        """Tell whether omega_m moves during the stage."""
        return isinstance(self.omega_m, tuple)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """Hold one stage: its name, its number of samples and its controls."""

    name: str = dataclasses.field(metadata=dict(static=True))
    n_samples: int = dataclasses.field(metadata=dict(static=True))
    controls: Controls


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sequence:
    """Hold the stages of one shot and the sample interval (s) that their counts refer to."""

    stages: tuple[Stage, ...]
    sample_interval: float = dataclasses.field(metadata=dict(static=True))

    @property
    def n_samples(self) -> int:
        """Total number of samples of a shot."""
        return sum(stage.n_samples for stage in self.stages)

    @property
    def stage_index(self) -> np.ndarray:
        """Index of the stage that each sample belongs to, shape (samples,)."""
        return np.repeat(np.arange(len(self.stages)), [s.n_samples for s in self.stages])

    @property
    def time(self) -> np.ndarray:
        """Middle of each sample's interval, s, shape (samples,); the shot starts at 0."""
        return (np.arange(self.n_samples) + 0.5) * self.sample_interval

    def span(self, name: str) -> slice:
        """Return the samples of the stage called name.

        Raises ValueError if no stage, or more than one, has that name.
        """
        names = [stage.name for stage in self.stages]
        if names.count(name) != 1:
            raise ValueError(
                f"stage {name!r}: wanted the name of one stage, got {names.count(name)} "
                f"stages so called; this sequence has {', '.join(names)}"
            )
        i = names.index(name)
        start = sum(stage.n_samples for stage in self.stages[:i])
        return slice(start, start + self.stages[i].n_samples)

    @staticmethod
    def kohler2018(
        *,
        delta: Leaf = TWO_PI * 5.5e3,
        t_c: float = 60e-6,
        nbar: Leaf = 10.0,
        delta_pc: Leaf = TWO_PI * -2.0e6,
        omega_m: Leaf = TWO_PI * 95e3,
        omega_s: Leaf = TWO_PI * 120e3,
        nbar_preparation: Leaf = 1.0,
        nbar_measurement: Leaf = 4.0,
        pulse_B_s: Leaf = 0.0,
        t_preparation: float = 60e-6,
        t_ramp: float = 10e-6,
        t_ringdown: float = 500e-6,
        sample_interval: float = 0.5e-6,
    ) -> "Sequence":
        """Return the paper's sequence: preparation, ramp, pulse, ramp back, ringdown.

        delta: omega_m - omega_s during the pulse, rad/s.  t_c: length of the pulse, s; 0 leaves
        the pulse out.  nbar, delta_pc: of the pulse.  pulse_B_s: anomalous diffusion before
        the ringdown, quanta/s; the paper models it "during the measurement interval" alone (S.3).
        Times are in s and must be whole numbers of sample_interval (ValueError if not).
        """
        up = omega_s + delta
        rest = Controls(nbar=nbar_preparation, omega_m=omega_m, B_s=pulse_B_s)
        ramp_up = Controls(nbar=nbar_preparation, omega_m=(omega_m, up), B_s=pulse_B_s)
        pulse = Controls(nbar=nbar, delta_pc=delta_pc, omega_m=up, B_s=pulse_B_s)
        ramp_down = Controls(nbar=nbar_measurement, omega_m=(up, omega_m))
        ringdown = Controls(nbar=nbar_measurement, omega_m=omega_m)
        plan = [
            ("preparation", t_preparation, rest),
            ("ramp_up", t_ramp, ramp_up),
            ("pulse", t_c, pulse),
            ("ramp_down", t_ramp, ramp_down),
            ("ringdown", t_ringdown, ringdown),
        ]
        return Sequence(
            stages=tuple(
                Stage(name=n, n_samples=whole_samples(n, t, sample_interval), controls=c)
                for n, t, c in plan
                if not (n == "pulse" and t == 0)
            ),
            sample_interval=sample_interval,
        )


def whole_samples(name: str, duration: float, sample_interval: float) -> int:
    """Return how many samples make up duration (both in s), for the stage called name.

    Raises ValueError unless it is a whole number, at least one, to 1e-6 of a sample.
    """
    if not (math.isfinite(sample_interval) and sample_interval > 0):
        raise ValueError(f"sample_interval: wanted a positive time in s, got {sample_interval}")
    if not (math.isfinite(duration) and duration > 0):
        raise ValueError(f"stage {name!r}: duration: wanted a positive time, got {duration} s")
    count = duration / sample_interval
    nearest = round(count)
    if nearest < 1 or abs(count - nearest) > 1e-6:
        below, above = math.floor(count) * sample_interval, math.ceil(count) * sample_interval
        near = " or ".join(f"{t * 1e6:g} us" for t in (below, above) if t > 0)
        raise ValueError(
            f"stage {name!r}: duration: wanted a whole number of samples of "
            f"{sample_interval * 1e6:g} us, got {duration * 1e6:g} us ({count:g} samples); "
            f"use {near}"
        )
    return nearest


def check_sequence(sequence: Sequence) -> None:
    """Raise ValueError for a sequence that cannot be run; tracers pass unexamined."""
    if not sequence.stages:
        raise ValueError("sequence.stages: wanted at least one stage, got none")
    dt = sequence.sample_interval
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"sequence.sample_interval: wanted a positive time in s, got {dt}")
    for stage in sequence.stages:
        if not (isinstance(stage.n_samples, int) and stage.n_samples >= 1):
            raise ValueError(
                f"stage {stage.name!r}: n_samples: wanted an integer of at least 1, "
                f"got {stage.n_samples!r}"
            )
        controls = stage.controls
        ends = controls.omega_m if isinstance(controls.omega_m, tuple) else (controls.omega_m,)
        if controls.is_ramp and len(ends) != 2:
            raise ValueError(
                f"stage {stage.name!r}: omega_m: wanted a pair (start, end), got {len(ends)} values"
            )
        _check(stage.name, "nbar", controls.nbar, lower=0.0)
        _check(stage.name, "delta_pc", controls.delta_pc)
        _check(stage.name, "B_s", controls.B_s, lower=0.0)
        _check(stage.name, "n_bath", controls.n_bath, lower=0.0)
        for end in ends:
            _check(stage.name, "omega_m", end, lower=0.0)
            if end is not None and is_concrete(end) and not np.all(np.asarray(end) > 0):
                raise ValueError(
                    f"stage {stage.name!r}: omega_m: wanted a positive number (rad/s), got {end}"
                )


def _check(stage: str, field: str, value: Leaf, lower: float = -math.inf) -> None:
    if value is None or not is_concrete(value):
        return
    array = np.asarray(value)
    number = array.dtype.kind in "fiu" and array.ndim == 0 and np.isfinite(array)
    if not number or array < lower:
        wanted = "one finite number" + ("" if lower == -math.inf else ", zero or more")
        raise ValueError(f"stage {stage!r}: {field}: wanted {wanted}, got {value!r}")

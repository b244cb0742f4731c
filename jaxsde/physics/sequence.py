"""Sequence: stages of an experiment, each an integer number of record samples long."""

import dataclasses
import math

import jax
import numpy as np

from jaxsde.physics.params import TWO_PI, Leaf, Params, is_concrete


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Controls:
    """Hold what a stage sets; of the first three, a pair (start, end) is a linear ramp over it.

    nbar: mean intracavity photon number.
    delta_pc: probe detuning omega_probe - omega_cavity', rad/s.
    omega_m: rad/s; None keeps params.omega_m.
    B_s, n_bath: override the fields of Params during this stage; None keeps them.
    """

    nbar: Leaf | tuple[Leaf, Leaf]
    delta_pc: Leaf | tuple[Leaf, Leaf] = 0.0
    omega_m: Leaf | tuple[Leaf, Leaf] | None = None
    B_s: Leaf | None = None
    n_bath: Leaf | None = None

    @property
    def is_ramp(self) -> bool:
        """Tell whether anything moves during the stage."""
        return any(isinstance(value, tuple) for value in (self.nbar, self.delta_pc, self.omega_m))


def at_fraction(value: Leaf | tuple[Leaf, Leaf], at: Leaf) -> Leaf:
    """Return a control at the fraction `at` of its stage: itself, or between a ramp's two ends."""
    if isinstance(value, tuple):
        start, end = value
        return start + (end - start) * at
    return value


def resolve(params: Params, controls: Controls) -> Controls:
    """Return controls with params' values where they override nothing.

    Stages that differ in their numbers alone then share one compiled program.
    """
    fill = dict(omega_m=params.omega_m, B_s=params.B_s, n_bath=params.n_bath)
    missing = {name: value for name, value in fill.items() if getattr(controls, name) is None}
    return dataclasses.replace(controls, **missing)


def start_of(controls: Controls) -> Controls:
    """Return constant controls equal to those at the start of a stage."""
    ramps = ("nbar", "delta_pc", "omega_m")
    ends = {name: at_fraction(getattr(controls, name), 0.0) for name in ramps}
    return dataclasses.replace(controls, **ends)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Switching:
    """Let the intracavity mean field follow the drive when a probe's nbar or delta_pc steps.

    The amplitude obeys alpha' = (-kappa + i Delta) alpha + E(t) (mean of S8).  The probe's
    frequency steps when a stage begins; the drive's amplitude |E| goes to its new value in
    rise_time (s), as (1 - cos)/2.  0 is a sudden drive: the cavity's own response remains.
    """

    rise_time: Leaf = 0.0


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
    """Hold the stages of one shot and the sample interval (s) that their counts refer to.

    switching: how the mean field gets from one stage to the next; None is the paper's model, in
        which it is there at once.
    """

    stages: tuple[Stage, ...]
    sample_interval: float = dataclasses.field(metadata=dict(static=True))
    switching: Switching | None = None

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
        switching: Switching | None = None,
    ) -> "Sequence":
        """Return the paper's sequence: preparation, ramp, pulse, ramp back, ringdown.

        delta: omega_m - omega_s during the pulse, rad/s.  t_c: length of the pulse, s; 0 leaves
        the pulse out.  nbar, delta_pc: of the pulse.  pulse_B_s: anomalous diffusion before
        the ringdown, quanta/s; the paper models it "during the measurement interval" alone (S.3).
        switching: of the mean field between stages; None is instantaneous.
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
            switching=switching,
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
        _check_controls(stage.name, stage.controls)
    if sequence.switching is not None:
        rise = sequence.switching.rise_time
        if is_concrete(rise) and not (np.isfinite(rise) and np.all(np.asarray(rise) >= 0)):
            raise ValueError(
                f"sequence.switching.rise_time: wanted zero or a positive time in s, got {rise}"
            )


def _check_controls(stage: str, controls: Controls) -> None:
    ramps = ("nbar", "delta_pc", "omega_m")
    for field in ramps:
        value = getattr(controls, field)
        ends = value if isinstance(value, tuple) else (value,)
        if isinstance(value, tuple) and len(ends) != 2:
            raise ValueError(
                f"stage {stage!r}: {field}: wanted a pair (start, end), got {len(ends)} values"
            )
        for end in ends:
            _check(stage, field, end, lower=-math.inf if field == "delta_pc" else 0.0)
            if field == "omega_m" and end is not None and is_concrete(end) and not end > 0:
                through = "; the ramp would go through zero frequency, where the trap holds nothing"
                raise ValueError(
                    f"stage {stage!r}: omega_m: wanted a positive number (rad/s), got {end}"
                    + (through if isinstance(value, tuple) else "")
                )
    _check(stage, "B_s", controls.B_s, lower=0.0)
    _check(stage, "n_bath", controls.n_bath, lower=0.0)


def _check(stage: str, field: str, value: Leaf, lower: float = -math.inf) -> None:
    if value is None or not is_concrete(value):
        return
    array = np.asarray(value)
    number = array.dtype.kind in "fiu" and array.ndim == 0 and np.isfinite(array)
    if not number or array < lower:
        wanted = "one finite number" + ("" if lower == -math.inf else ", zero or more")
        raise ValueError(f"stage {stage!r}: {field}: wanted {wanted}, got {value!r}")

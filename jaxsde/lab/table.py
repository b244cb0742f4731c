"""Table: the quantities that a run reports, each beside its exact theory."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsde.analysis.moments import derived
from jaxsde.lab.experiment import Results
from jaxsde.lab.pulse import pulse_controls
from jaxsde.lab.spec import Experiment, ends_of
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """Hold one line: value and error estimated, theory exact, in unit; note says what it is."""

    name: str
    label: str
    value: float
    error: float | None
    theory: float | None
    unit: str
    note: str

    @property
    def z(self) -> float | None:
        """(value - theory)/error, or None where one of them is missing."""
        if self.error is None or self.theory is None or not self.error > 0:
            return None
        return (self.value - self.theory) / self.error


def table_rows(results: Results) -> list[Row]:
    """Return the rows of a run: occupations, correlation and phase (S16), gain (S12).

    A last row tells the share of samples that the digitiser clipped, if it clipped any.
    """
    estimate = derived(results.moments.C, results.moments.C_cov)
    # To first order in the errors, which says nothing of a phase whose amplitude is not seen.
    for name in ("ab", "adag_b"):
        size, error = estimate[f"abs_{name}"]
        if size < 3 * (error or 0.0):
            estimate[f"arg_{name}"] = estimate[f"arg_{name}"][0], None
    exact = derived(jnp.asarray(results.C_theory))
    negative = float(np.asarray(results.experiment.params.epsilon)) < 0
    pair, symbol = ("ab", "<a b>") if negative else ("adag_b", "<a† b>")
    ringdown = results.experiment.analysis.ringdown
    at = f"when {ringdown} begins"

    def row(name, label, unit, note, turn=1.0, offset=0.0):
        (value, error), (theory, _) = estimate[name], exact[name]
        if name.startswith("arg"):
            value, theory = _near(value + offset, theory + offset)
        if name.startswith("abs") and error is not None and value < 3 * error:
            note += "; below 3 errors, where a modulus is biased upwards"
        if error is None:
            note += "; not determined, its amplitude is below 3 errors"
        return Row(
            name=name if offset == 0 else name + "_pulse",
            label=label,
            value=value / turn,
            error=None if error is None else error / turn,
            theory=theory / turn,
            unit=unit,
            note=note,
        )

    rows = [
        row("n_m", "<a† a>", "quanta", f"motion, {at}"),
        row("n_s", "<b† b>", "quanta", f"spin, {at}"),
        row(f"abs_{pair}", f"|{symbol}|", "quanta", f"correlation, {at}"),
        row(f"arg_{pair}", f"arg {symbol}", "π", f"its phase, {at}", turn=math.pi),
    ]
    offset = free_phase(results.experiment, results.main.sequence)
    if offset is not None:
        label = f"arg {symbol} at pulse end"
        note = "turned back by the free evolution of the ramp"
        rows.append(row(f"arg_{pair}", label, "π", note, turn=math.pi, offset=offset))
    if results.growth is not None:
        rows += _gain_rows(results)
    return rows + _clipping_rows(results)


def clipped_samples(results: Results) -> tuple[int, int]:
    """Return how many samples of all shots the digitiser clipped, and out of how many."""
    made = [results.main] + ([] if results.reference is None else [results.reference])
    clipped = sum(e.counts[1] for e in made)
    total = sum(e.counts[0] * e.shots.record.shape[1] for e in made)
    growth = results.growth
    if growth is not None and results.experiment.gain_scan is not None:
        clipped += int(np.sum(growth.clipped))
        total += growth.shots * growth.displacement.size
    return clipped, total


def _clipping_rows(results: Results) -> list[Row]:
    clipped, total = clipped_samples(results)
    if not clipped:
        return []
    row = Row(
        name="clipped",
        label="clipped samples",
        value=100 * clipped / total,
        error=None,
        theory=None,
        unit="%",
        note=f"{clipped:,} of {total:,} samples were beyond the range of the ADC; estimates and "
        "theory know nothing of that: raise adc_range if they disagree",
    )
    return [row]


def _near(value: float, theory: float) -> tuple[float, float]:
    """Return theory within (-pi, pi], and value on the same turn."""
    theory = math.remainder(theory, TWO_PI)
    return theory + math.remainder(value - theory, TWO_PI), theory


def free_phase(experiment: Experiment, sequence: Sequence) -> float | None:
    """Return the phase that the pair gains freely between the pulse's end and the ringdown.

    <a b> (negative mass) turns at -(omega_m + eps omega_s) and <a^dag b> (positive mass) at
    +(omega_m - eps omega_s); what is returned undoes it.  None without a pulse.
    """
    spec, p = experiment.analysis, experiment.params
    if spec.pulse is None:
        return None
    names = [stage.name for stage in sequence.stages]
    first, last = names.index(spec.pulse) + 1, names.index(spec.ringdown)
    if first > last:
        return None
    angle = 0.0
    for stage in sequence.stages[first:last]:
        ends = ends_of(stage.controls.omega_m)
        mean = float(np.mean([float(p.omega_m if w is None else w) for w in ends]))
        spin = float(np.asarray(p.epsilon * p.omega_s))
        rate = mean + spin if spin < 0 else -(mean - spin)
        angle += rate * stage.n_samples * sequence.sample_interval
    return angle


def _gain_rows(results: Results) -> list[Row]:
    growth = results.growth
    if growth is None:
        return []
    i = growth.at
    delta = growth.delta[i] / TWO_PI / 1e3
    where = "" if np.isnan(delta) else f"delta/2π = {delta:.4g} kHz, "
    note = f"S12, {where}t_c = {growth.t_c * 1e6:g} us, {growth.shots} shots"
    value, error = float(growth.fit.gain[i]), float(growth.fit.gain_error[i])
    fixed = bool(np.broadcast_to(growth.fit.at_bound, growth.delta.shape)[i])
    if value <= 1e-6 / growth.t_c:
        note += "; at its bound 0, these traces do not grow"
    held = [n for n, b in (("D_0", growth.fit.D_0_at_bound), ("diffusion", fixed)) if b]
    if held:
        note += f"; {' and '.join(held)} held at 0, so the error is a lower bound"
    note += "; error includes ±10 % of the fit window"
    e = results.experiment
    ramp = pulse_controls(e, results.main.sequence).is_ramp
    mean = "; theory: steady-state gain, averaged over the ramp of the pulse" if ramp else ""
    common: dict[str, Any] = dict(value=value, error=error, unit="1/s")
    return [
        Row(name="gain", label="G+", theory=float(growth.theory[i]), note=note + mean, **common),
        Row(
            name="gain_fit",
            label="G+, fit against fit",
            theory=float(growth.expected[i]),
            note="theory: the same fit to the exact <D²>",
            **common,
        ),
    ]


def format_number(value: float | None, error: float | None = None) -> str:
    """Return a number to two digits of its error, or to four (an error itself: to three).

    Up to a million without an exponent, so that a value, its error and theory read alike.
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    known = error is not None and math.isfinite(error) and error > 0
    scale, digits = (error, 2) if known and error is not None else (abs(value), 4)
    if scale == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(scale))
    if max(abs(value), scale) >= 1e6 or abs(scale) < 1e-4:
        lead = math.floor(math.log10(max(abs(value), scale)))
        return f"{value:.{max(places + lead, 1)}e}"
    rounded = round(value, places)
    return f"{rounded:.{max(places, 0)}f}"


def format_error(error: float | None) -> str:
    """Return an error to two digits."""
    if error is None or not math.isfinite(error):
        return "-"
    return format_number(error, error)

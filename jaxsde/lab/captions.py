"""Captions: what a figure shows and every parameter it was made with, in plain text."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxsde.engine.detect import Detector
from jaxsde.lab import units
from jaxsde.lab.experiment import Results
from jaxsde.lab.spec import Experiment, ends_of
from jaxsde.lab.table import clipped_samples
from jaxsde.physics.params import TWO_PI

LIGHT = {
    ("I", "Q"): "the total optical modulation (I and Q added)",
    ("I",): "the quadrature I",
    ("Q",): "the quadrature Q",
    ("homodyne",): "the homodyne photocurrent",
    ("D",): "the ideal record of D",
}
MODELS = {
    "adiabatic": "adiabatic model (S9-S10)",
    "input_output": "input-output model (the field that leaves the cavity)",
}

CAPTIONS = {
    "spectrogram": (
        "Spectrogram of {light}, averaged over {shown}, "
        "relative to shot noise (as Fig. 2a). Dashed: spin frequency ω_s/2π. Solid: trap frequency "
        "ω_m/2π through the stages."
    ),
    "displacement": (
        "Mean squared joint displacement ⟨D²⟩_cyc of both oscillators, D = g_m Z_m + g_s Z_s, in "
        "the cycle-averaged modulation power (S11, as Fig. 2c). Points: average over shots; band: "
        "its standard error; lines: exact expectation, filters and jitter included. Light points "
        "lie near changes of the probe or outside the fit window and enter no fit."
    ),
    "growth": (
        "Growth of ⟨D²⟩_cyc during the coupling pulse (as Fig. 3b). Bands: standard error. Lines: "
        "least-squares fits of D_0 e^(G t) + (b/G)(e^(G t) − 1) (S12) with a common D_0, over the "
        "window that they span; light points lie outside it. The axis is logarithmic above the "
        "noise, where the gain is the slope, and linear below it. Tinted panel: the δ nearest to "
        "that of the main ensemble."
    ),
    "gain": (
        "Instability gain G_+ against the detuning δ = ω_m − ω_s (as Fig. 3c). Diamonds: fits of "
        "S12 to the shots, error bars of 1 σ (statistical, and ±10 % of the fit window, added in "
        "squares). Line: steady-state gain of the full model. Open circles: the same fits applied "
        "to the exact ⟨D²⟩_cyc, so that what transients and filters do to a fit shows as their "
        "distance from the line. Pale diamonds: fits at the bound G_+ = 0, where the growth is "
        "told apart poorly from diffusion; their error bars may leave the frame."
    ),
    "moments": (
        "Second moments when the ringdown begins, from matched filters (S13-S16), beside exact "
        "theory (quantities of Figs. 4a-b). (a) Estimated symmetrised covariance C of (Z_m, P_m, "
        "Z_s, P_s); vacuum has 1. (b) Its exact value. (c) The difference in standard errors. "
        "(d) Occupations and correlation with 1 σ errors. (e) {resonant} in the complex plane: "
        "1 and 2 σ ellipses about the estimate; the circle is the largest |{resonant}| that "
        "uncertainty allows for the estimated occupations. {why}"
    ),
    "beat": (
        "Beat of ⟨D²⟩_cyc in the ringdown (as Fig. 4c). Circles: measured, 1 σ. Line: free "
        "evolution of the estimated two-mode state, averaged over cycles, with its 1 σ band. "
        "Shaded: 1 σ bounds for {bound}. Dashed: exact expectation."
        "{reference}"
    ),
}


def is_negative_mass(results: Results) -> bool:
    """Tell whether the spin has negative mass, so that ⟨a b⟩ and not ⟨a† b⟩ is resonant."""
    return float(np.asarray(results.experiment.params.epsilon)) < 0


def caption(name: str, results: Results) -> str:
    """Return the caption of the figure called name: what it shows, then its parameters.

    Raises ValueError for a name that is not in CAPTIONS.
    """
    if name not in CAPTIONS:
        raise ValueError(f"figure: wanted one of {', '.join(CAPTIONS)}, got {name!r}")
    negative = is_negative_mass(results)
    text = CAPTIONS[name].format(
        resonant="⟨a b⟩" if negative else "⟨a† b⟩",
        why=(
            "The spin has negative mass (ε = −1): pairs are created, so ⟨a b⟩ is the resonant "
            "correlation."
            if negative
            else "The spin has positive mass (ε = +1): quanta are exchanged, so ⟨a† b⟩ is the "
            "resonant correlation."
        ),
        light=LIGHT[results.experiment.detector.quadratures],
        shown="the shots"
        if results.main.counted is None
        else f"the first {len(results.main.shots.status)} shots",
        bound="a maximally correlated state with the same occupations",
        reference=(
            "" if results.reference is None else " Squares: without coupling, the initial state."
        ),
    )
    return f"{text} {parameters(name, results)}"


def parameters(name: str, results: Results) -> str:
    """Return the parameters of a figure as one sentence, angular frequencies divided by 2 pi."""
    e, p = results.experiment, results.experiment.params
    scan = results.growth if name in ("growth", "gain") and e.gain_scan is not None else None
    parts = [_pulse(results, scan), f"ε = {sign_of(p.epsilon)}"]
    parts.append(
        f"g_m/2π = {_hz(p.g_m)}, g_s/2π = {_hz(p.g_s)}, g_sm/2π = {_hz(p.g_sm)}, "
        f"κ/2π = {_hz(p.kappa)} (half-linewidth), Γ_m/2π = {_hz(p.gamma_m)}, "
        f"ω_m/2π = {_hz(p.omega_m)} at rest, ω_s/2π = {_hz(p.omega_s)}, "
        f"jitter σ_m/2π = {_hz(p.sigma_m)}, σ_s/2π = {_hz(p.sigma_s)}"
    )
    parts.append(
        f"bath occupation {float(p.n_bath):g}, initial occupations {float(p.n_m0):g} (motion) "
        f"and {float(p.n_s0):g} (spin)"
    )
    parts.append(f"B_s = {float(p.B_s):g} quanta/s (the paper prints no value)")
    parts.append(f"{receiver(e.detector)}, efficiency {float(e.detector.efficiency):g} after ")
    parts[-1] += f"collecting {float(e.detector.collection):g} of the output"
    if e.detector.technical is not None:
        parts.append(f"imperfections: {technical(e.detector)}")
    if has_adc(e.detector):
        parts.append(clipping(results))
    if e.switching is not None:
        parts.append(switching(e))
    if accuracy(results):
        parts.append(accuracy(results))
    shots = e.shots if scan is None else scan.shots
    each = "" if scan is None else " for each δ"
    parts.append(f"{shots} shots{each}, seed {e.seed}, method {e.method}")
    return "Parameters: " + "; ".join(parts) + "."


def _pulse(results: Results, scan) -> str:
    """Return what the pulse is, or the measurement if there is none."""
    e = results.experiment
    wanted = e.analysis.ringdown if e.analysis.pulse is None else e.analysis.pulse
    stage = next(s for s in e.stages if s.name == wanted)
    nbar = ramp(stage.nbar, lambda value: f"{value:g}")
    probe = f"n̄ = {nbar}, Δ_pc/2π = {ramp(stage.delta_pc, _hz)}"
    if e.analysis.pulse is None:
        return f"no pulse; stage {wanted} with {probe} for {stage.duration * 1e6:g} µs"
    if scan is not None:
        low, high = scan.delta.min(), scan.delta.max()
        delta = f"δ/2π = {_hz(low)} to {_hz(high)}"
        return f"pulse with {probe}, {delta}, t_c = {scan.t_c * 1e6:g} µs"
    delta = "" if e.delta is None else f", δ/2π = {_hz(e.delta)}"
    return f"pulse with {probe}{delta}, t_c = {stage.duration * 1e6:g} µs"


def ramp(value, write: Callable[[Any], str]) -> str:
    """Return a control as text, "1 → 10" if it ramps."""
    return " → ".join(write(end) for end in dict.fromkeys(ends_of(value)))


def receiver(detector: Detector) -> str:
    """Return what kind of receiver a detector is, and its model, in words."""
    if detector.quadratures == ("D",):
        return "ideal record of D"
    kind = "heterodyne receiver of " + " and ".join(detector.quadratures)
    if detector.quadratures == ("homodyne",):
        degrees = np.degrees(float(np.asarray(detector.angle)))
        kind = (
            f"homodyne receiver at {degrees:.6g}° (0° amplitude, 90° phase of the cavity's field)"
        )
    return f"{kind}, {MODELS[detector.model]}"


def technical(detector: Detector) -> str:
    """Return the imperfections of local oscillator and digitiser in words, "none" without."""
    t = detector.technical
    if t is None:
        return "none"
    offsets = t.dc_offset if isinstance(t.dc_offset, tuple) else (t.dc_offset,)
    parts = [
        f"LO offset/2π {_hz(t.lo_offset)}" if t.lo_offset else "",
        f"LO phase {units.format_angle(t.lo_phase)}" if t.lo_phase else "",
        f"LO phase diffusion {units.format_phase_drift(t.phase_drift)}" if t.phase_drift else "",
        f"DC offset {', '.join(map(units.format_power, offsets))}" if any(offsets) else "",
    ]
    if t.adc_range is not None:
        bits = "" if t.adc_bits is None else f", {t.adc_bits} bits"
        parts.append(f"ADC of ±{units.format_power(t.adc_range)}{bits}")
    return "; ".join(part for part in parts if part).replace(" -", " \N{MINUS SIGN}") or "none"


def has_adc(detector: Detector) -> bool:
    """Tell whether a detector's digitiser has a range, and so can clip."""
    return detector.technical is not None and detector.technical.adc_range is not None


def clipping(results: Results) -> str:
    """Return how many samples the digitiser clipped, in words."""
    clipped, total = clipped_samples(results)
    share = f" ({100 * clipped / total:.2g} %)" if clipped else ""
    return f"{clipped:,} of {total:,} samples clipped{share}"


def switching(experiment: Experiment) -> str:
    """Return how the mean field gets from one probe to the next, in words."""
    if experiment.switching is None:
        return "mean field at its new value as soon as the probe steps"
    rise = float(np.asarray(experiment.switching.rise_time))
    drive = f"risen in {rise * 1e6:g} µs" if rise else "stepped"
    return f"mean field follows the probe through the cavity, the drive {drive}"


def accuracy(results: Results) -> str:
    """Return the sub-steps of what moves and the error estimated for them, "" if nothing does."""
    sequence, made = results.main.sequence, results.main.shots.resolution
    ramps = any(stage.controls.is_ramp for stage in sequence.stages)
    switches = made.settling > 0 and len(sequence.stages) > 1
    if not (ramps or switches):
        return ""
    names = [
        f"ramps in {made.ramp_substeps}" if ramps else "",
        f"switches in {made.switch_substeps}" if switches else "",
    ]
    if made.method != "exact":
        return f"{made.substeps} Euler steps a sample, their error not estimated"
    return (
        f"{' and '.join(name for name in names if name)} sub-steps a sample, estimated error "
        f"{made.ramp_error:.1e} of a standard deviation (tolerance {made.tolerance:.0e})"
    ).replace("e-", "e\N{MINUS SIGN}")


def sign_of(value) -> str:
    """Return +1 or -1 with a true minus sign."""
    return f"{float(np.asarray(value)):+g}".replace("-", "\N{MINUS SIGN}")


def _hz(value) -> str:
    """Return an angular frequency (rad/s) divided by 2 pi, in Hz, kHz or MHz."""
    hertz = float(np.asarray(value)) / TWO_PI
    size, unit = next(
        ((s, u) for s, u in ((1e6, "MHz"), (1e3, "kHz")) if abs(hertz) >= 0.9999 * s), (1.0, "Hz")
    )
    return f"{hertz / size:.4g} {unit}".replace("-", "\N{MINUS SIGN}")

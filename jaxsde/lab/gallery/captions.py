"""Captions of the gallery: what each figure shows and every parameter it was made with."""

import numpy as np

from jaxsde.lab.gallery.draw_traces import pulse_of
from jaxsde.lab.gallery.record import Record
from jaxsde.lab.gallery.settings import SHOTS
from jaxsde.lab.gallery.text import (
    Facts,
    displacement_text,
    frequencies_text,
    hertz,
    sequence_text,
    system_text,
    uncertain_text,
    us,
)
from jaxsde.lab.style import minus


def shots_text(facts: Facts, dataset: str, of: str = "") -> str:
    """Return the number of shots, where it is from, and the seed."""
    number, why = SHOTS[dataset]
    origin = f" ({why})" if facts["shots"] == number else " (chosen by the caller)"
    return f"{facts['shots']} shots{of}{origin}, seed {facts['seed']}, exact propagation."


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _range(record: Record) -> str:
    low, high = record["delta"][[0, -1]]
    return f"δ/2π = {hertz(low)} to {hertz(high)}"


def _system(facts: Facts) -> str:
    return _join(system_text(facts), frequencies_text(facts))


def modes(record: Record) -> str:
    """Return the caption of Figs. 1a and 1b."""
    f = record.facts
    stage = f["stages"][0]
    return _join(
        "Level repulsion and instability of Eq. 1 against the detuning δ = ω_m − ω_s, for "
        "positive masses (a, ε = +1) and a negative-mass spin (b, ε = −1). Lines: ω_± = ω_0 ± "
        "√(δ² + ε Ω²)/2. Points: complex frequencies of both modes, from records of D by linear "
        "prediction with instruments; 1 σ by the jackknife over shots.",
        f"Spring Ω/2π = {hertz(f['spring'])} (the net spring of Fig. 3c), all of it static: light "
        f"on resonance (n̄ = {stage['nbar']:g}, Δ_pc = 0) couples nothing. ω_0/2π = "
        f"{hertz(f['omega_0'])}, ω_m and ω_s = ω_0 ± δ/2, {_range(record)}; "
        f"{us(stage['duration'])} of coupled evolution, lag of the prediction {us(f['lag'])}.",
        system_text(f, epsilon=False),
        shots_text(f, "modes", " for each δ"),
    )


def _pulse(record: Record, opening: str) -> str:
    f = record.facts
    chosen = "δ, t_c, Δ_pc's sign and the lengths of preparation and ringdown are not printed."
    return _join(
        opening,
        f"δ/2π = {hertz(f['delta'])}. {sequence_text(f)} {chosen}",
        _system(f),
    )


def spectrogram(record: Record) -> str:
    """Return the caption of Fig. 2a."""
    f = record.facts
    relative = 100 / np.sqrt(f["shots"])
    opening = (
        "Spectrogram of the total optical modulation (I and Q added) over shot noise. Dashed: "
        "spin frequency ω_s/2π; solid: trap frequency ω_m/2π through the stages. Right: spectrum "
        "of the ringdown's beginning, 1 σ, and its exact expectation (line). A pixel scatters by "
        f"{relative:.0f} % of itself. Hann windows of {us(f['window'])} (map) and "
        f"{us(f['spectrum'] * f['detector']['sample_interval'])} (spectrum)."
    )
    return _join(_pulse(record, opening), shots_text(f, "pulse"))


def coupling(record: Record) -> str:
    """Return the caption of Fig. 2b."""
    opening = (
        "Optodynamical coupling strength Ω_opt = 4 g_s g_m n̄ Δ_pc/(κ² + Δ_pc²) through the "
        "sequence, with the pulse and without, and the net spring with it. Settings, not "
        "estimates: they have no error."
    )
    return _pulse(record, opening)


def displacement(record: Record) -> str:
    """Return the caption of Fig. 2c."""
    opening = (
        "Mean squared joint displacement ⟨D²⟩_cyc, D = g_m Z_m + g_s Z_s, with the coupling pulse "
        "(circles) and without (squares: the trap stays at rest and the probe at that of the "
        "preparation). Bands: 1 σ over shots; lines: exact expectation. Light points lie within "
        "15 µs of a step of the probe."
    )
    return _join(
        _pulse(record, opening),
        displacement_text(record.facts),
        shots_text(record.facts, "pulse", " each"),
    )


def onset(record: Record) -> str:
    """Return the caption of Fig. 3a."""
    f = record.facts
    each = ", ".join(
        f"{hertz(x)} (Ω/2π = {hertz(s, 3)}; steady-state G_+ {_ms(a)} and {_ms(b)} ms⁻¹)"
        for x, s, a, b in zip(record["delta_pc"], record["spring"], *record["gain"], strict=True)
    )
    first, second = (hertz(d) for d in record["delta"])
    kappa = f["params"]["kappa"] / (2 * np.pi * 1e3)
    return _join(
        "Onset of instability in ⟨D²⟩_cyc for increasing optical coupling, offset for clarity. "
        f"Points and bands: shots, 1 σ; lines: exact expectation; light: within 15 µs of the "
        f"pulse's start. (a) δ/2π = {first} as printed, (b) {second}. From bottom to top "
        f"Δ_pc/2π = {each} in (a) and (b). (κ/2)²/(2π)² = {(kappa / 2) ** 2 / 1e3:.0f} × 10³ kHz² "
        "lies beyond the frame.",
        sequence_text(f, delta_pc="Δ_pc as given"),
        "Δ_pc but the last, its sign and t_c are not printed.",
        _system(f),
        displacement_text(f),
        shots_text(f, "onset", " for each trace"),
    )


def _ms(gain: float) -> str:
    return minus(f"{gain / 1e3:.1f}")


def _fit(record: Record) -> str:
    f = record.facts
    start, stop = f["window"]
    return (
        f"{_range(record)}, fitted from {us(start)} to {us(stop)} after the "
        f"pulse's start, in {f['bins']} bins weighted by their covariance over shots, D_0 common "
        "to all traces, G_+ and diffusion of each its own (S.5)."
        + ("" if f["converged"] else " The fit did not converge.")
    )


def resonance(record: Record) -> str:
    """Return the caption of Fig. 3b."""
    f = record.facts
    return _join(
        "Resonance of the instability for varied δ. Points and bands: shots, 1 σ, light outside "
        "the fit window; dashed: exact expectation; thick lines: joint fits of D_0 e^(G_+ t) + "
        "(b/G_+)(e^(G_+ t) − 1) (S12). The axis is linear below 30 and logarithmic above. "
        "“Not told apart”: the contour of Δχ² = 1 of gain and diffusion is open, or wider than "
        "±25 ms⁻¹.",
        _fit(record),
        sequence_text(f),
        "t_c and δ are not printed.",
        _system(f),
        displacement_text(f),
        shots_text(f, "resonance", " for each trace"),
    )


def gain(red: Record, blue: Record) -> str:
    """Return the caption of Figs. 3c and 3d."""
    f = red.facts
    t_c = [us(pulse_of(record)["duration"]) for record in (red, blue)]
    return _join(
        "Instability gain G_+ against δ for both signs of the probe detuning. Lines: steady-state "
        "theory, 2 max Re λ of the full drift. Diamonds: joint fits of S12, 1 σ (half the range "
        "of the Δχ² = 1 contour, and of ±10 % of the fit interval, added in squares); squares: "
        f"the same with {f['many']} shots for each δ, in {f['many_bins']} bins; open circles: "
        "the same fit of the exact expectation. Crosses: δ at which the first do not tell gain "
        "from diffusion (contour open, or error above 25 ms⁻¹). Points are 0.35 kHz apart for "
        "clarity.",
        f"(c) {_fit(red)}",
        f"(d) {_fit(blue)}",
        sequence_text(f, delta_pc="Δ_pc as given", length=f"{t_c[0]} in (c), {t_c[1]} in (d)"),
        "t_c and δ are not printed.",
        _system(f),
        displacement_text(f),
        shots_text(f, "resonance", " for each δ"),
    )


def growth(record: Record) -> str:
    """Return the caption of Fig. 4a."""
    f = record.facts
    first, second = (hertz(d) for d in record["delta"])
    return _join(
        "Growth of mechanical (downward triangles), spin (upward triangles) and correlated "
        "(squares) occupation with the length t_c of the pulse, from matched filters (S13-S16), "
        "when the ringdown begins. Black lines: exact theory of the same. Thick line and band: "
        "|⟨ab⟩| that theory predicts at its best detuning of the initial state measured at t_c = "
        f"0, 1 σ. (a) δ/2π = {first} as printed, (b) {second}.",
        sequence_text(f, length="t_c"),
        _system(f),
        uncertain_text(f),
        shots_text(f, "growth", " for each point"),
    )


def detuning(record: Record) -> str:
    """Return the caption of Fig. 4b."""
    f = record.facts
    return _join(
        "Correlated occupation |⟨ab⟩| and its phase against δ, from matched filters (S13-S16). "
        "Lines: exact theory. Phases are turned back to the pulse's end by the free evolution of "
        "the ramp; pale where the amplitude is below 3 σ. Dotted: −π/2.",
        f"{_range(record)}.",
        sequence_text(f),
        _system(f),
        uncertain_text(f),
        shots_text(f, "detuning", " for each δ"),
    )


def beat(record: Record) -> str:
    """Return the caption of Fig. 4c."""
    f = record.facts
    return _join(
        "Beat of ⟨D²⟩_cyc in the ringdown: measured with the pulse (circles) and without "
        "(squares), 1 σ, against free evolution of the two-mode states estimated by matched "
        "filters, averaged over cycles (lines, 1 σ bands). Shaded: 1 σ bounds of a maximally "
        "correlated state with the estimated occupations. Dashed: exact expectation.",
        f"δ/2π = {hertz(f['delta'])} (the setting is not printed).",
        sequence_text(f),
        _system(f),
        displacement_text(f),
        shots_text(f, "beat", " each"),
    )


def diffusion(record: Record) -> str:
    """Return the caption of Fig. S1c."""
    f = record.facts
    fit = f["fit"]
    start, stop = (us(fit[k] - f["origin"]) for k in ("start", "stop"))
    return _join(
        "Linear growth of ⟨D²⟩_cyc under measurement, without a pulse, and the calibration of "
        "B_s. Points: shots, 1 σ (neighbours are correlated). Solid: straight line through them "
        f"from {start} to {stop}, B_s = ({fit['B_s'] / 1e4:.2f} ± {fit['B_s_stderr'] / 1e4:.2f}) "
        "× 10⁴ quanta/s; dashed: exact expectation with the true B_s; dotted: expectation for "
        "B_s = 0, of measurement back-action "
        f"({f['backaction'] / 1e4:.2f} × 10⁴ quanta/s into the spin) and the motion.",
        sequence_text(f),
        "Their lengths are not printed.",
        _system(f),
        displacement_text(f),
        shots_text(f, "diffusion"),
    )


def positive(record: Record) -> str:
    """Return the caption of Fig. S2."""
    f = record.facts
    start, stop = f["window"]
    return _join(
        "Absence of instability for two positive masses. (a) ⟨D²⟩_cyc during the pulse with ε = "
        "+1, offset for clarity: points and bands are shots, 1 σ, light within 15 µs of the "
        f"pulse's start; lines: exact expectation. (b) Its growth from the first to the last "
        f"{us(f['edge'])} between {us(start)} and {us(stop)} (circles), beside the same pulses "
        "with ε = −1 (diamonds); lines: exact. The axis is linear below 30 and logarithmic above.",
        f"{_range(record)}.",
        sequence_text(f),
        "t_c and δ are not printed.",
        _system(f),
        displacement_text(f),
        shots_text(f, "positive", " for each trace"),
    )

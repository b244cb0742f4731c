"""Text of captions: the parameters of a record in words, angular frequencies divided by 2 pi."""

from typing import Any

from jaxsde.lab.captions import MODELS, sign_of
from jaxsde.lab.style import US, minus
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Sequence, Stage, whole_samples

Facts = dict[str, Any]
NAMES = {
    "preparation": "preparation",
    "ramp_up": "ramp of the trap",
    "pulse": "coupling pulse",
    "ramp_down": "ramp back",
    "ringdown": "ringdown",
    "coupled": "coupled evolution",
}


def hertz(value: float, digits: int = 4) -> str:
    """Return an angular frequency (rad/s) divided by 2 pi, in Hz, kHz or MHz."""
    plain = float(value) / TWO_PI
    size, unit = next(
        ((s, u) for s, u in ((1e6, "MHz"), (1e3, "kHz")) if abs(plain) >= 0.9999 * s), (1.0, "Hz")
    )
    return minus(f"{plain / size:.{digits}g} {unit}") if plain else "0"


def _power(value: float) -> str:
    """Return a small number to three digits with a power of ten."""
    mantissa, exponent = f"{value:.2e}".split("e")
    digits = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} × 10{digits}"


def us(value: float) -> str:
    """Return a time (s) in microseconds."""
    return f"{float(value) * US:.4g} µs"


def sequence_of(facts: Facts) -> Sequence:
    """Return the stages of a record as a Sequence, for their names and lengths."""
    dt = facts["detector"]["sample_interval"]
    stages = tuple(
        Stage(
            name=s["name"],
            n_samples=whole_samples(s["name"], s["duration"], dt),
            controls=Controls(nbar=s["nbar"]),
        )
        for s in facts["stages"]
    )
    return Sequence(stages=stages, sample_interval=dt)


def shot_noise(facts: Facts) -> float:
    """Return the one-sided shot-noise density of I and Q together, W^2/Hz."""
    return 2 * facts["detector"]["S_SN"]


def stage_text(stage: Facts, delta_pc: str | None = None, length: str | None = None) -> str:
    """Return one stage in words; delta_pc, length: text in place of its own."""
    of_probe = f"Δ_pc/2π = {hertz(stage['delta_pc'])}" if delta_pc is None else delta_pc
    trap = stage["omega_m"]
    at = {"rest": "", "coupled": ", ω_m = ω_s + δ"}
    where = ", ω_m ramped" if isinstance(trap, list | tuple) else at.get(trap, "")
    time = us(stage["duration"]) if length is None else length
    return f"{NAMES[stage['name']]} {time} (n̄ = {stage['nbar']:g}, {of_probe}{where})"


def sequence_text(facts: Facts, **pulse: str) -> str:
    """Return the stages of a record in words; pulse: delta_pc and length of the pulse."""
    parts = [stage_text(s, **(pulse if s["name"] == "pulse" else {})) for s in facts["stages"]]
    return "Sequence: " + ", ".join(parts) + "."


def system_text(facts: Facts, *, epsilon: bool = True) -> str:
    """Return couplings, widths, occupations and the receiver."""
    p, d = facts["params"], facts["detector"]
    sign = f"ε = {sign_of(p['epsilon'])}, " if epsilon else ""
    diffusion = (
        f"B_s = {p['B_s']:g} quanta/s where n̄ = 4 (the paper prints no value), "
        if p["B_s"]
        else "B_s = 0, "
    )
    light = (
        f"ideal record of D, samples of {us(d['sample_interval'])}"
        if d["quadratures"] == ["D"]
        else f"heterodyne receiver of I and Q, {MODELS[d['model']]}, efficiency "
        f"{100 * d['efficiency']:g} % after collecting {d['collection']:g} of the output, "
        f"S_SN = {_power(d['S_SN'])} W²/Hz, samples of {us(d['sample_interval'])}"
    )
    return (
        f"Parameters: {sign}g_m/2π = {hertz(p['g_m'])}, g_s/2π = {hertz(p['g_s'])}, g_sm/2π = "
        f"{hertz(p['g_sm'])}, κ/2π = {hertz(p['kappa'])} (half-linewidth), Γ_m/2π = "
        f"{hertz(p['gamma_m'])}, jitter σ_m/2π = {hertz(p['sigma_m'])} and σ_s/2π = "
        f"{hertz(p['sigma_s'])}, bath occupation {p['n_bath']:g}, initial occupations "
        f"{p['n_m0']:g} (motion) and {p['n_s0']:g} (spin), {diffusion}{light}."
    )


def frequencies_text(facts: Facts) -> str:
    """Return the frequencies of both oscillators."""
    p = facts["params"]
    return f"ω_m/2π = {hertz(p['omega_m'])} at rest, ω_s/2π = {hertz(p['omega_s'])}."


def displacement_text(facts: Facts) -> str:
    """Return what S11 does to the records."""
    low, high = (f / 1e3 for f in facts["band"])
    return (
        f"⟨D²⟩_cyc by S11: band {low:g} to {high:g} kHz, averaged over cycles below "
        f"{facts['cycle_average'] / 1e3:g} kHz, shot noise of these filters subtracted."
    )


def uncertain_text(facts: Facts) -> str:
    """Return the standard errors that the systematic errors stand for."""
    parts = []
    for name, error in facts["uncertain"].items():
        size = hertz(error) if name in facts["absolute"] else f"{100 * error:g} %"
        over = "/2π" if name in facts["absolute"] else ""
        parts.append(f"{SYMBOLS[name]}{over} {size}")
    return (
        f"Error bars: 1 σ, statistical and systematic added in squares; systematic: half the "
        f"central 68 % of {facts['draws']} filter sets drawn with standard errors (chosen: none "
        f"are printed) of {', '.join(parts)}."
    )


SYMBOLS = {
    "g_m": "g_m",
    "g_s": "g_s",
    "kappa": "κ",
    "gamma_m": "Γ_m",
    "n_bath": "bath occupation",
    "B_s": "B_s",
    "sigma_m": "σ_m",
    "sigma_s": "σ_s",
    "omega_m": "ω_m",
    "omega_s": "ω_s",
    "nbar": "n̄",
}

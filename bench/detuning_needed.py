"""What would move the steady-state peak to 14 kHz, and how much of it would be needed.

Hypotheses, not simulations: each changes one thing that the paper's text fixes or leaves open, says
how far the peak goes for it, how much is needed, and what that same amount would do at Delta > 0.
"""

import dataclasses
import math

import numpy as np
import scipy.optimize
from detuning_atoms import PROBE, TRAP, length
from detuning_chain import KHZ, MHZ, PAPER, TWO_PI, Setting, sequence, steady_gain

from jaxsde.physics.theory import optical_shift, shifted_frequencies

GOAL = 14.0  # kHz
FINE = np.arange(-30.0, 30.01, 0.05) * KHZ
BARE = Setting()
RECOIL = (
    0.5 * (TWO_PI / TRAP * length(PAPER.omega_s)) ** 2 * 2 * PAPER.omega_s / KHZ
)  # kHz, of 842 nm
ANGLE_SHIFT = (
    abs(PAPER.g_s) / math.sqrt(3000) / KHZ
)  # kHz of Larmor frequency and photon, B along z


def top(setting: Setting) -> tuple[float, float]:
    """Return where the steady-state gain peaks (kHz) and how high (1/ms)."""
    gain = steady_gain(setting, FINE)
    i = int(gain.argmax())
    a, b, c = np.polyfit(FINE[i - 2 : i + 3] / KHZ - FINE[i] / KHZ, gain[i - 2 : i + 3], 2)
    return float(FINE[i] / KHZ - b / (2 * a)), float((c - b * b / (4 * a)) / 1e3)


def with_atoms(**changes) -> Setting:
    """Return the bare pulse with other parameters."""
    return dataclasses.replace(BARE, params=dataclasses.replace(PAPER, **changes))


def _blue(setting: Setting) -> Setting:
    return dataclasses.replace(setting, delta_pc=-setting.delta_pc)


def _scaled(make, low: float, high: float) -> tuple[float, dict]:
    """Return the x at which make(x) peaks at GOAL, and both peaks there."""
    x = scipy.optimize.root_scalar(
        lambda x: top(make(x))[0] - GOAL, bracket=(low, high), xtol=1e-4
    ).root
    return x, dict(red=top(make(x)), blue=top(_blue(make(x))))


def needed() -> dict:
    """Return every candidate: its effect, how much of it 14 kHz needs, and the peaks then."""
    here, blue = top(BARE), top(_blue(BARE))
    missing, found = GOAL - here[0], {}
    factor, then = _scaled(lambda f: dataclasses.replace(BARE, nbar=10.0 * f), 1.5, 4.0)
    half = top(dataclasses.replace(BARE, nbar=11.0))[0] - here[0]
    found["nbar of the pulse"] = dict(
        effect=f"{half:.2f} kHz for 10 %", needed=f"{factor:.2f} times as many", **then
    )
    factor, then = _scaled(lambda f: with_atoms(g_m=f * PAPER.g_m), 1.2, 2.5)
    half = top(with_atoms(g_m=1.1 * PAPER.g_m))[0] - here[0]
    found["g_m alone"] = dict(
        effect=f"{half:.2f} kHz for 10 %", needed=f"{factor:.2f} times", **then
    )
    best = max(
        (top(dataclasses.replace(BARE, delta_pc=d * MHZ)) for d in np.arange(-2.4, -0.99, 0.05)),
        key=lambda t: t[0],
    )
    found["Delta, best of -2.4 to -1.0 MHz"] = dict(
        effect=f"at most {best[0] - here[0]:.2f} kHz", needed="cannot", red=best
    )
    move = dict(red=(GOAL, here[1]), blue=(blue[0] + missing, blue[1]))
    share = missing / (PAPER.omega_s / KHZ + GOAL)
    found["trap softer in the pulse than believed"] = dict(
        effect="1 kHz for 1 kHz",
        needed=f"{missing:.2f} kHz, {100 * share:.1f} % of omega_m", **move,
    )  # fmt: skip
    found["cloud heated, sin^2 trap of 842 nm"] = dict(
        effect=f"{2 * RECOIL:.2f} kHz for a quantum in each atom",
        needed=f"{missing / (2 * RECOIL):.2f} quanta in each", **move,
    )  # fmt: skip
    extra = (10.0 - 1.0) * ANGLE_SHIFT
    found["B tilted towards the cavity's axis"] = dict(
        effect=f"{math.sin(math.radians(5)) * extra:.2f} kHz for 5 degrees",
        needed=f"sin(tilt) = {missing / extra:.1f}: cannot",
    )
    second = (10.0 * ANGLE_SHIFT) ** 2 / (2 * PAPER.omega_s / KHZ)
    found["light shift across B, second order"] = dict(effect=f"{second:.3f} kHz", needed="cannot")
    found.update(_defined(here))
    return dict(rows=found, heating=2 * RECOIL, push=push())


def push() -> dict:
    """Return what 10 photons displace (zero-point units), and the quanta that a step leaves."""
    p = PAPER
    z_m = 2 * BARE.nbar * p.g_m / (p.omega_s + 5.5 * KHZ)
    z_s = 2 * BARE.nbar * abs(p.g_s) / p.omega_s
    return dict(motion=z_m, spin=z_s, n_motion=z_m**2 / 4, n_spin=z_s**2 / 4)


def _defined(here: tuple[float, float]) -> dict:
    """Return what other definitions of delta would make of the same peak."""
    stages = sequence(BARE, here[0] * KHZ).stages
    pulse = next(part for part in stages if part.name == "pulse").controls
    w_m, w_s = shifted_frequencies(PAPER, pulse)
    apart = float((w_m - w_s) / KHZ)
    still = dataclasses.replace(pulse, nbar=4.0, delta_pc=0.0)
    dark = max(
        abs(float(np.real(optical_shift(g, w, PAPER, still))) / KHZ)
        for g, w in ((PAPER.g_m, PAPER.omega_m), (PAPER.g_s, PAPER.omega_s))
    )
    flat = -10 * (PAPER.g_m**2 + PAPER.g_s**2) * 2 * BARE.delta_pc
    flat = float(flat / (PAPER.kappa**2 + BARE.delta_pc**2) / KHZ)
    light = 10.0 * 2 * PAPER.g_m / (PAPER.omega_s + 5.5 * KHZ)
    kz = -PAPER.g_sm / (2 * PAPER.g_s) * light
    g_c = 6 * 2 * PAPER.g_s / math.sqrt(3000) / KHZ  # of g_s = alpha1 g_c sqrt(F/8), F = 6,000
    bend = 10 * (2 / 3) * abs(g_c) * 4 * abs(kz) * (TWO_PI / PROBE * length(PAPER.omega_s)) ** 2
    return {
        "finite sideband of the springs": dict(
            effect=f"{here[0] - flat:+.2f} kHz, of {flat:.2f} kHz without", needed="cannot"
        ),
        "delta between lines seen in the light of the pulse": dict(
            effect=f"peak at {apart:+.2f} kHz", needed="wrong way"
        ),
        "delta between lines seen in the light of the measurement": dict(
            effect=f"{dark:.2f} kHz: no spring at Delta = 0", needed="cannot"
        ),
        "probe's curvature at the displaced cloud": dict(
            effect=f"{bend:.2f} kHz at k z = {abs(kz):.4f}", needed="cannot"
        ),
    }

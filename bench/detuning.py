"""Find where the fitted gain peaks when the sequence is simulated as it was run.

Makes docs/open-question-detuning.md.

    python bench/detuning.py linear --out docs/data        # exact expectations, some minutes
    python bench/detuning.py shots --out docs/data         # scatter of the peak
    python bench/detuning.py atoms --out docs/data         # beyond the linear model, half an hour
    python bench/detuning.py needed --out docs/data        # what other explanations would need
    python bench/detuning.py report --out docs/data --page docs/open-question-detuning.md

Each writes its part of open-question-detuning.json; `report` draws the figure and the tables.
"""

import argparse
import dataclasses
import json
import pathlib
import time

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402
from detuning_atoms import Kind, measured_atoms  # noqa: E402
from detuning_chain import (  # noqa: E402
    KHZ,
    MHZ,
    PAPER,
    US,
    Setting,
    correlation,
    expect,
    resolved,
    steady_gain,
)
from detuning_needed import GOAL, needed  # noqa: E402
from detuning_peak import Peak, fit_peak, peak_of, redrawn  # noqa: E402
from detuning_report import report  # noqa: E402

import jaxsde as js  # noqa: E402

NAME = "open-question-detuning.json"
RED = np.arange(-6.0, 24.1, 2.0) * KHZ
SHOTS, MORE, DRAWS = 200, 300, 400
BARE = Setting()
STAGED = dataclasses.replace(BARE, nbar_before=1.0, ramp=True)


def changed(setting: Setting = BARE, atoms: dict | None = None, **others) -> Setting:
    """Return a setting with fields of its own, and of its params (atoms), changed."""
    params = dataclasses.replace(setting.params, **(atoms or {}))
    return dataclasses.replace(setting, params=params, **others)


JITTER = dict(sigma_m=PAPER.sigma_m, sigma_s=PAPER.sigma_s)
KICK = dict(pushed=True, follows=True)
PUSHED = changed(STAGED, JITTER, filtered=True, **KICK, rise=1 * US)
ALL = changed(PUSHED, pulse_B_s=PAPER.B_s, scaled=True)
# What a step of nbar does besides: the cloud is displaced by k z = 0.014 (see `displaced`).


def displaced() -> Setting:
    """Return the bare pulse with Delta and g_s as the mean displacement by 10 photons leaves them.

    Z_m = -2 nbar g_m/omega_m and Z_s = -2 eps nbar g_s/omega_s; D of them moves the cavity, and
    g_s = u G1 ... goes as u = (1 - sin 2 k z)/2, k z = eta Z_m, eta = -g_sm/(2 g_s).
    """
    p, n = BARE.params, BARE.nbar
    z_m = -2 * n * p.g_m / (p.omega_s + 5.5 * KHZ)
    z_s = -2 * p.epsilon * n * p.g_s / p.omega_s
    kz = -p.g_sm / (2 * p.g_s) * z_m
    atoms = dict(g_s=p.g_s * (1 - np.sin(2 * kz)), g_m=p.g_m * np.cos(2 * kz))
    return changed(atoms=atoms, delta_pc=BARE.delta_pc - p.g_m * z_m - p.g_s * z_s)


# name: (group, setting, fit window in us).  Shifts are against the bare pulse.
VARIED: dict[str, tuple[str, Setting, tuple[float, float]]] = {
    "bare pulse": ("reference", BARE, (12, 92)),
    "fit from 5 us": ("analysis", BARE, (5, 92)),
    "fit from 20 us": ("analysis", BARE, (20, 92)),
    "fit to 50 us": ("analysis", BARE, (12, 50)),
    "fit to 70 us": ("analysis", BARE, (12, 70)),
    "fit to 110 us": ("analysis", BARE, (12, 110)),
    "fit to 140 us": ("analysis", BARE, (12, 140)),
    "band-pass of S11": ("analysis", changed(filtered=True), (12, 92)),
    "preparation at nbar 1, ramps of 10 us": ("sequence", STAGED, (12, 92)),
    "cavity's response, sudden drive": ("sequence", changed(follows=True), (12, 92)),
    "drive rises in 10 us": ("sequence", changed(follows=True, rise=10 * US), (12, 92)),
    "push, sudden": ("push", changed(STAGED, pushed=True), (12, 92)),
    "push, drive rises in 1 us": ("push", changed(STAGED, **KICK, rise=1 * US), (12, 92)),
    "push, drive rises in 5 us": ("push", changed(STAGED, **KICK, rise=5 * US), (12, 92)),
    "push, drive rises in 10 us": ("push", changed(STAGED, **KICK, rise=10 * US), (12, 92)),
    "push, frequency steps 2 us late": ("push", changed(STAGED, **KICK, late=2 * US), (12, 92)),
    "jitter of the paper": ("atoms", changed(atoms=JITTER), (12, 92)),
    "jitter three times that": (
        "atoms", changed(atoms={k: 3 * v for k, v in JITTER.items()}), (12, 92),
    ),
    "B_s = 3e4 quanta/s in the pulse": ("atoms", changed(pulse_B_s=3e4), (12, 92)),
    "B_s = 2e5 quanta/s in the pulse": ("atoms", changed(pulse_B_s=2e5), (12, 92)),
    "n_m = 0.3 at the start": ("atoms", changed(atoms=dict(n_m0=0.3)), (12, 92)),
    "n_m = 3 at the start": ("atoms", changed(atoms=dict(n_m0=3.0)), (12, 92)),
    "n_s = 0 at the start": ("atoms", changed(atoms=dict(n_s0=0.0)), (12, 92)),
    "n_s = 3 at the start": ("atoms", changed(atoms=dict(n_s0=3.0)), (12, 92)),
    "nbar 10 % higher": ("couplings", changed(nbar=11.0), (12, 92)),
    "nbar 10 % lower": ("couplings", changed(nbar=9.0), (12, 92)),
    "g_m 10 % higher": ("couplings", changed(atoms=dict(g_m=1.1 * PAPER.g_m)), (12, 92)),
    "g_m, g_sm as omega_m^-1/2": ("couplings", changed(scaled=True), (12, 92)),
    "atoms displaced by the light": ("couplings", displaced(), (12, 92)),
    "all of the linear model": ("together", ALL, (12, 92)),
    "the same, fit to 50 us": ("together", ALL, (12, 50)),
    "the same, fit to 140 us": ("together", ALL, (12, 140)),
}  # fmt: skip
MIRRORED = {
    "bare pulse": (BARE, (12, 92)),
    "fit to 140 us": (BARE, (12, 140)),
    "all of the linear model": (ALL, (12, 92)),
    "the same, fit to 140 us": (ALL, (12, 140)),
}
STOPS = (40, 50, 60, 70, 80, 92, 110, 125, 140)  # us
TIMES = (30, 40, 50, 60, 70, 80, 92, 110, 140)  # us
BEYOND = {
    "one collective atom": Kind(),
    "every atom, trap softens": Kind(atoms=3000, probe="sine", trap="softens"),
    "every atom, linear probe": Kind(atoms=3000),
    "every atom, sin^2 probe": Kind(atoms=3000, probe="sine"),
}


def row(peak: Peak) -> dict:
    """Return a peak in kHz and 1/ms."""
    return dict(at=peak.at / KHZ, height=peak.height / 1e3, width=peak.width / KHZ)


def varied_window(delta, traces, window) -> tuple[list[float], js.GainFit, Peak]:
    """Return the peaks (kHz) of windows 10 % shorter and longer (S.5), the fit and the peak."""
    start, stop = (t * US for t in window)
    peak, fit = fit_peak(delta, traces, (start, stop))
    ends = (start + f * (stop - start) for f in (0.9, 1.1))
    return [fit_peak(delta, traces, (start, end))[0].at / KHZ for end in ends], fit, peak


def steady(sign: int = 1) -> dict:
    """Return the peak of steady-state theory, on a fine grid and by the parabola."""
    setting, fine = changed(delta_pc=-2.0 * MHZ * sign), np.arange(-30, 30, 0.05) * KHZ
    gain = steady_gain(setting, fine)
    coarse = sign * RED
    return dict(
        at=float(fine[gain.argmax()] / KHZ),
        height=float(gain.max() / 1e3),
        parabola=row(peak_of(coarse, np.maximum(steady_gain(setting, coarse), 0.0))),
        delta=(np.arange(-30, 30.1, 0.25)).tolist(),
        gain=(steady_gain(setting, np.arange(-30, 30.1, 0.25) * KHZ) / 1e3).tolist(),
    )


def linear(found: dict, keep) -> dict:
    """Return the peaks of exact expectations, every ingredient alone and all together.

    found: what an earlier run has; keep: called with every addition to it.
    """
    found = dict(varied={}, blue={}) | found
    last = {}
    moving = [s for _, s, _ in VARIED.values() if s.follows]
    common = resolved(moving, RED)

    def fitted(name, of, setting, delta, window):
        clock = time.perf_counter()
        resolution = common if setting.follows else None
        if last.get("of") != of:
            last.update(of=of, made=expect(setting, delta, resolution))
            ab = correlation(setting, delta, resolution)
            last.update(ab=peak_of(delta, ab).at / KHZ)
        others, fit, peak = varied_window(delta, last["made"].traces(SHOTS), window)
        print(
            f"{name:38s} {peak.at / KHZ:6.2f} kHz, {time.perf_counter() - clock:.0f} s", flush=True
        )
        return dict(
            window=list(window), **row(peak), others=others, correlation=last["ab"],
            delta=(delta / KHZ).tolist(), gain=(fit.gain / 1e3).tolist(),
            error=(fit.gain_stat / 1e3).tolist(),
        )  # fmt: skip

    for name, (group, setting, window) in VARIED.items():
        if name not in found["varied"]:
            found["varied"][name] = dict(
                group=group, **fitted(name, (id(setting), 1), setting, RED, window)
            )
            keep(found)
    for name, (setting, window) in MIRRORED.items():
        if name not in found["blue"]:
            mirrored = changed(setting, delta_pc=-setting.delta_pc)
            found["blue"][name] = fitted(name, (id(setting), -1), mirrored, -RED[::-1], window)
            keep(found)
    found["varied"] = {name: found["varied"][name] for name in VARIED}
    found |= dict(theory=steady(), theory_blue=steady(-1))
    if "windows" not in found:
        found["windows"] = windows(common)
    return found


def windows(resolution) -> dict:
    """Return the peak against the fit's stop, and where <D^2> is largest, without and with push."""
    found = {}
    for name, setting in {"bare": BARE, "push": PUSHED}.items():
        made = expect(setting, RED, resolution if setting.follows else None)
        traces = {n: made.traces(n) for n in (30, SHOTS)}
        peaks, errors = [], []
        for stop in STOPS:
            peak, _ = fit_peak(RED, traces[SHOTS], (12 * US, stop * US))
            _, fit = fit_peak(RED, traces[30], (12 * US, stop * US))
            peaks.append(peak.at / KHZ)
            # The middle one of the five traces around the peak.
            near = np.argsort(np.abs(RED - peak.at))[:5]
            errors.append(float(np.median(fit.gain_stat[near]) / 1e3))
        largest = []
        for t in TIMES:
            now = made.power[:, np.argmin(np.abs(made.time - t * US))]
            i = int(np.clip(now.argmax(), 1, len(RED) - 2))
            a, b, _ = np.polyfit(RED[i - 1 : i + 2] / KHZ, now[i - 1 : i + 2] / now.max(), 2)
            largest.append(-b / (2 * a))
        found[name] = dict(peak=peaks, error30=errors, largest=largest)
        print(name, np.round(peaks, 2), np.round(errors), np.round(largest, 1), flush=True)
    return dict(stops=list(STOPS), times=list(TIMES), **found)


def scattered(found: dict, keep) -> dict:
    """Return how the peak scatters for traces of 30 and 200 shots.

    Gains are drawn about those of the exact expectation, with the errors that such traces have.
    """
    cases = {"without push": changed(STAGED, JITTER, filtered=True), "with push": PUSHED}
    out = {}
    for name, setting in cases.items():
        made = expect(setting, RED)
        for shots in (30, SHOTS):
            for stop in (60, 92, 140):
                _, fit = fit_peak(RED, made.traces(shots), (12 * US, stop * US))
                peaks = redrawn(RED, fit.gain, fit.gain_stat, DRAWS)[0] / KHZ
                low, mid, high = np.quantile(peaks, [0.159, 0.5, 0.841])
                out[f"{shots} shots, {name}, fit to {stop} us"] = dict(
                    low=low, median=mid, high=high, above=float(np.mean(peaks > GOAL - 0.5))
                )
                print(name, shots, stop, np.round([low, mid, high], 2), flush=True)
    return out


def beyond(found: dict, keep) -> dict:
    """Return peaks of nonlinear shots, red and blue."""
    setting = dataclasses.replace(STAGED, filtered=True, t_c=110 * US)
    every = changed(setting, JITTER, rise=1 * US)
    last = BEYOND["every atom, trap softens"]
    cases = {"all together": (every, RED, last)}
    cases |= {name: (setting, RED, kind) for name, kind in BEYOND.items()}
    cases["all together, blue"] = changed(every, delta_pc=2.0 * MHZ), -RED[::-1], last
    for name, (one, delta, kind) in cases.items():
        if name in found:
            continue
        clock = time.perf_counter()
        found[name] = measured_atoms(one, delta, kind, MORE)
        seconds = time.perf_counter() - clock
        value, error = found[name]["at"], found[name]["at_error"]
        print(f"{name:28s} {value:.2f} ± {error:.2f} kHz, {seconds:.0f} s", flush=True)
        keep(found)
    return found


def main() -> None:
    """Run one part, and keep what it gives beside the other parts."""
    parser = argparse.ArgumentParser(description="Find where the fitted gain peaks.")
    parts = dict(linear=linear, shots=scattered, atoms=beyond, needed=lambda found, keep: needed())
    parser.add_argument("part", choices=(*parts, "report"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/data"))
    parser.add_argument("--page", type=pathlib.Path)
    parser.add_argument("--figures", type=pathlib.Path, default=pathlib.Path("docs/img"))
    asked = parser.parse_args()
    path = asked.out / NAME
    data = json.loads(path.read_text()) if path.exists() else {}
    if asked.part == "report":
        report(data, asked.figures, asked.page)
        return
    asked.out.mkdir(parents=True, exist_ok=True)

    def keep(found: dict) -> None:
        kept = json.loads(path.read_text()) if path.exists() else {}
        text = json.dumps(kept | {asked.part: rounded(found)}, indent=1)
        path.write_text(text + "\n")

    keep(parts[asked.part](data.get(asked.part, {}), keep))


def rounded(value):
    """Return numbers to six digits: what is kept is what is said."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()

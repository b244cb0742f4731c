"""Figures of docs/accuracy.md, in the style of the package's own; used by accuracy.py."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from jaxsde.lab.style import BLUE, GREY, MARKERS, ORANGE, RC, RED, letter, new_figure, save_figure

NAMES = dict(exact="exact", interaction_euler="interaction Euler", euler_maruyama="Euler-Maruyama")
LOOKS = dict(
    exact=dict(color=BLUE, marker="o", linestyle="-"),
    interaction_euler=dict(color=ORANGE, marker="D", linestyle="--"),
    euler_maruyama=dict(color=RED, marker="^", linestyle="-."),
)


def _save(figure, folder: Path, name: str) -> None:
    save_figure(figure, folder / f"accuracy-{name}", ("png",))


def _log(axes: Axes, x: str, y: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, which="major", color="#E0E0E0", linewidth=0.5)
    axes.set_axisbelow(True)


def draw_steps(curves: dict, omega: float, folder: Path) -> None:
    """Draw the worst error of the moments against the step, for both stages."""
    with matplotlib.rc_context(RC):
        figure = new_figure(7.0, 3.3)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (stage, made), duration in zip(panels, curves.items(), (200, 60), strict=True):
            _log(axes, "step or sample interval (ns)", "")
            for method, (steps, found) in made.items():
                axes.plot(steps * 1e9, found, **LOOKS[method], label=NAMES[method])
            dt = np.geomspace(0.01, 20, 9)
            axes.plot(dt, omega**2 * dt * 1e-9 * duration * 1e-6, color=GREY, linewidth=0.9,
                      linestyle=":", label=r"$\omega_s^2\,\delta t\;t$")  # fmt: skip
            axes.set_ylim(1e-15, 1e3)
            axes.set_xlim(7e-3, 1.5e4)
            letter(axes, f"({'ab'[stage == 'pulse']}) {stage}, t = {duration} µs")
        panels[0].set_ylabel(r"worst error of $n_m$, $n_s$, $|\langle ab\rangle|$")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        _save(figure, folder, "steps")


def draw_cost(curves: dict, seconds: dict, shots: int, duration: float, folder: Path) -> None:
    """Draw error against the time of an ensemble, and its Monte Carlo error beside."""
    with matplotlib.rc_context(RC):
        figure = new_figure(5.2, 3.5)
        axes = figure.subplots()
        _log(
            axes,
            f"time of {shots:,} shots of {duration * 1e6:g} µs (s)",
            "error after the measurement stage",
        )
        for method, (steps, found) in curves["measurement"].items():
            time = shots * duration / steps * seconds[method]
            axes.plot(time, found, **LOOKS[method], label=NAMES[method])
            for dt in (0.1, 10, 500):
                for k in np.flatnonzero(np.isclose(steps * 1e9, dt)):
                    text = f"{dt:g} ns"
                    place = (0, -11) if method == "exact" else (6, 3)
                    axes.annotate(text, (time[k], found[k]), xytext=place, fontsize=7.5,
                                  textcoords="offset points")  # fmt: skip
        error = 1 / np.sqrt(shots)
        axes.axhline(error, color=GREY, linestyle=":", linewidth=0.9)
        axes.annotate(
            f"Monte Carlo, {shots:,} shots", (0.01, error), fontsize=7.5, color="#404040",
            xycoords=("axes fraction", "data"), xytext=(0, -10), textcoords="offset points",
        )  # fmt: skip
        axes.set_ylim(1e-15, 1e3)
        figure.legend(loc="outside lower center", ncols=3)
        _save(figure, folder, "cost")


def draw_float32(runs: dict, shots: dict, folder: Path) -> None:
    """Draw how far float32 shots leave float64 ones, and what that does to <D^2>."""
    with matplotlib.rc_context(RC):
        figure = new_figure(7.0, 2.9)
        left, right = figure.subplots(1, 2)
        _log(left, "steps", "rms difference / rms of $D$")
        _log(right, "steps", r"bias of $\langle D^2\rangle$ / its standard error")
        looks = ((BLUE, "o", "-"), (RED, "^", "--"))
        for (dt, (steps, apart, bias)), (colour, mark, line) in zip(
            runs.items(), looks, strict=True
        ):
            look = dict(color=colour, marker=mark, linestyle=line, markersize=3)
            text = f"samples of {dt * 1e9:g} ns, {shots[dt]:,} shots"
            left.plot(steps, apart, **look, label=text)
            right.plot(steps, bias, **look)
        right.axhline(1, color=GREY, linestyle=":", linewidth=0.9)
        right.set_ylim(top=4)
        left.legend(loc="upper left")
        letter(left, "(a) float32 against float64, shot by shot")
        letter(right, "(b) what it does to a moment")
        _save(figure, folder, "float32")


def draw_ramps(moved: dict, folder: Path) -> None:
    """Draw true and estimated errors of what moves against sub-steps."""
    with matplotlib.rc_context(RC):
        figure = new_figure(5.2, 4.0)
        axes = figure.subplots()
        _log(axes, "Magnus steps in a sample of 0.5 µs", "error (standard deviations)")
        colours = (BLUE, RED, "#009E73", ORANGE)
        for (name, (found, chosen)), colour, mark, line in zip(
            moved.items(), colours, MARKERS[:4], ("-", "--", "-.", ":"), strict=True
        ):
            true = sorted({*found, *((k, e) for k, _, e in chosen)})
            axes.plot(*zip(*true, strict=True), color=colour, linestyle=line, zorder=2)
            axes.plot(*zip(*found, strict=True), color=colour, marker=mark, linestyle="none",
                      label=name.replace("-", "\N{MINUS SIGN}"))  # fmt: skip
            axes.plot([k for k, *_ in chosen], [e for _, e, _ in chosen], color=colour, marker=mark,
                      linestyle="none", markerfacecolor="white", markersize=5.5)  # fmt: skip
        axes.plot([], [], color=GREY, marker="o", linestyle="none", markerfacecolor="white",
                  markersize=5.5, label="estimate, where chosen")  # fmt: skip
        k = np.array([4, 40])
        axes.plot(k, 3e-2 * (k / 4.0) ** -4, color=GREY, linestyle=":", linewidth=0.9)
        axes.annotate("order 4", (k[0], 3e-2), fontsize=7.5, color="#404040", xytext=(3, 3),
                      textcoords="offset points")  # fmt: skip
        axes.set_xticks([1, 2, 4, 8, 16, 32, 64], ["1", "2", "4", "8", "16", "32", "64"])
        axes.minorticks_off()
        figure.legend(loc="outside lower center", ncols=2)
        _save(figure, folder, "ramps")

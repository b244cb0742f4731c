"""Drawing of Figs. 4a, 4b and 4c from their records."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from jaxsde.lab import style
from jaxsde.lab.gallery.record import Record, error_of
from jaxsde.lab.gallery.text import hertz
from jaxsde.lab.style import D_SQUARED, D_SQUARED_LABEL, DELTA_LABEL, KHZ, US

EDGE = 6e-6  # s
LOOKS = {
    "n_m": (style.RED, "v", "-", r"motion $\langle a^\dagger a\rangle$"),
    "n_s": (style.BLUE, "^", "--", r"spin $\langle b^\dagger b\rangle$"),
    "abs_ab": (style.ORANGE, "s", ":", r"correlated $|\langle ab\rangle|$"),
}


@matplotlib.rc_context(style.RC)
def growth_figure(record: Record) -> Figure:
    """Draw occupations and correlation against the length of the pulse (Fig. 4a)."""
    figure = style.new_figure(7.2, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    t = record["t_c"] * US
    for k, axes in enumerate(panels):
        predicted, spread = record["predicted"], record["predicted_error"]
        low, high = np.maximum(predicted - spread, 0.03), predicted + spread
        axes.fill_between(t, low, high, color=style.ORANGE, alpha=0.3, linewidth=0)
        label = "predicted of the measured initial\nstate at the best detuning, 1 σ"
        axes.plot(t, predicted, color=style.ORANGE, linewidth=2.2, label=label)
        for name, (colour, marker, line, label) in LOOKS.items():
            axes.plot(t, record[f"{name}_exact"][k], line, color=style.BLACK, linewidth=1.0)
            # A little apart, so that error bars do not hide each other.
            shift = {"n_m": -0.7, "n_s": 0.0, "abs_ab": 0.7}[name]
            axes.errorbar(
                t + shift,
                record[f"{name}_value"][k],
                error_of(record, name)[k],
                fmt=marker,
                color=colour,
                markeredgecolor=style.BLACK,
                markeredgewidth=0.5,
                markersize=5,
                capsize=2,
                elinewidth=1.0,
                label=label,
            )
        origin = "as printed" if k == 0 else "where theory has its peak"
        style.letter(axes, rf"({'ab'[k]}) $\delta/2\pi$ = {hertz(record['delta'][k])}, {origin}")
        axes.set(xlabel=r"length of the pulse $t_c$ (µs)", yscale="log", ylim=(0.1, 200))
    panels[0].set_ylabel("occupation, correlation  (quanta)")
    panels[0].yaxis.set_major_formatter(FormatStrFormatter("%g"))
    for _, _, line, label in LOOKS.values():
        panels[1].plot([], [], line, color=style.BLACK, label=f"exact, {label.split()[0]}")
    handles, labels = panels[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=7.5)
    return figure


@matplotlib.rc_context(style.RC)
def detuning_figure(record: Record) -> Figure:
    """Draw correlated occupation and phase against delta (Fig. 4b)."""
    figure = style.new_figure(5.6, 5.0)
    top, bottom = figure.subplots(2, 1, sharex=True)
    delta, fine = record["delta"] / KHZ, record["fine_delta"] / KHZ
    error = error_of(record, "abs_ab")
    top.plot(fine, record["fine_abs"], color=style.BLACK, label="exact theory")
    _points(top, delta, record["abs_ab_value"], error, 1.0, "estimated, 1 σ")
    top.set_ylabel(r"$|\langle ab\rangle|$  (quanta)")
    top.set_ylim(bottom=min(0.0, float((record["abs_ab_value"] - error).min())))
    top.legend(loc="upper right")
    bottom.plot(fine, record["fine_arg"] / np.pi, color=style.BLACK)
    seen = record["abs_ab_value"] > 3 * record["abs_ab_stat"]
    phase, spread = record["arg_ab_value"] / np.pi, error_of(record, "arg_ab") / np.pi
    _points(bottom, delta[seen], phase[seen], spread[seen], 1.0, None)
    if (~seen).any():
        label = "amplitude below 3 σ"
        _points(bottom, delta[~seen], phase[~seen], spread[~seen], 0.35, label)
        bottom.legend(loc="upper right")
    bottom.axhline(-0.5, color=style.GREY, linestyle=":", linewidth=0.9)
    bottom.set(
        xlabel=DELTA_LABEL,
        ylabel=r"phase of $\langle ab\rangle$ at pulse end  ($\pi$)",
        ylim=(-1.5, 0.5),
    )
    return figure


def _points(axes: Axes, x, y, error, alpha: float, label: str | None) -> None:
    axes.errorbar(
        x,
        y,
        error,
        fmt="s",
        color=style.ORANGE,
        markeredgecolor=style.BLACK,
        markeredgewidth=0.5,
        ecolor=style.BLACK,
        alpha=alpha,
        markersize=5,
        capsize=2,
        elinewidth=1.0,
        label=label,
    )


@matplotlib.rc_context(style.RC)
def beat_figure(record: Record) -> Figure:
    """Draw the beat of <D^2>_cyc against its reconstruction, with and without pulse (Fig. 4c)."""
    figure = style.new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    # Before EDGE the cycle average of the lines knows nothing of what was earlier.
    kept = record["line_time"] > EDGE
    t = record["line_time"][kept] * US
    axes.fill_between(
        t,
        record["with_lower"][kept] / D_SQUARED,
        record["with_upper"][kept] / D_SQUARED,
        facecolor=style.ORANGE,
        alpha=0.4,
        edgecolor=style.ORANGE,
        linewidth=0.8,
        label="maximally correlated, 1 σ",
    )
    for name, label in (("with", "from the estimated C, 1 σ"), ("without", None)):
        mean, error = (record[f"{name}_{k}"][kept] / D_SQUARED for k in ("line", "line_stderr"))
        axes.fill_between(t, mean - error, mean + error, color=style.BLACK, alpha=0.2, linewidth=0)
        axes.plot(t, mean, color=style.BLACK, label=label)
    _measured(axes, record, "with", "measured, with pulse", style.BLUE, "o")
    _measured(axes, record, "without", "measured, without coupling", style.RED, "s")
    for name, label in (("with", "exact expectation"), ("without", None)):
        axes.plot(
            record["time"] * US,
            record[f"{name}_expected"] / D_SQUARED,
            "--",
            color=style.PURPLE,
            linewidth=1.2,
            label=label,
        )
    top = float(record["with_upper"][kept].max()) / D_SQUARED
    axes.set(
        xlim=(0, 400),
        ylim=(-0.06 * top, 1.25 * top),
        xlabel="time from start of the ringdown (µs)",
        ylabel=D_SQUARED_LABEL,
    )
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def _measured(axes: Axes, record: Record, name: str, label: str, colour: str, marker: str) -> None:
    step = max(1, record["time"].size // 130)
    thin = slice(step // 2, None, step)
    axes.errorbar(
        record["time"][thin] * US,
        record[f"{name}_mean"][thin] / D_SQUARED,
        record[f"{name}_stderr"][thin] / D_SQUARED,
        fmt=marker,
        color=colour,
        markersize=2.8,
        elinewidth=0.6,
        label=label,
    )

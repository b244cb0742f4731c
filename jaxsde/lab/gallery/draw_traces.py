"""Drawing of Figs. 3a to 3d and S2 from their records."""

import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullLocator

from jaxsde.analysis.gain import growth
from jaxsde.lab import style
from jaxsde.lab.gallery.record import Record, error_of
from jaxsde.lab.gallery.text import hertz
from jaxsde.lab.style import D_SQUARED, D_SQUARED_LABEL, DELTA_LABEL, FILTER_REACH, KHZ, US, minus

MS = 1e3  # 1/s in 1/ms
VAGUE = 25 * MS  # 1/s; a gain whose error is larger is drawn pale
# Of axes that are linear below LINEAR and logarithmic above, 10^3 kHz^2.
LINEAR, TICKS = 30.0, (0, 30, 100, 300, 1000)
GAIN_LABEL = r"instability gain $G_+$  (ms$^{-1}$)"


def _band(
    axes: Axes,
    t: np.ndarray,
    mean: np.ndarray,
    error: np.ndarray,
    up: float,
    colour: str,
    marker: str,
    window: tuple[float, float],
    label: str | None = None,
) -> None:
    """Draw a trace as thinned points with its 1-sigma band, shifted up, light outside a window."""
    inside = (t >= window[0]) & (t <= window[1])
    step = max(1, int(inside.sum()) // 60)
    for chosen, alpha in ((inside, 1.0), (~inside & (t > 0), 0.3)):
        thin = np.flatnonzero(chosen)
        thin = thin[thin % step == 0]
        look: dict[str, Any] = dict(color=colour, markersize=2.4, markeredgewidth=0, alpha=alpha)
        axes.plot(t[thin], mean[thin] + up, marker, label=label if alpha == 1 else None, **look)
    low, high = (mean + s * error + up for s in (-1, 1))
    axes.fill_between(t, low, high, where=t > 0, color=colour, alpha=0.22, linewidth=0)


@matplotlib.rc_context(style.RC)
def onset_figure(record: Record) -> Figure:
    """Draw the onset of instability for increasing optical coupling (Fig. 3a)."""
    figure = style.new_figure(7.2, 4.6)
    panels = figure.subplots(1, 2, sharey=True)
    t = record["time"] * US
    t_c = pulse_of(record)["duration"] * US
    mean, error = record["mean"] / D_SQUARED, record["stderr"] / D_SQUARED
    exact = record["expected"] / D_SQUARED
    inside = (t > 0) & (t < t_c)
    step = 0.35 * float(exact[..., inside].max())
    for k, axes in enumerate(panels):
        for i in range(record["delta_pc"].size):
            colour, up = style.COLOURS[i % len(style.COLOURS)], i * step
            _band(axes, t, mean[k, i], error[k, i], up, colour, "o", (FILTER_REACH * US, t_c - 0.1))
            axes.plot(t[inside], exact[k, i, inside] + up, color=style.BLACK, linewidth=1.0)
            end = exact[k, i, inside][-1] + up
            text = f"{record['spring'][i] / KHZ:.1f} kHz"
            if i == record["delta_pc"].size - 1:
                text = r"$\Omega/2\pi$ =" + "\n" + text
            axes.text(t_c + 1.5, end, text, fontsize=7.5, va="center")
        delta = hertz(record["delta"][k])
        origin = "as printed" if k == 0 else "where theory has its peak"
        style.letter(axes, rf"({'ab'[k]}) $\delta/2\pi$ = {delta}, {origin}")
        axes.set(xlim=(0, t_c), xlabel="time from start of the pulse (µs)")
    panels[0].set_ylabel(D_SQUARED_LABEL + f", each {step:.0f} above the last")
    panels[0].set_ylim(-0.7 * step, float(exact[..., inside].max()) * 1.2 + 4 * step)
    return figure


def pulse_of(record: Record) -> dict[str, Any]:
    """Return the pulse among a record's stages."""
    return next(s for s in record.facts["stages"] if s["name"] == "pulse")


@matplotlib.rc_context(style.RC)
def resonance_figure(record: Record) -> Figure:
    """Draw traces for a range of delta with their joint fits of S12 (Fig. 3b)."""
    n = record["delta"].size
    columns = 4
    rows = math.ceil(n / columns)
    figure = style.new_figure(7.4, 0.8 + 1.55 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    t = record["time"] * US
    t_c = pulse_of(record)["duration"] * US
    shown = (t > 0) & (t < t_c)
    for i, axes in enumerate(grid.flat):
        if i >= n:
            axes.remove()
            continue
        _resonance(axes, record, i, t, shown)
    _scale(grid.flat[0], record, shown)
    grid.flat[0].set_xlim(0, t_c)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    figure.supxlabel("time from start of the pulse (µs)", fontsize=9)
    figure.supylabel(D_SQUARED_LABEL, fontsize=9)
    return figure


def _resonance(axes: Axes, record: Record, i: int, t: np.ndarray, shown: np.ndarray) -> None:
    """Draw one trace of the resonance: points, exact expectation, fit."""
    mean, error = record["mean"][i] / D_SQUARED, record["stderr"][i] / D_SQUARED
    shots = record.facts["shots"]
    window = tuple(edge * US for edge in record.facts["window"])
    label = f"{shots} shots, 1 σ"
    _band(axes, t, mean, error, 0, style.BLUE, "o", (window[0], window[1]), label)
    exact = record["expected"][i] / D_SQUARED
    axes.plot(t[shown], exact[shown], "--", color=style.BLACK, linewidth=0.9, label="exact")
    start, stop = record.facts["window"]
    fine = np.linspace(start, stop, 200)
    fit = growth(fine, float(record["D_0"][i]), record["gain"][i], record["diffusion"][i])
    label = "joint fit of S12"
    axes.plot(fine * US, fit / D_SQUARED, color=style.RED, linewidth=1.8, label=label)
    axes.axhline(0, color=style.GREY, linewidth=0.5)
    number = "not told apart"
    if told(record)[i]:
        error = error_of(record, "gain")[i] / MS
        number = rf"= {record['gain'][i] / MS:.0f} ± {error:.0f} ms$^{{-1}}$"
    delta = record["delta"][i] / KHZ
    name = rf"$\delta/2\pi$ = {kilohertz(delta)}"
    axes.text(
        0.04,
        0.97,
        f"{name}\n$G_+$ {minus(number)}",
        transform=axes.transAxes,
        va="top",
        fontsize=7.2,
    )


def kilohertz(value: float) -> str:
    """Return a signed frequency in kHz."""
    return minus(f"{value:+.3g} kHz") if abs(value) > 1e-9 else "0 kHz"


def _scale(axes: Axes, record: Record, shown: np.ndarray) -> None:
    """Set a y axis that is logarithmic above the noise and linear below it, with room for text."""
    top = float(record["mean"][:, shown].max()) / D_SQUARED
    _symlog(axes, -0.8 * LINEAR, 30 * max(top, LINEAR))


def _symlog(axes: Axes, low: float, high: float) -> None:
    """Make a y axis linear below LINEAR and logarithmic above."""
    axes.set_yscale("symlog", linthresh=LINEAR, linscale=0.9)
    axes.set_ylim(low, high)
    axes.set_yticks(TICKS, minor=False)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: minus(f"{y:g}")))
    axes.yaxis.set_minor_locator(NullLocator())


def told(record: Record, prefix: str = "") -> np.ndarray:
    """Tell which gains the fit tells apart from diffusion: closed contours, errors below VAGUE."""
    error = error_of(record, f"{prefix}gain")
    return record[f"{prefix}closed"] & (error < VAGUE)


@matplotlib.rc_context(style.RC)
def gain_figure(red: Record, blue: Record) -> Figure:
    """Draw the fitted gain against delta for both probe detunings (Figs. 3c and 3d)."""
    figure = style.new_figure(7.2, 4.2)
    panels = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1.0))
    for axes, record, colour, title in (
        (panels[0], red, style.RED, "(c)"),
        (panels[1], blue, style.BLUE, "(d)"),
    ):
        _gain(axes, record, colour)
        value = _signed(pulse_of(record)["delta_pc"])
        style.letter(axes, rf"{title} $\Delta_{{pc}}/2\pi$ = {value}")
        axes.set_xlabel(DELTA_LABEL)
        axes.xaxis.set_major_locator(MultipleLocator(5))
    panels[0].set(ylabel=GAIN_LABEL, ylim=(-22, 62))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def _signed(delta_pc: float) -> str:
    return ("+" if delta_pc > 0 else "") + hertz(delta_pc)


def _gain(axes: Axes, record: Record, colour: str) -> None:
    """Draw one panel: theory, fits of few and many shots and of the exact expectation."""
    delta = record["delta"] / KHZ
    axes.axhline(0, color=style.GREY, linewidth=0.6)
    fine = record["fine_delta"] / KHZ, record["fine_theory"] / MS
    axes.plot(*fine, color=style.BLACK, label="steady-state theory")
    shots, many = record.facts["shots"], record.facts["many"]
    found = told(record, "exact_")
    axes.plot(
        delta[found],
        record["exact_gain"][found] / MS,
        "o",
        mfc="none",
        color=style.BLACK,
        markersize=8,
        label=r"fit of the exact $\langle D^2\rangle_{\mathrm{cyc}}$",
    )
    looks = (
        ("many_", "s", style.GREY, 3.5, f"fit of {many} shots, 1 σ"),
        ("", "D", colour, 5.5, f"fit of {shots} shots (as the paper), 1 σ"),
    )
    for prefix, marker, shade, size, label in looks if many > shots else looks[1:]:
        found = told(record, prefix)
        error = error_of(record, f"{prefix}gain")
        axes.errorbar(
            delta[found] + (0.35 if prefix else -0.35),
            record[f"{prefix}gain"][found] / MS,
            error[found] / MS,
            fmt=marker,
            color=shade,
            markersize=size,
            elinewidth=1.1,
            capsize=2,
            label=label,
        )
    lost = ~told(record)
    axes.plot(
        delta[lost],
        np.full(lost.sum(), -20.0),
        "x",
        color=colour,
        markersize=5,
        label=f"{shots} shots do not tell gain from diffusion",
    )
    best = int(np.argmax(record["fine_theory"]))
    axes.axvline(fine[0][best], color=style.GREY, linestyle=":", linewidth=0.9)
    axes.annotate(
        minus(f"{fine[1][best]:.1f} ms$^{{-1}}$ at {fine[0][best]:+.2f} kHz"),
        (fine[0][best], 59),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=8,
        va="center",
    )


@matplotlib.rc_context(style.RC)
def positive_figure(record: Record) -> Figure:
    """Draw the absence of instability for two positive masses (Fig. S2)."""
    figure = style.new_figure(7.2, 5.0)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1.0))
    t = record["time"] * US
    t_c = pulse_of(record)["duration"] * US
    shown = (t > 0) & (t < t_c)
    mean, error = record["mean"] / D_SQUARED, record["stderr"] / D_SQUARED
    exact = record["expected"] / D_SQUARED
    step = 5.0 * math.ceil(0.8 * float(np.median(error[:, shown])))
    for i, delta in enumerate(record["delta"]):
        colour = (style.BLUE, style.GREEN)[i % 2]
        up = i * step
        _band(left, t, mean[i], error[i], up, colour, "o", (FILTER_REACH * US, t_c - 0.1))
        left.plot(t[shown], exact[i, shown] + up, color=style.BLACK, linewidth=0.9)
        text = kilohertz(delta / KHZ)
        left.text(t_c + 2, exact[i, shown][-1] + up, text, fontsize=7.5, va="center")
    left.set(
        xlim=(0, t_c),
        xlabel="time from start of the pulse (µs)",
        ylabel=D_SQUARED_LABEL + f", each {step:.0f} above the last",
    )
    style.letter(left, r"(a) $\epsilon = +1$; right: $\delta/2\pi$")
    _ends(right, record)
    return figure


def _ends(axes: Axes, record: Record) -> None:
    """Draw how far <D^2> has grown when the pulse ends, for both signs of the mass."""
    delta = record["delta"] / KHZ
    looks = (
        ("negative_", style.RED, "D", "--", "ε = −1"),
        ("", style.BLUE, "o", "-", "ε = +1"),
    )
    for prefix, colour, marker, line, name in looks:
        axes.errorbar(
            delta,
            record[f"{prefix}grown"] / D_SQUARED,
            record[f"{prefix}grown_error"] / D_SQUARED,
            fmt=marker,
            color=colour,
            markersize=4.5,
            capsize=2,
            elinewidth=1.0,
            label=f"{name}, 1 σ",
        )
        exact = record[f"{prefix}grown_expected"] / D_SQUARED
        axes.plot(delta, exact, line, color=style.BLACK, linewidth=1.0, label=f"exact, {name}")
    axes.axhline(0, color=style.GREY, linewidth=0.6)
    top = float(record["negative_grown"].max()) / D_SQUARED
    low = min(float((record[f"{p}grown"] - record[f"{p}grown_error"]).min()) for p, *_ in looks)
    _symlog(axes, min(1.2 * low / D_SQUARED, -LINEAR), 15 * max(top, LINEAR))
    axes.set(xlabel=DELTA_LABEL, ylabel="growth of " + D_SQUARED_LABEL)
    axes.legend(loc="upper left", ncols=2, fontsize=7.5)
    style.letter(axes, "(b) growth over the pulse")

"""Growth during the pulse and the gain fitted to it, against detuning (Figs. 3b and 3c)."""

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from jaxsde.analysis.gain import growth as growth_curve
from jaxsde.lab import style
from jaxsde.lab.experiment import Growth, Results
from jaxsde.lab.pulse import pulse_start
from jaxsde.lab.style import D_SQUARED, D_SQUARED_LABEL, KHZ, US


def _of(results: Results) -> Growth:
    if results.growth is None:
        raise ValueError("results.growth: wanted the growth during a pulse, got None")
    return results.growth


def at_zero(growth: Growth) -> np.ndarray:
    """Tell which gains the fit left at their bound 0, shape (traces,)."""
    return growth.fit.gain < 1e-3 * max(float(np.max(growth.theory)), 1e-3 / growth.t_c)


@matplotlib.rc_context(style.RC)
def growth_figure(results: Results) -> Figure:
    """Draw the growth of <D^2>_cyc at each delta with its fit of S12 (Fig. 3b).

    One panel for each trace, on a common axis: where it is logarithmic the gain is the slope.
    """
    growth = _of(results)
    origin = pulse_start(results.experiment, results.main.sequence)
    n = growth.delta.size
    columns = 1 if n == 1 else min(4, math.ceil(math.sqrt(n)))
    rows = math.ceil(n / columns)
    size = (4.6, 3.4) if n == 1 else (7.4, 0.7 + 1.6 * rows)
    figure = style.new_figure(*size)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    t = growth.time * US
    near = (t > -12) & (t < growth.t_c * US + 12)
    for i, axes in enumerate(grid.flat):
        if i >= n:
            axes.remove()
            continue
        _trace(axes, growth, i, near, origin)
        # The lowest panel of each column has the numbers of the time axis.
        axes.tick_params(labelbottom=i + columns >= n)
    _scale(grid.flat[0], growth, near)
    grid.flat[0].set_xlim(-12, growth.t_c * US + 12)
    handles, labels = grid.flat[growth.at].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    figure.supxlabel("time from start of the pulse (µs)", fontsize=9)
    figure.supylabel(D_SQUARED_LABEL, fontsize=9)
    return figure


def _scale(axes: Axes, growth: Growth, near: np.ndarray) -> None:
    """Set a y axis that is logarithmic above the noise and linear below it, with room for text."""
    noise = float(np.nanmedian(growth.stderr[:, near])) / D_SQUARED
    values = growth.displacement[:, near] / D_SQUARED
    top, low = float(np.max(values)), float(np.min(values))
    linear = 2 * noise if 0 < 2 * noise < top else 0.1 * abs(top) + 1e-12
    axes.set_yscale("symlog", linthresh=linear, linscale=0.6)
    axes.set_ylim(min(1.3 * low, -0.3 * linear), 8 * max(top, linear))
    decades = 10.0 ** np.arange(math.ceil(math.log10(linear)), math.ceil(math.log10(top + linear)))
    axes.set_yticks([*-decades[-decades > low], 0, *decades], minor=False)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: style.minus(f"{y:g}")))
    axes.yaxis.set_minor_locator(NullLocator())


def _trace(axes: Axes, growth: Growth, i: int, near: np.ndarray, origin: float) -> None:
    """Draw trace i: points, light outside the fit window, its band and its fit."""
    t, fit = growth.time, growth.fit
    mean, error = growth.displacement[i] / D_SQUARED, growth.stderr[i] / D_SQUARED
    start, stop = float(fit.start[i]) - origin, float(fit.stop[i]) - origin
    inside = (t >= start) & (t <= stop)
    for chosen, alpha, label in (
        (near & inside, 0.9, "measured"),
        (near & ~inside, 0.25, "outside the fit window"),
    ):
        thin = np.flatnonzero(chosen)[::2]
        axes.plot(
            t[thin] * US,
            mean[thin],
            "o",
            color=style.BLUE,
            alpha=alpha,
            markersize=2.4,
            markeredgewidth=0,
            label=label,
        )
    axes.fill_between(
        t[near] * US,
        (mean - error)[near],
        (mean + error)[near],
        color=style.BLUE,
        alpha=0.25,
        linewidth=0,
    )
    fine = np.linspace(start, stop, 200)
    curve = growth_curve(fine, fit.D_0, float(fit.gain[i]), float(fit.diffusion[i]))
    axes.plot(fine * US, curve / D_SQUARED, color=style.RED, linewidth=1.8, label="fit of S12")
    axes.axhline(0, color=style.GREY, linewidth=0.5)
    for edge in (0.0, growth.t_c):
        axes.axvline(edge * US, color=style.GREY, linewidth=0.7, linestyle=":")
    delta = growth.delta[i] / KHZ
    gain, sigma = fit.gain[i] / 1e3, fit.gain_error[i] / 1e3
    name = "" if np.isnan(delta) else rf"$\delta/2\pi$ = {_signed(delta)} kHz" + "\n"
    bound = bool(at_zero(growth)[i])
    number = "at its bound 0" if bound else rf"= {gain:.1f} ± {sigma:.1f} ms$^{{-1}}$"
    axes.text(0.04, 0.96, f"{name}$G_+$ {number}", transform=axes.transAxes, va="top", fontsize=7.5)
    if i == growth.at and growth.delta.size > 1:
        axes.set_facecolor("#F1EBD8")


def _signed(value: float) -> str:
    return f"{value:+.4g}".replace("-", "\N{MINUS SIGN}") if value else "0"


@matplotlib.rc_context(style.RC)
def gain_figure(results: Results) -> Figure:
    """Draw the fitted gain against delta beside the steady-state theory (Fig. 3c)."""
    growth = _of(results)
    delta, gain, error = growth.delta / KHZ, growth.fit.gain / 1e3, growth.fit.gain_error / 1e3
    figure = style.new_figure(6.0, 4.0)
    axes = figure.add_subplot()
    axes.axhline(0, color=style.GREY, linewidth=0.6)
    axes.plot(
        growth.fine_delta / KHZ,
        growth.fine_theory / 1e3,
        color=style.BLACK,
        label="steady-state theory",
    )
    axes.plot(
        delta,
        growth.expected / 1e3,
        "o",
        mfc="none",
        color=style.BLUE,
        markersize=7,
        label=r"fit of the exact $\langle D^2\rangle_{\mathrm{cyc}}$",
    )
    bound = at_zero(growth)
    label = f"fit of {growth.shots} shots, 1 σ"
    for chosen, alpha, text in ((~bound, 1.0, label), (bound, 0.35, "the same, at the bound 0")):
        if chosen.any():
            axes.errorbar(
                delta[chosen],
                gain[chosen],
                error[chosen],
                fmt="D",
                color=style.RED,
                alpha=alpha,
                markersize=4.5,
                elinewidth=1.0,
                capsize=2,
                label=text,
            )
    top = max(float(np.max(growth.fine_theory)) / 1e3, float(np.max(gain)))
    best = int(np.argmax(growth.fine_theory))
    peak, height = growth.fine_delta[best] / KHZ, growth.fine_theory[best] / 1e3
    axes.axvline(peak, color=style.GREY, linestyle=":", linewidth=0.9)
    axes.annotate(
        f"theory: {height:.1f} ms$^{{-1}}$ at {_signed(peak)} kHz",
        (peak, 1.13 * top),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=8,
        va="center",
    )
    margin = 0.04 * (delta.max() - delta.min())
    axes.set(
        xlim=(delta.min() - margin, delta.max() + margin),
        ylim=(-0.12 * top, 1.2 * top),
        xlabel=style.DELTA_LABEL,
        ylabel=r"instability gain $G_+$  (ms$^{-1}$ = $10^3$ s$^{-1}$)",
    )
    figure.legend(loc="outside upper center", ncols=2)
    return figure

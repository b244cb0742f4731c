"""Calibration: the descent of its loss, the path of the parameters, and the estimates."""

from collections.abc import Mapping
from collections.abc import Sequence as Series
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from jaxsde.inference.calibrate import Calibration
from jaxsde.lab import style
from jaxsde.physics.params import TWO_PI

SYMBOLS = {
    "omega_m": r"$\omega_m$",
    "omega_s": r"$\omega_s$",
    "kappa": r"$\kappa$",
    "g_m": r"$g_m$",
    "g_s": r"$g_s$",
    "g_sm": r"$g_{sm}$",
    "gamma_m": r"$\Gamma_m$",
    "n_bath": r"$\bar n_{bath}$",
    "B_s": r"$B_s$",
    "sigma_m": r"$\sigma_m$",
    "sigma_s": r"$\sigma_s$",
    "n_m0": r"$n_{m0}$",
    "n_s0": r"$n_{s0}$",
}
# Numbers without a unit of their own, or in the record's.
PLAIN = ("nbar", "efficiency", "collection", "S_SN", "angle")
LINES = ("-", "--", ":", "-.")


def with_unit(name: str, value: float, error: float) -> str:
    """Return "2π × (26.0 ± 0.1) kHz", "(3.0 ± 0.1) 10⁴ quanta/s" or "1.0 ± 0.1" of a field."""
    field = name.partition("[")[0].rpartition(".")[2]
    if field.startswith("n_"):
        return _pair(value, error, 1.0) + " quanta"
    if field in PLAIN:
        return _pair(value, error, 1.0)
    if field == "B_s":
        return f"({_pair(value, error, 1e3)}) × 10³ quanta/s"
    size, unit = (1e6, "MHz") if abs(value) >= TWO_PI * 1e6 else (1e3, "kHz")
    return f"2π × ({_pair(value, error, TWO_PI * size)}) {unit}"


def _pair(value: float, error: float, unit: float) -> str:
    value, error = value / unit, error / unit
    known = np.isfinite(error) and error > 0
    places = int(np.clip(1 - np.floor(np.log10(error)), 0, 8)) if known else 3
    return f"{value:.{places}f} ± {error:.{places}f}".replace("-", "\N{MINUS SIGN}")


@matplotlib.rc_context(style.RC)
def calibration_figure(
    calibration: Calibration | Series[Calibration], truth: Mapping[str, float] | None = None
) -> Figure:
    """Draw the loss, the paths, the estimates beside the truth, and their correlation.

    calibration: one, or one for each objective, of the same free parameters.
    truth: {field: SI value} where the data were simulated.
    Raises ValueError for no calibration, or several of different parameters.
    """
    fits = [calibration] if isinstance(calibration, Calibration) else list(calibration)
    if not fits:
        raise ValueError("calibration: wanted at least one Calibration, got none")
    free = fits[0].free
    for fit in fits[1:]:
        if fit.free != free:
            raise ValueError(
                f"calibration: wanted the same free parameters in all, got {', '.join(free)} and "
                f"{', '.join(fit.free)}; draw them one by one"
            )
    figure = style.new_figure(7.4, 6.2)
    halves: Any = figure.subfigures(2, 1, height_ratios=(1.0, 1.0 + 0.12 * len(free)))
    top, bottom = halves
    loss, path = top.subplots(1, 2)
    _loss(loss, fits)
    _path(path, fits)
    widths = (1.25, *([0.75] * len(fits)))
    panels = bottom.subplots(1, 1 + len(fits), width_ratios=widths)
    _estimates(panels[0], fits, truth)
    for i, (axes, fit) in enumerate(zip(panels[1:], fits, strict=True)):
        names = [SYMBOLS.get(name, name) for name in free]
        style.heat_map(axes, np.asarray(fit.correlation), names, 1.0, "{:+.2f}")
        style.letter(axes, f"({'defghij'[i]}) correlation\n{fit.objective}")
    return figure


def _loss(axes: Axes, fits: Series[Calibration]) -> None:
    """Draw the loss after each accepted step, above its least; the least itself has no log."""
    above = [fit.loss - fit.loss.min() for fit in fits]
    for i, (fit, loss) in enumerate(zip(fits, above, strict=True)):
        axes.plot(
            np.flatnonzero(loss > 0),
            loss[loss > 0],
            LINES[i % 4],
            color=style.COLOURS[i],
            marker=style.MARKERS[i],
            label=fit.objective,
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    # Over less than two decades 2, 3 and 5 are numbered too.
    values = np.concatenate([loss[loss > 0] for loss in above])
    if values.size and values.max() < 100 * values.min():
        some = FuncFormatter(lambda y, _: f"{y:g}" if f"{y:e}"[0] in "235" else "")
        axes.yaxis.set_minor_formatter(some)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="accepted step", ylabel="loss above its least (nats)")
    axes.legend()
    style.letter(axes, "(a) loss")


def _path(axes: Axes, fits: Series[Calibration]) -> None:
    """Draw each free parameter's way to its final value."""
    for i, fit in enumerate(fits):
        for j, name in enumerate(fit.free):
            axes.plot(
                np.arange(fit.path.shape[0]),
                fit.path[:, j] / fit.values[j],
                LINES[i % 4],
                color=style.COLOURS[j % 7],
                marker=style.MARKERS[j % 7],
                label=SYMBOLS.get(name, name) if i == 0 else None,
            )
    axes.axhline(1, color=style.GREY, linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="accepted step", ylabel="parameter / its final value")
    axes.legend(ncols=2)
    shown = ", ".join(
        f"{'solid dashed dotted dash-dotted'.split()[i % 4]}: {fit.objective}"
        for i, fit in enumerate(fits)
    )
    style.letter(axes, "(b) path" + (f" ({shown})" if len(fits) > 1 else ""))


def _estimates(axes: Axes, fits: Series[Calibration], truth: Mapping[str, float] | None) -> None:
    """Draw estimates with errors relative to the truth, or else to the first estimate."""
    free, n = fits[0].free, len(fits)
    known = truth is not None and all(name in truth for name in free)
    base = np.array([truth[name] for name in free]) if truth and known else fits[0].values
    for i, fit in enumerate(fits):
        y = np.arange(len(free)) + (i - (n - 1) / 2) * 0.26
        axes.errorbar(
            100 * (fit.values / base - 1),
            y,
            xerr=100 * fit.stderr / np.abs(base),
            fmt=style.MARKERS[i],
            color=style.COLOURS[i],
            capsize=3,
            label=f"{fit.objective}, 1 σ",
        )
    start = 100 * (fits[0].start / base - 1)
    axes.plot(start, np.arange(len(free)), "|", color=style.GREY, markersize=14, label="start")
    axes.axvline(0, color=style.BLACK, linewidth=0.8)
    labels = []
    for j, name in enumerate(free):
        lines = [with_unit(name, f.values[j], f.stderr[j]) for f in fits]
        labels.append("\n".join([SYMBOLS.get(name, name), *lines]))
    axes.set_yticks(range(len(free)), labels)
    axes.set_ylim(len(free) - 0.4, -0.6)
    what = "truth" if known else f"{fits[0].objective} estimate"
    axes.set_xlabel(f"relative to the {what}  (%)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=n + 1)
    style.letter(axes, "(c) estimates" + (" beside the truth" if known else ""))

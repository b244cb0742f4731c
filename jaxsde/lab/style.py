"""Style of the figures: colours that differ in grey too, units, marks of stages, saving."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Sequence

# Okabe and Ito's colours, which people with any colour vision tell apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"
COLOURS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, BLACK)
MARKERS = ("o", "D", "^", "s", "v", "P", "X")

US = 1e6  # microseconds in a second
KHZ = TWO_PI * 1e3  # rad/s in "2pi * 1 kHz"
D_SQUARED = 1e3 * KHZ**2  # (rad/s)^2 in 10^3 kHz^2 of D^2/(2 pi)^2
FILTER_REACH = 15e-6  # s; within it the filters of S11 mix both sides of a change of the probe
DELTA_LABEL = r"$\delta/2\pi = (\omega_m-\omega_s)/2\pi$  (kHz)"
D_SQUARED_LABEL = r"$\langle D^2\rangle_{\mathrm{cyc}}/(2\pi)^2$  ($10^3$ kHz$^2$)"

# Matplotlib types the keys one by one; this is their plain dict.
RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "figure.facecolor": "white",
    "savefig.dpi": 160,
    "pdf.fonttype": 42,  # text stays text
}

# A file without a date: the same results give the same bytes.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "ModDate": None},
    "svg": {"Date": None},
}


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of width x height inches, with its own canvas and no pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(
    figure: Figure,
    stem: Path,
    formats: tuple[str, ...] = ("png", "pdf"),
    *,
    dpi: float | None = None,
) -> list[Path]:
    """Write a figure as STEM.FORMAT for each format, without a date, and return the paths.

    The folder is made if it is missing.  dpi: of pixels; that of RC unless given.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in formats]
    with matplotlib.rc_context(RC):
        for kind, path in zip(formats, paths, strict=True):
            size = RC["savefig.dpi"] if dpi is None else dpi
            figure.savefig(path, format=kind, dpi=size, metadata=_METADATA.get(kind))
    return paths


def mark_stages(
    axes: Axes, sequence: Sequence, origin: float, *, colour: str = GREY, inches: float = 5.8
) -> None:
    """Mark where stages begin and end, and write their names above the axes.

    axes: its x axis is the time from origin (s) in us, with limits set.  Names of stages too
    short for them, in axes some `inches` wide, stand upright.
    """
    low, high = axes.get_xlim()
    edges = np.cumsum([0] + [s.n_samples for s in sequence.stages]) * sequence.sample_interval
    edges = (edges - origin) * US
    for edge in edges:
        if low < edge < high:
            axes.axvline(edge, color=colour, linewidth=0.7, linestyle=":", zorder=1.5)
    for stage, first, last in zip(sequence.stages, edges[:-1], edges[1:], strict=True):
        first, last = max(first, low), min(last, high)
        share = (last - first) / (high - low)
        if share <= 0:
            continue
        name = stage.name.replace("_", " ")
        upright = share * inches < 0.075 * len(name)
        axes.text(
            (first + last) / 2,
            1.015,
            name,
            transform=axes.get_xaxis_transform(),
            rotation=90 if upright else 0,
            ha="center",
            va="bottom",
            fontsize=7.5,
            color="#404040",
        )


def draw_displacement(
    axes: Axes,
    t: np.ndarray,
    mean: np.ndarray,
    error: np.ndarray,
    expected: np.ndarray,
    light: np.ndarray,
    *,
    labels: tuple[str, str],
    colour: str,
    marker: str,
    line: str,
    band: float,
) -> None:
    """Draw <D^2>_cyc: thinned points, pale where `light`, their 1-sigma band, exact expectation.

    t: us.  mean, error, expected: 10^3 kHz^2.  labels: of points and expectation.  band: its alpha.
    """
    step = max(1, t.size // 320)
    for chosen, alpha, label in ((~light, 0.9, labels[0]), (light, 0.25, None)):
        thin = np.flatnonzero(chosen)
        thin = thin[thin % step == 0]
        axes.plot(
            t[thin],
            mean[thin],
            marker,
            color=colour,
            alpha=alpha,
            markersize=2.6,
            markeredgewidth=0,
            label=label,
        )
    axes.fill_between(t, mean - error, mean + error, color=colour, alpha=band, linewidth=0)
    axes.plot(t, expected, line, color=BLACK, linewidth=0.9, label=labels[1])


def minus(text: str) -> str:
    """Return the text of a number with true minus signs, and none on a zero."""
    if text.startswith("-") and not text.strip("-0."):
        text = text[1:]
    return text.replace("-", "\N{MINUS SIGN}")


def letter(axes: Axes, text: str) -> None:
    """Write a panel's letter and title, left above the axes."""
    axes.set_title(text, loc="left", fontsize=9)


def heat_map(axes: Axes, values: np.ndarray, names: list[str], limit: float, form: str) -> Any:
    """Draw a square matrix with its numbers, colours from -limit to limit; return the image."""
    image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for (i, j), value in np.ndenumerate(values):
        dark = abs(value) > 0.62 * limit
        text = minus(form.format(value))
        axes.text(
            j, i, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black"
        )
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image

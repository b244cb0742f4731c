"""Drawing of Fig. S1c from its record."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxsde.lab import style
from jaxsde.lab.gallery.record import Record
from jaxsde.lab.style import D_SQUARED, D_SQUARED_LABEL, US


@matplotlib.rc_context(style.RC)
def diffusion_figure(record: Record) -> Figure:
    """Draw the linear growth of <D^2> and the line that calibrates B_s (Fig. S1c)."""
    fit, origin = record.facts["fit"], record.facts["origin"]
    t = record["time"]
    start, stop = fit["start"] - origin, fit["stop"] - origin
    inside = (t >= start) & (t <= stop)
    figure = style.new_figure(5.8, 3.8)
    axes = figure.add_subplot()
    mean, error = record["mean"] / D_SQUARED, record["stderr"] / D_SQUARED
    thin = np.flatnonzero(t > 0)[6::14]
    for chosen, alpha, label in (
        (thin[inside[thin]], 1.0, f"measured, {record.facts['shots']} shots, 1 σ"),
        (thin[~inside[thin]], 0.3, None),
    ):
        axes.errorbar(
            t[chosen] * US,
            mean[chosen],
            error[chosen],
            fmt="o",
            color=style.BLUE,
            alpha=alpha,
            markersize=3,
            elinewidth=0.7,
            label=label,
        )
    x = t[inside]
    line = (record["mean"][inside].mean() + fit["slope"] * (x - x.mean())) / D_SQUARED
    axes.plot(x * US, line, color=style.BLACK, linewidth=1.8, label="line through the measurement")
    shown = t > 0
    axes.plot(
        t[shown] * US,
        record["expected"][shown] / D_SQUARED,
        "--",
        color=style.RED,
        linewidth=1.1,
        label="exact expectation",
    )
    axes.plot(
        t[shown] * US,
        record["without"][shown] / D_SQUARED,
        ":",
        color=style.BLACK,
        label="expected of measurement back-action alone, $B_s$ = 0",
    )
    axes.set(xlim=(0, t[-1] * US), xlabel="time of measurement (µs)", ylabel=D_SQUARED_LABEL)
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=2, fontsize=7.5)
    return figure

"""Figure of the linear growth of <D^2> from which B_s is taken (Fig. S1c)."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxsde.analysis.anomalous import DiffusionFit
from jaxsde.analysis.displacement import MeanSquaredDisplacement
from jaxsde.lab import style
from jaxsde.lab.style import D_SQUARED, D_SQUARED_LABEL, US


@matplotlib.rc_context(style.RC)
def diffusion_figure(displacement: MeanSquaredDisplacement, fit: DiffusionFit) -> Figure:
    """Draw <D^2>, the line through it, and the growth that is expected without B_s."""
    time = np.asarray(displacement.time)
    mean, error = (np.asarray(v) / D_SQUARED for v in (displacement.mean, displacement.stderr))
    inside = (time >= fit.start) & (time <= fit.stop)
    figure = style.new_figure(5.2, 3.2)
    axes = figure.add_subplot()
    apart = max(1, round(5e-6 / (time[1] - time[0])))
    shown = np.flatnonzero(inside)[::apart]
    axes.errorbar(
        (time[shown] - fit.start) * US,
        mean[shown],
        error[shown],
        fmt="o",
        markersize=2.5,
        linewidth=0.7,
        color=style.BLUE,
        label="measured",
    )
    t = time[inside] - time[inside].mean()
    line = mean[inside].mean() + fit.slope / D_SQUARED * t
    label = f"growth: $B_s$ = {fit.B_s:.3g} ± {fit.B_s_stderr:.2g} quanta/s"
    axes.plot((time[inside] - fit.start) * US, line, color=style.BLACK, label=label)
    calm = line[0] + fit.without / D_SQUARED * (t - t[0])
    axes.plot(
        (time[inside] - fit.start) * US,
        calm,
        color=style.RED,
        linestyle="--",
        label="expected without $B_s$ (measurement back-action)",
    )
    axes.set_xlabel("time (µs)")
    axes.set_ylabel(D_SQUARED_LABEL)
    figure.legend(loc="outside upper left", ncols=1)
    return figure

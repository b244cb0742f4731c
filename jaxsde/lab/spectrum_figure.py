"""Figure of a record's spectrum, its lines fitted, and what the fits leave."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxsde.lab import style
from jaxsde.lab.spectrum import Spectrum
from jaxsde.physics.params import TWO_PI


@matplotlib.rc_context(style.RC)
def spectrum_figure(spectrum: Spectrum) -> Figure:
    """Draw the whole spectrum, and below it each line with its fit and the ratio of the two."""
    n = len(spectrum.fits)
    figure = style.new_figure(7.2, 3.0 if n == 0 else 5.6)
    grid = figure.add_gridspec(3 if n else 1, max(n, 1), height_ratios=[3, 3, 1.4] if n else [1])
    top = figure.add_subplot(grid[0, :])
    mean = spectrum.units.mean(axis=0)
    shown = slice(1, None)
    top.semilogy(spectrum.frequency[shown] / 1e3, mean[shown], color=style.GREY, linewidth=0.7)
    unit = f"{spectrum.unit}²/Hz"
    top.set_xlabel("frequency (kHz)")
    top.set_ylabel(f"density ({unit})")
    highest = max([fit.frequency[-1] for fit in spectrum.fits], default=spectrum.frequency[-1])
    top.set_xlim(0, min(2.2 * highest, spectrum.frequency[-1]) / 1e3)
    count = f"{len(spectrum.units)} periodograms of {spectrum.length} samples"
    style.letter(top, f"a  two-sided spectrum, {count}")
    error = spectrum.units.std(axis=0, ddof=1) / np.sqrt(len(spectrum.units))
    for i, fit in enumerate(spectrum.fits):
        colour = style.COLOURS[i % len(style.COLOURS)]
        inside = np.isin(spectrum.frequency, fit.frequency)
        f = fit.frequency / 1e3
        top.semilogy(f, fit.model[0], color=colour)
        axes = figure.add_subplot(grid[1, i])
        axes.errorbar(
            f, fit.data[0], error[inside], fmt="o", markersize=2, linewidth=0.6, color=style.GREY
        )
        axes.semilogy(f, fit.model[0], color=colour, zorder=3)
        # Bars that reach below zero have no place on a logarithm.
        axes.set_ylim(0.4 * fit.data[0].min(), 3 * fit.data[0].max())
        axes.tick_params(labelbottom=False)
        centre = fit.omega[0] / TWO_PI / 1e3
        width = fit.gamma[0] / TWO_PI
        style.letter(axes, f"{chr(98 + i)}  {centre:.2f} kHz, Γ/2π = {width:.0f} Hz")
        ratio = figure.add_subplot(grid[2, i], sharex=axes)
        ratio.errorbar(
            f,
            fit.data[0] / fit.model[0],
            error[inside] / fit.model[0],
            fmt="o",
            markersize=2,
            linewidth=0.6,
            color=style.GREY,
        )
        ratio.axhline(1.0, color=colour)
        ratio.set_ylim(0, 2)
        ratio.set_xlabel("frequency (kHz)")
        if i == 0:
            axes.set_ylabel(f"density ({unit})")
            ratio.set_ylabel("data / fit")
    return figure

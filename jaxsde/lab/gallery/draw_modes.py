"""Drawing of Figs. 1a and 1b from their record."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsde.lab import style
from jaxsde.lab.gallery.record import Record
from jaxsde.lab.style import KHZ

TITLES = ("(a) positive masses, ε = +1", "(b) positive and negative mass, ε = −1")
MS = 1e3  # 1/s in 1/ms


@matplotlib.rc_context(style.RC)
def modes_figure(record: Record) -> Figure:
    """Draw frequencies and gains of both normal modes against detuning (Figs. 1a, 1b)."""
    figure = style.new_figure(7.2, 5.2)
    grid = figure.subplots(2, 2, sharex=True, sharey="row")
    for k, title in enumerate(TITLES):
        _frequencies(grid[0, k], record, k)
        _gains(grid[1, k], record, k)
        style.letter(grid[0, k], title)
        grid[1, k].set_xlabel("detuning " + style.DELTA_LABEL)
    grid[0, 0].set_ylabel(r"Re$(\omega_\pm-\omega_0)/2\pi$  (kHz)")
    grid[1, 0].set_ylabel(r"$G_\pm = 2\,$Im$\,\omega_\pm$  (ms$^{-1}$)")
    grid[1, 0].set_ylim(-62, 62)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _frequencies(axes: Axes, record: Record, k: int) -> None:
    fine = record["fine_delta"] / KHZ
    for sign in (1, -1):
        axes.plot(fine, sign * fine / 2, color=style.GREY, linewidth=0.8, linestyle=":")
    axes.plot([], [], color=style.GREY, linestyle=":", label="uncoupled")
    _lines(axes, fine, record["fine_real"][k] / KHZ)
    _points(axes, record, k, "real", 1 / KHZ)


def _gains(axes: Axes, record: Record, k: int) -> None:
    axes.axhline(0, color=style.GREY, linewidth=0.6)
    _lines(axes, record["fine_delta"] / KHZ, 2 * record["fine_imag"][k] / MS)
    _points(axes, record, k, "imag", 2 / MS)


def _lines(axes: Axes, x, y) -> None:
    for i in range(2):
        axes.plot(x, y[:, i], color=style.BLACK, label="Eq. 1" if i == 0 else None)


def plus(record: Record, k: int) -> np.ndarray:
    """Return which measured mode is omega_+ of Eq. 1, 0 or 1, at each detuning."""
    measured = record["real"][k] + 1j * record["imag"][k]
    first = (record["theory_real"][k] + 1j * record["theory_imag"][k])[:, :1]
    return np.abs(measured - first).argmin(axis=1)


def _points(axes: Axes, record: Record, k: int, part: str, unit: float) -> None:
    """Draw omega_+ as filled points and omega_- as open ones."""
    first = plus(record, k)
    rows = np.arange(first.size)
    looks: tuple[tuple[np.ndarray, dict[str, Any]], ...] = (
        (first, dict(fmt="D", color=style.RED, label=r"measured $\omega_+$, 1 σ")),
        (1 - first, dict(fmt="o", color=style.BLUE, mfc="white", label=r"measured $\omega_-$")),
    )
    for chosen, look in looks:
        axes.errorbar(
            record["delta"] / KHZ,
            unit * record[part][k][rows, chosen],
            unit * record[f"{part}_error"][k][rows, chosen],
            markersize=4,
            elinewidth=1.0,
            capsize=2,
            **look,
        )

"""Verification: z-scores of every group, their distribution, and the spectra beside theory."""

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsde.analysis.verify import Comparison, all_z
from jaxsde.lab import style
from jaxsde.lab.verification import STATES, Verification


@matplotlib.rc_context(style.RC)
def verification_figure(outcome: Verification, stage: str, limit: float) -> Figure:
    """Draw all z-scores by group, their distribution, and the spectra of one stage.

    stage: the one whose spectra are drawn.  limit: of |z|, drawn as lines.
    """
    figure = style.new_figure(7.2, 7.4)
    rows = figure.add_gridspec(3, 2, height_ratios=(1.5, 1.0, 1.0))
    _scores(figure.add_subplot(rows[0, :]), outcome, limit)
    _distribution(figure.add_subplot(rows[1, 0]), all_z(outcome.groups))
    _ratios(figure.add_subplot(rows[1, 1]), outcome, stage)
    _spectra(figure.add_subplot(rows[2, :]), outcome, stage)
    return figure


def _scores(axes: Axes, outcome: Verification, limit: float) -> None:
    """Draw every z-score, receivers side by side; those far off beyond the limit."""
    first, edge = 0, max(limit + 2.4, 7.4)
    for k, (name, groups) in enumerate(outcome.receivers.items()):
        z = all_z(groups)
        x = first + np.arange(len(z))
        colour = style.BLACK if name == STATES else style.COLOURS[(k - 1) % len(style.COLOURS)]
        bad = ~(np.abs(z) <= limit)
        shown = np.clip(np.nan_to_num(z, nan=limit + 1), -limit - 1, limit + 1)
        axes.plot(x[~bad], shown[~bad], ".", markersize=2, color=colour, rasterized=True)
        axes.plot(x[bad], shown[bad], "x", markersize=6, color=style.RED, zorder=5)
        label = "\n".join(word for part in name.split(", ") for word in part.split(" ", 1))
        label = label.replace("I\nQ", "I, Q")
        narrow = name == STATES
        axes.text(
            x[0] + 0.15 * len(z) if narrow else x.mean(),
            edge,
            label,
            ha="center",
            va="top",
            rotation=90 if narrow else 0,
            fontsize=6.5,
            color=colour,
        )
        first += len(z)
        axes.axvline(first - 0.5, color=style.GREY, linewidth=0.5)
    for level in (-limit, limit):
        axes.axhline(level, color=style.RED, linewidth=0.9, linestyle="--")
    axes.axhline(0.0, color=style.GREY, linewidth=0.6)
    axes.set_ylim(-edge, edge * 1.02)
    axes.set_xlim(0, first)
    axes.set_xlabel("moment, spectral bin or filter output (number)")
    axes.set_ylabel("z = (simulated \N{MINUS SIGN} theory) / s.e.")
    beyond = int(np.sum(~(np.abs(all_z(outcome.groups)) <= limit)))
    style.letter(axes, f"a  {first} numbers, {beyond} beyond {limit:g}, {outcome.n_shots} shots")


def _distribution(axes: Axes, z: np.ndarray) -> None:
    """Draw the histogram of all z-scores over the normal density."""
    z = z[np.isfinite(z)]
    edges = [0.25 * k - 5 for k in range(41)]
    axes.hist(np.clip(z, -5, 5), edges, density=True, color=style.SKY, edgecolor="white", lw=0.3)
    x = np.linspace(-5, 5, 201)
    axes.plot(x, np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi), color=style.BLACK, label="normal")
    axes.set_xlabel("z")
    axes.set_ylabel("density")
    axes.legend(loc="upper right")
    style.letter(axes, f"b  rms {np.sqrt(np.mean(z**2)):.2f}")


def _of_stage(outcome: Verification, stage: str) -> list[tuple[str, str, Comparison]]:
    """Return (receiver, quadrature, comparison cut to it) of the spectra of a stage."""
    found = []
    for name, groups in outcome.receivers.items():
        for g in groups:
            if g.group != f"spectrum of {stage}":
                continue
            kinds = [label.split()[0] for label in g.names]
            for kind in dict.fromkeys(kinds):
                here = np.array([k == kind for k in kinds])
                found.append(
                    (
                        name,
                        kind,
                        Comparison(
                            group=g.group,
                            names=tuple(n for n, h in zip(g.names, here, strict=True) if h),
                            measured=g.measured[here],
                            theory=g.theory[here],
                            error=g.error[here],
                            unit=g.unit,
                        ),
                    )
                )
    return found


def _frequency(comparison: Comparison) -> np.ndarray:
    return np.array([float(name.split()[1]) for name in comparison.names])


def _label(receiver: str, kind: str) -> str:
    """Return "Q, adiabatic" of quadrature Q of the receiver "I Q, adiabatic"."""
    head, _, model = receiver.partition(", ")
    return f"{kind if ' ' in head and kind in ('I', 'Q') else head}, {model}".strip(", ")


def _spectra(axes: Axes, outcome: Verification, stage: str) -> None:
    """Draw measured spectra as points over theory as lines, for low frequencies."""
    for k, (receiver, kind, c) in enumerate(_of_stage(outcome, stage)):
        f = _frequency(c)
        low = f <= 300
        colour = style.COLOURS[k % len(style.COLOURS)]
        # In units of the highest bins, which are shot noise: receivers share one axis.
        floor = np.median(c.theory[-len(f) // 4 :])
        axes.plot(f[low], c.theory[low] / floor, "-", color=colour, linewidth=0.9)
        axes.plot(
            f[low], c.measured[low] / floor, style.MARKERS[k % len(style.MARKERS)], markersize=3,
            color=colour, label=_label(receiver, kind), fillstyle="none", markeredgewidth=0.7,
        )  # fmt: skip
    axes.set_xlabel("frequency (kHz)")
    axes.set_ylabel("density / density above\nthe signal band")
    axes.legend(fontsize=6.5, loc="upper right")
    style.letter(axes, f"d  spectra of {stage}: points simulated, lines theory")


def _ratios(axes: Axes, outcome: Verification, stage: str) -> None:
    """Draw simulated over theoretical spectra of the first receiver, all bins."""
    spectra = _of_stage(outcome, stage)
    for k, (receiver, kind, c) in enumerate(spectra):
        if receiver != spectra[0][0]:
            break
        axes.errorbar(
            _frequency(c) + 2.0 * k,
            c.measured / c.theory,
            c.error / c.theory,
            fmt=style.MARKERS[k % len(style.MARKERS)],
            markersize=2,
            linewidth=0.5,
            color=style.COLOURS[k % len(style.COLOURS)],
            label=_label(receiver, kind),
        )
    axes.axhline(1.0, color=style.BLACK, linewidth=0.7)
    axes.margins(y=0.2)
    axes.set_xlabel("frequency (kHz)")
    axes.set_ylabel("simulated / theory")
    axes.legend(fontsize=6.5, ncols=2, loc="lower center")
    style.letter(axes, f"c  spectrum of {stage}, one standard error")

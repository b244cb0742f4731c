"""Second moments when the ringdown begins: estimated, exact, and the resonant correlation."""

from typing import Any

import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse

from jaxsde.analysis.moments import (
    COLUMNS,
    ROWS,
    derived,
    exchange_correlation,
    pair_correlation,
)
from jaxsde.analysis.reconstruct import maximally_correlated
from jaxsde.lab import style
from jaxsde.lab.captions import is_negative_mass
from jaxsde.lab.experiment import Results

NAMES = [r"$Z_m$", r"$P_m$", r"$Z_s$", r"$P_s$"]


@matplotlib.rc_context(style.RC)
def moments_figure(results: Results) -> Figure:
    """Draw C estimated beside exact, occupations and the resonant correlation (Figs. 4a-b).

    The correlation is <a b> for a negative-mass spin, <a^dag b> for a positive-mass one.
    """
    estimate, exact = np.asarray(results.moments.C), results.C_theory
    figure = style.new_figure(7.4, 6.3)
    halves: Any = figure.subfigures(2, 1, height_ratios=(1.0, 1.45))
    top, bottom = halves
    maps = top.subplots(1, 3)
    limit = float(np.max(np.abs([estimate, exact])))
    for axes, values, title in zip(
        maps[:2], (estimate, exact), ("(a) C, estimated", "(b) C, exact"), strict=True
    ):
        image = style.heat_map(axes, values, NAMES, limit, "{:.1f}")
        style.letter(axes, title)
    top.colorbar(image, ax=maps[:2], shrink=0.85, label="units of vacuum")
    image = style.heat_map(maps[2], z_scores(results), NAMES, 4.0, "{:+.1f}")
    style.letter(maps[2], "(c) difference / σ")
    top.colorbar(image, ax=maps[2], shrink=0.85, label="standard errors")
    left, right = bottom.subplots(1, 2, width_ratios=(1.0, 1.0))
    _occupations(left, results)
    _plane(right, results)
    return figure


def z_scores(results: Results) -> np.ndarray:
    """Return (C - exact C) in standard errors, (4, 4)."""
    sigma = np.sqrt(np.diag(np.asarray(results.moments.C_cov)))
    z = np.zeros((4, 4))
    z[ROWS, COLUMNS] = (np.asarray(results.moments.C) - results.C_theory)[ROWS, COLUMNS] / sigma
    return z + np.triu(z, 1).T


def _occupations(axes: Axes, results: Results) -> None:
    """Draw occupations and the size of the correlation, estimate beside exact."""
    negative = is_negative_mass(results)
    pair = ("abs_ab", r"$|\langle ab\rangle|$")
    exchange = ("abs_adag_b", r"$|\langle a^\dagger b\rangle|$")
    shown = [
        ("n_m", r"$\langle a^\dagger a\rangle$" + "\nmotion"),
        ("n_s", r"$\langle b^\dagger b\rangle$" + "\nspin"),
    ]
    order = (pair, exchange) if negative else (exchange, pair)
    notes = ("\nresonant", "\nother")
    shown += [(name, label + note) for (name, label), note in zip(order, notes, strict=True)]
    estimate = derived(results.moments.C, results.moments.C_cov)
    exact = derived(jnp.asarray(results.C_theory))
    x = np.arange(len(shown))
    axes.bar(
        x,
        [exact[n][0] for n, _ in shown],
        0.62,
        color="#D9D9D9",
        edgecolor=style.GREY,
        label="exact",
    )
    axes.errorbar(
        x,
        [estimate[n][0] for n, _ in shown],
        [estimate[n][1] or 0.0 for n, _ in shown],
        fmt="o",
        color=style.BLUE,
        markersize=5,
        capsize=3,
        label="estimated, 1 σ",
    )
    axes.axhline(0, color=style.BLACK, linewidth=0.6)
    axes.set_xticks(x, [label for _, label in shown])
    axes.set_ylabel("quanta")
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])
    axes.legend(loc="upper right")
    style.letter(axes, "(d) occupations and correlations")


def correlation(results: Results):
    """Return the resonant correlation: (estimate, its 2 x 2 covariance, exact, its bound).

    Bound: that of the maximally correlated state with the same occupations.
    """
    negative = is_negative_mass(results)
    of = pair_correlation if negative else exchange_correlation
    units = np.zeros((10, 4, 4))
    units[np.arange(10), ROWS, COLUMNS] = 1.0
    units[np.arange(10), COLUMNS, ROWS] = 1.0
    slope = np.asarray(of(jnp.asarray(units)))
    jacobian = np.stack([np.real(slope), np.imag(slope)])
    cov = jacobian @ np.asarray(results.moments.C_cov) @ jacobian.T
    c = jnp.asarray(results.moments.C)
    extreme = maximally_correlated(c, results.experiment.params.epsilon)
    exact = complex(of(jnp.asarray(results.C_theory)))
    return complex(of(c)), cov, exact, abs(complex(of(extreme)))


def _plane(axes: Axes, results: Results) -> None:
    """Draw the resonant correlation in the complex plane with its error ellipses."""
    value, cov, exact, bound = correlation(results)
    negative = is_negative_mass(results)
    symbol = "ab" if negative else r"a^\dagger b"
    variances, axis = np.linalg.eigh(cov)
    angle = float(np.degrees(np.arctan2(axis[1, 1], axis[0, 1])))
    for k, alpha in ((2, 0.15), (1, 0.3)):
        width, height = 2 * k * np.sqrt(np.maximum(variances[::-1], 0.0))
        axes.add_patch(
            Ellipse(
                (value.real, value.imag),
                width,
                height,
                angle=angle,
                facecolor=style.BLUE,
                alpha=alpha,
                edgecolor="none",
            )
        )
    if bound > 0:
        axes.add_patch(Circle((0, 0), bound, fill=False, edgecolor=style.ORANGE, linestyle="--"))
        axes.plot([], [], "--", color=style.ORANGE, label="largest that uncertainty allows")
    axes.axhline(0, color=style.GREY, linewidth=0.6)
    axes.axvline(0, color=style.GREY, linewidth=0.6)
    known = derived(results.moments.C, results.moments.C_cov)
    pair = "ab" if negative else "adag_b"
    phase, sigma = (float(part or 0.0) / np.pi for part in known[f"arg_{pair}"])
    size, error = known[f"abs_{pair}"]
    seen = size >= 3 * (error or 0.0)
    true = float(np.angle(exact)) / np.pi
    axes.plot(
        value.real,
        value.imag,
        "o",
        color=style.BLUE,
        markersize=5,
        label=style.minus(f"estimated, phase ({phase:+.3f} ± {sigma:.3f}) π")
        if seen
        else "estimated, phase not determined",
    )
    axes.plot(
        exact.real,
        exact.imag,
        "x",
        color=style.BLACK,
        markersize=7,
        markeredgewidth=1.6,
        label=style.minus(f"exact, phase {true:+.3f} π"),
    )
    reach = 1.15 * max(bound, abs(value) + 2 * float(np.sqrt(variances[-1])), abs(exact))
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set_xlabel(rf"Re $\langle {symbol}\rangle$  (quanta)")
    axes.set_ylabel(rf"Im $\langle {symbol}\rangle$  (quanta)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18))
    sign = "-" if negative else "+"
    style.letter(axes, rf"(e) resonant correlation, $\epsilon={sign}1$")

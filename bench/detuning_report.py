"""Tables and figure of docs/open-question-detuning.md, from what bench/detuning.py has kept."""

import pathlib
import re

import matplotlib
import numpy as np

from jaxsde.lab import style

OBSERVED = (14.0, 15.0)  # kHz: Figs. 3 and 4 are of 14 kHz, S.2 says "near 15 kHz"


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign, a true minus, and none on a zero."""
    text = f"{value:+.{digits}f}"
    return style.minus(text) if text.strip("+-0.") else text.lstrip("+-")


def shift_of(data: dict, name: str) -> tuple[float, float]:
    """Return a peak's shift from the bare pulse, and half its range over windows 10 % off, kHz."""
    rows = data["linear"]["varied"]
    one, base = rows[name], rows["bare pulse"]
    shifts = [a - b for a, b in zip(one["others"], base["others"], strict=True)]
    if one["window"] != base["window"]:  # a window of its own: against the one base
        shifts = [a - base["at"] for a in one["others"]]
    shifts.append(one["at"] - base["at"])
    return one["at"] - base["at"], (max(shifts) - min(shifts)) / 2


def ingredients(data: dict) -> list[str]:
    """Return the table of the linear model."""
    rows = data["linear"]["varied"]
    base = rows["bare pulse"]["correlation"]
    lines = [
        "| what is added to the bare pulse | peak, kHz | shift, kHz | height, 1/ms "
        "| shift of \\|<a b>\\|, kHz |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, r in rows.items():
        shift, spread = shift_of(data, name)
        change = "" if name == "bare pulse" else f"{signed(shift)} ± {spread:.2f}"
        same = r["group"] in ("analysis", "reference")
        other = "" if same else signed(r["correlation"] - base)
        lines.append(f"| {name} | {r['at']:.2f} | {change} | {r['height']:.1f} | {other} |")
    return lines


def window_table(data: dict) -> list[str]:
    """Return the table of fit windows."""
    w = data["linear"]["windows"]
    lines = [
        "| fit from 12 us to | bare pulse | with the push | error of G+, 30 shots, 1/ms |",
        "| --- | --- | --- | --- |",
    ]
    for i, stop in enumerate(w["stops"]):
        peaks = " | ".join(f"{w[k]['peak'][i]:.2f}" for k in ("bare", "push"))
        lines.append(f"| {stop} us | {peaks} | {w['push']['error30'][i]:.0f} |")
    return lines


def largest_table(data: dict) -> list[str]:
    """Return the table of where <D^2> is largest."""
    w = data["linear"]["windows"]
    head = " | ".join(f"{t} us" for t in w["times"])
    lines = [f"| after | {head} |", "| --- |" + " --- |" * len(w["times"])]
    for key, name in (("bare", "bare pulse"), ("push", "with the push")):
        lines.append(f"| {name} | " + " | ".join(f"{x:.1f}" for x in w[key]["largest"]) + " |")
    return lines


def beyond_table(data: dict) -> list[str]:
    """Return the table of nonlinear shots."""
    lines = [
        "| model | peak of G+, kHz | height, 1/ms | peak of \\|<a b>\\| at 60 us, kHz "
        "| least polarisation at 99 us |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, r in data["atoms"].items():
        i = int(np.argmin(r["polarisation"]))
        at, ab = signed(r["at"]), signed(r["correlation"])
        lines.append(
            f"| {name} | {at} ± {r['at_error']:.2f} | {r['height']:.1f} ± {r['height_error']:.1f} "
            f"| {ab} ± {r['correlation_error']:.2f} "
            f"| {r['polarisation'][i]:.2f} at {signed(r['delta'][i], 0)} kHz |"
        )
    return lines


def scatter_table(data: dict) -> list[str]:
    """Return the table of synthetic experiments."""
    lines = [
        "| each trace | median, kHz | central 68 %, kHz | above 13.5 kHz |",
        "| --- | --- | --- | --- |",
    ]
    for name, r in data["shots"].items():
        middle = f"{signed(r['low'], 1)} to {signed(r['high'], 1)}"
        lines.append(f"| {name} | {r['median']:.2f} | {middle} | {100 * r['above']:.0f} % |")
    return lines


def blue_table(data: dict) -> list[str]:
    """Return the table of Delta = +2.0 MHz."""
    lines = ["| Delta = +2.0 MHz | peak, kHz | height, 1/ms |", "| --- | --- | --- |"]
    theory = data["linear"]["theory_blue"]
    lines.append(f"| steady state | {signed(theory['at'])} | {theory['height']:.1f} |")
    for name, r in data["linear"]["blue"].items():
        lines.append(f"| {name} | {signed(r['at'])} | {r['height']:.1f} |")
    return lines


def needed_table(data: dict) -> list[str]:
    """Return the table of what each explanation would need."""
    lines = [
        "| what would be otherwise | peak moves by | needed for 14 kHz | then, red | then, blue |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, r in data["needed"]["rows"].items():
        then = [
            "" if r.get(k) is None else f"{signed(r[k][0], 1)} kHz, {r[k][1]:.0f} /ms"
            for k in ("red", "blue")
        ]
        lines.append(f"| {name} | {r['effect']} | {r['needed']} | {then[0]} | {then[1]} |")
    return lines


TABLES = {
    "ingredients": ingredients,
    "windows": window_table,
    "largest": largest_table,
    "scatter": scatter_table,
    "beyond": beyond_table,
    "blue": blue_table,
    "needed": needed_table,
}


def filled(page: str, data: dict) -> str:
    """Return the page with the rows under each marker <!-- name --> made anew."""
    for name, table in TABLES.items():
        rows = "\n".join(table(data))
        pattern = rf"(<!-- {name} -->\n)(?:\|.*\n)*"
        page, count = re.subn(pattern, lambda m, r=rows: m[1] + r + "\n", page)
        if count != 1:
            raise ValueError(f"page: wanted one marker <!-- {name} -->, got {count}")

    def number(match: re.Match) -> str:
        value = data
        for key in match[1].split("."):
            value = value[int(key)] if isinstance(value, list) else value[key]
        return f"<!-- v {match[1]} {match[2]} -->" + style.minus(f"{value:.{match[2]}f}")

    return re.sub(r"<!-- v ([^>]*) (\d) -->[−\d.]+", number, page)


@matplotlib.rc_context(style.RC)
def figure(data: dict):
    """Return the figure: gains, what moves the peak, windows, beyond the linear model."""
    made = style.new_figure(7.4, 9.0)
    axes = made.subplot_mosaic("ab\nac\nde", height_ratios=(1, 1, 1), width_ratios=(1.15, 1))
    _forest(axes["a"], data)
    _gains(axes["b"], data)
    _correlations(axes["c"], data)
    _windows(axes["d"], data)
    _blue(axes["e"], data)
    return made


def _seen(axes, along: str = "x") -> None:
    span = axes.axvspan if along == "x" else axes.axhspan
    span(*OBSERVED, color=style.ORANGE, alpha=0.35, linewidth=0)


def plain(name: str) -> str:
    """Return a row's name as a figure shows it."""
    for a, b in ((" us", " µs"), ("sin^2", "sin²"), ("omega_m^-1/2", r"$\omega_m^{-1/2}$")):
        name = name.replace(a, b)
    return {"all together": "every atom, all together"}.get(name, name)


def _forest(axes, data: dict) -> None:
    rows = data["linear"]["varied"]
    names = list(rows)
    theory = data["linear"]["theory"]["at"]
    places, labels = [], []
    y, group = 0.0, None
    for name in names:
        y += 1.0 if rows[name]["group"] == group else 1.5
        group = rows[name]["group"]
        _, spread = shift_of(data, name)
        colour = style.BLACK if group in ("together", "reference") else style.BLUE
        axes.errorbar(rows[name]["at"], y, xerr=spread, fmt="o", color=colour, markersize=3.5)
        places.append(y)
        labels.append(plain(name))
    y += 0.5
    for name, r in data["atoms"].items():
        if "blue" in name:
            continue
        y += 1.0
        axes.errorbar(r["at"], y, xerr=r["at_error"], fmt="D", color=style.RED, markersize=3.5)
        places.append(y)
        labels.append(plain(name))
    axes.axvline(theory, color=style.GREY, linestyle=":", linewidth=1)
    _seen(axes)
    axes.set_yticks(places, labels, fontsize=6.3)
    axes.set(
        ylim=(y + 1, 0), xlim=(4.2, 15.6), xlabel=r"peak of the fitted $G_+$, $\delta/2\pi$ (kHz)"
    )
    axes.tick_params(axis="y", length=0)
    axes.annotate(
        "theory", (theory, 0.35), fontsize=6.5, ha="center", va="bottom", annotation_clip=False
    )
    axes.annotate(
        "seen", (14.5, 0.35), fontsize=6.5, ha="center", va="bottom", annotation_clip=False
    )
    for marker, colour, label in (
        ("o", style.BLUE, "linear: one ingredient"),
        ("o", style.BLACK, "linear: none, or all"),
        ("D", style.RED, "nonlinear shots"),
    ):
        axes.plot([], [], marker, color=colour, markersize=3.5, label=label)
    axes.legend(loc="center left", bbox_to_anchor=(0.36, 0.6), fontsize=6.3, handletextpad=0.2)
    style.letter(axes, "(a)")


def _gains(axes, data: dict) -> None:
    theory, row = data["linear"]["theory"], data["linear"]["varied"]["all of the linear model"]
    _compared(axes, theory, row, data["atoms"]["all together"])
    _seen(axes)
    axes.set(
        xlim=(-7, 25), ylim=(-3, 68), xlabel=r"$\delta/2\pi$ (kHz)", ylabel=r"$G_+$ (ms$^{-1}$)"
    )
    axes.legend(loc="upper left", fontsize=6.5, ncols=1)
    style.letter(axes, "(b) Δ = −2 MHz, all together")


def _compared(axes, theory: dict, linear: dict, atoms: dict) -> None:
    """Draw gains of theory, of the linear model's expectation, and of nonlinear shots."""
    axes.plot(theory["delta"], theory["gain"], color=style.BLACK, label="steady state")
    axes.plot(
        linear["delta"],
        linear["gain"],
        "o-",
        color=style.BLUE,
        lw=0.8,
        mfc="white",
        label="linear, exact",
    )
    error = np.array(atoms["error"])
    keep = error < 20  # 1/ms: the others say nothing, and would cross the panel
    x, y = np.array(atoms["delta"]), np.array(atoms["gain"])
    axes.errorbar(
        x[keep],
        y[keep],
        error[keep],
        fmt="D",
        color=style.RED,
        markersize=3.5,
        elinewidth=0.8,
        label="every atom",
    )


def _correlations(axes, data: dict) -> None:
    for name, marker, colour in (
        ("one collective atom", "o", style.BLUE),
        ("every atom, trap softens", "D", style.RED),
    ):
        r = data["atoms"][name]
        axes.plot(r["delta"], r["ab"], marker + "-", color=colour, lw=0.8, label=name)
    _seen(axes)
    axes.set(
        xlim=(-7, 25),
        ylim=(0, None),
        xlabel=r"$\delta/2\pi$ (kHz)",
        ylabel=r"$|\langle ab\rangle|$ at 60 µs",
    )
    axes.legend(loc="upper left", fontsize=6.5)
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
    style.letter(axes, "(c)")


def _windows(axes, data: dict) -> None:
    w = data["linear"]["windows"]
    for key, label, marker, colour in (
        ("bare", "bare pulse", "o", style.BLUE),
        ("push", "with the push", "s", style.GREEN),
    ):
        axes.plot(
            w["stops"], w[key]["peak"], marker + "-", color=colour, label=f"peak of fit, {label}"
        )
        axes.plot(
            w["times"], w[key]["largest"], marker + "--", color=colour, mfc="white", lw=0.9,
            label=rf"largest $\langle D^2\rangle$, {label}",
        )  # fmt: skip
    axes.axhline(data["linear"]["theory"]["at"], color=style.GREY, linestyle=":", linewidth=1)
    _seen(axes, "y")
    axes.set(
        xlabel="end of the fit, or time (µs)",
        ylabel=r"$\delta/2\pi$ (kHz)",
        xlim=(15, 145),
        ylim=(4, 25),
    )
    axes.legend(loc="upper right", fontsize=6.5)
    style.letter(axes, "(d)")


def _blue(axes, data: dict) -> None:
    theory, row = data["linear"]["theory_blue"], data["linear"]["blue"]["all of the linear model"]
    _compared(axes, theory, row, data["atoms"]["all together, blue"])
    axes.set(
        xlim=(-25, 7), ylim=(-3, 40), xlabel=r"$\delta/2\pi$ (kHz)", ylabel=r"$G_+$ (ms$^{-1}$)"
    )
    axes.legend(loc="upper left", fontsize=6.5)
    style.letter(axes, "(e) Δ = +2 MHz, all together")


def report(data: dict, figures: pathlib.Path, page: pathlib.Path | None) -> None:
    """Draw the figure, and fill the page's tables (or print them)."""
    style.save_figure(figure(data), figures / "open-question-detuning")
    if page is None:
        for name, table in TABLES.items():
            print(f"<!-- {name} -->", *table(data), sep="\n")
        return
    page.write_text(filled(page.read_text(encoding="utf-8"), data), encoding="utf-8")

"""Drawing of Figs. 2a, 2b and 2c from their record."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsde.lab import style
from jaxsde.lab.gallery.record import Record
from jaxsde.lab.gallery.text import sequence_of, shot_noise
from jaxsde.lab.style import D_SQUARED, D_SQUARED_LABEL, FILTER_REACH, KHZ, US


def start_of_pulse(record: Record) -> float:
    """Return when the pulse starts, s."""
    sequence = sequence_of(record.facts)
    return sequence.span("pulse").start * sequence.sample_interval


@matplotlib.rc_context(style.RC)
def spectrogram_figure(record: Record) -> Figure:
    """Draw the spectrogram of the total modulation, and the ringdown's spectrum (Fig. 2a)."""
    origin, noise = start_of_pulse(record), shot_noise(record.facts)
    figure = style.new_figure(7.2, 3.5)
    axes, side = figure.subplots(1, 2, sharey=True, width_ratios=(3.2, 1.0))
    t, f = record["frame_time"], record["frame_frequency"]
    level = 10 * np.log10(record["frame_power"] / noise)
    image = axes.pcolormesh(
        (t - origin) * US, f / 1e3, level, shading="gouraud", cmap="cividis", rasterized=True
    )
    time, trap = record["time"], record["with_omega_m"]
    spin = record.facts["params"]["omega_s"] / KHZ
    axes.set(
        xlim=((t[0] - origin) * US, (t[-1] - origin) * US),
        ylim=(80, 160),
        xlabel="time from start of the pulse (µs)",
        ylabel="frequency (kHz)",
    )
    axes.axhline(spin, color="white", linestyle="--", label=r"spin $\omega_s/2\pi$")
    axes.plot((time - origin) * US, trap / KHZ, color="white", label=r"motion $\omega_m/2\pi$")
    style.mark_stages(axes, sequence_of(record.facts), origin, colour="white", inches=4.6)
    axes.legend(loc="upper right", labelcolor="white")
    figure.colorbar(image, ax=axes, label="power over shot noise (dB)", pad=0.02)
    side.plot(record["spectrum_expected"] / noise, record["frequency"] / 1e3, color=style.BLACK)
    side.errorbar(
        record["spectrum"] / noise,
        record["frequency"] / 1e3,
        xerr=record["spectrum_stderr"] / noise,
        fmt="o",
        color=style.BLUE,
        markersize=3,
        elinewidth=1.0,
    )
    side.set_xlabel("power over shot noise\nin the ringdown")
    side.set_xlim(left=0)
    return figure


@matplotlib.rc_context(style.RC)
def coupling_figure(record: Record) -> Figure:
    """Draw the coupling strength through the sequence, with and without the pulse (Fig. 2b)."""
    origin = start_of_pulse(record)
    t = (record["time"] - origin) * US
    figure = style.new_figure(7.2, 2.8)
    axes = figure.add_subplot()
    axes.plot(
        t,
        (record["with_optical"] + record["with_static"]) / KHZ,
        color=style.BLACK,
        linestyle=":",
        linewidth=1.6,
        label=r"net spring $\Omega = \Omega_{\mathrm{opt}} + 2\bar n g_{sm}$",
    )
    axes.plot(
        t,
        record["with_optical"] / KHZ,
        color=style.BLUE,
        label=r"$\Omega_{\mathrm{opt}}$, with coupling pulse",
    )
    axes.plot(
        t,
        record["without_optical"] / KHZ,
        color=style.RED,
        linestyle="--",
        label=r"$\Omega_{\mathrm{opt}}$, without coupling",
    )
    axes.set(
        xlim=(t[0], t[-1]),
        xlabel="time from start of the pulse (µs)",
        ylabel=r"coupling strength $/2\pi$  (kHz)",
    )
    style.mark_stages(axes, sequence_of(record.facts), origin)
    axes.legend(loc="upper right")
    return figure


@matplotlib.rc_context(style.RC)
def displacement_figure(record: Record) -> Figure:
    """Draw <D^2>_cyc with and without the pulse beside its exact expectation (Fig. 2c)."""
    origin = start_of_pulse(record)
    figure = style.new_figure(7.2, 3.6)
    axes = figure.add_subplot()
    _curve(axes, record, "with", "with coupling pulse", style.BLUE, "o", "-")
    _curve(axes, record, "without", "without coupling", style.RED, "s", "--")
    t = (record["time"] - origin) * US
    top = float(record["with_mean"].max()) / D_SQUARED
    axes.set(
        xlim=(t[0], t[-1]),
        ylim=(-0.06 * top, 1.3 * top),
        xlabel="time from start of the pulse (µs)",
        ylabel=D_SQUARED_LABEL,
    )
    style.mark_stages(axes, sequence_of(record.facts), origin)
    axes.legend(loc="upper right", ncols=2)
    return figure


def transient(record: Record, name: str) -> np.ndarray:
    """Tell which samples lie within FILTER_REACH of the record's ends or of a step of the probe."""
    sequence = sequence_of(record.facts)
    edges = np.cumsum([0, *(s.n_samples for s in sequence.stages)]) * sequence.sample_interval
    changes = [edges[0], edges[-1]]
    # Without coupling the probe steps once: from that of the preparation to that of the ringdown.
    names = [s.name for s in sequence.stages]
    changes += [edges[names.index(n)] for n in (("pulse",) if name == "with" else ())]
    changes.append(edges[names.index("ramp_down")])
    time = record["time"]
    return np.any(np.abs(time[:, None] - np.array(changes)) < FILTER_REACH, axis=1)


def _curve(axes: Axes, record: Record, name: str, label: str, colour: str, marker: str, line: str):
    t = (record["time"] - start_of_pulse(record)) * US
    mean, error = record[f"{name}_mean"] / D_SQUARED, record[f"{name}_stderr"] / D_SQUARED
    style.draw_displacement(
        axes,
        t,
        mean,
        error,
        record[f"{name}_expected"] / D_SQUARED,
        transient(record, name),
        labels=(f"{label}, 1 σ band", f"exact, {label}"),
        colour=colour,
        marker=marker,
        line=line,
        band=0.25,
    )

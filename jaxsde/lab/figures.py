"""Figures: those of the paper that a run can redraw, from its Results alone."""

from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib
import numpy as np
import scipy.signal
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsde.engine.detect import noise_variance
from jaxsde.lab import style
from jaxsde.lab.calibration_figure import calibration_figure
from jaxsde.lab.captions import CAPTIONS, caption
from jaxsde.lab.experiment import Ensemble, Results
from jaxsde.lab.gain_figures import gain_figure, growth_figure
from jaxsde.lab.moments_figure import moments_figure
from jaxsde.lab.pulse import pulse_start
from jaxsde.lab.spec import ends_of
from jaxsde.lab.style import D_SQUARED, D_SQUARED_LABEL, FILTER_REACH, KHZ, US, save_figure
from jaxsde.physics.sequence import Controls, Sequence

__all__ = [
    "CAPTIONS",
    "FIGURES",
    "available",
    "calibration_figure",
    "caption",
    "draw_figures",
    "save_figure",
]

WINDOW = 60e-6  # s; of the spectrogram: the shortest that tells 95 kHz from 120 kHz


def draw_figures(
    results: Results,
    directory: Path,
    names: Iterable[str] | None = None,
    formats: tuple[str, ...] = ("png", "pdf"),
) -> list[Path]:
    """Draw figures into directory, made if missing, as NAME.FORMAT; return the files' paths.

    names: of FIGURES; all that the results hold data for unless given.
    Raises ValueError for a name that is unknown, or whose data the results lack.
    """
    possible = available(results)
    wanted = possible if names is None else list(names)
    for name in wanted:
        if name not in FIGURES:
            raise ValueError(f"figure: wanted one of {', '.join(FIGURES)}, got {name!r}")
        if name not in possible:
            raise ValueError(
                f"figure {name!r}: these results hold no data for it; they can draw "
                f"{', '.join(possible)}"
            )
    paths = []
    for name in wanted:
        paths += save_figure(FIGURES[name](results), directory / name, formats)
    return paths


def available(results: Results) -> list[str]:
    """Return the names of the figures that these results hold data for, in order."""
    growth = results.growth
    has = dict.fromkeys(FIGURES, True)
    has["growth"] = growth is not None
    has["gain"] = growth is not None and growth.delta.size > 1
    return [name for name in FIGURES if has[name]]


def start_of(results: Results) -> tuple[float, str]:
    """Return where a figure's time starts (s), the pulse or else the ringdown, and its name."""
    spec, sequence = results.experiment.analysis, results.main.sequence
    if spec.pulse is not None:
        return pulse_start(results.experiment, sequence), "pulse"
    return sequence.span(spec.ringdown).start * sequence.sample_interval, spec.ringdown


def spectrogram(ensemble: Ensemble, window: float = 40e-6):
    """Return (time s, frequency Hz, power) of the total modulation, averaged over shots (Fig. 2a).

    Power spectral density of I and Q added, one-sided, record unit^2/Hz; Hann windows.
    """
    dt = ensemble.sequence.sample_interval
    n = min(max(8, round(window / dt)), ensemble.sequence.n_samples)
    record = np.asarray(ensemble.shots.record, float)
    f, t, s = scipy.signal.spectrogram(
        record,
        fs=1 / dt,
        window="hann",
        nperseg=n,
        noverlap=n - max(1, n // 8),
        nfft=4 * n,
        axis=1,
    )
    keep = f <= 250e3
    return t, f[keep], s.mean(axis=0)[keep].sum(axis=1)


def trap_frequency(results: Results, sequence: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Return (time s, omega_m rad/s) at both ends of each stage."""
    rest = float(results.experiment.params.omega_m)
    edges = np.cumsum([0] + [s.n_samples for s in sequence.stages]) * sequence.sample_interval
    ends = []
    for stage in sequence.stages:
        ends += [rest if w is None else float(w) for w in ends_of(stage.controls.omega_m)]
    return np.repeat(edges, 2)[1:-1], np.array(ends)


def is_transient(results: Results, ensemble: Ensemble) -> np.ndarray:
    """Tell which samples filters mix with those across a change of the probe, or no fit uses.

    Those within 15 us of the record's ends or of a step of nbar or Delta_pc, which takes the rise
    time of the drive, and those of the pulse outside the fit window; shape (samples,).
    """
    sequence, spec = ensemble.sequence, results.experiment.analysis
    time = sequence.time
    length = sequence.n_samples * sequence.sample_interval
    out = (time < FILTER_REACH) | (time > length - FILTER_REACH)
    switching = results.experiment.switching
    rise = 0.0 if switching is None else float(switching.rise_time)
    edge = 0.0
    for stage, after in zip(sequence.stages[:-1], sequence.stages[1:], strict=True):
        edge += stage.n_samples * sequence.sample_interval
        left = [float(ends_of(value)[1]) for value in _probe(stage.controls)]
        entered = [float(ends_of(value)[0]) for value in _probe(after.controls)]
        if left != entered:
            out |= (time > edge - FILTER_REACH) & (time < edge + rise + FILTER_REACH)
    if spec.pulse is not None and spec.fit_window is not None and ensemble is results.main:
        span = sequence.span(spec.pulse)
        t = time[span] - span.start * sequence.sample_interval
        out[span] = (t < spec.fit_window[0]) | (t > spec.fit_window[1])
    return out


def _probe(controls: Controls):
    return controls.nbar, controls.delta_pc


@matplotlib.rc_context(style.RC)
def spectrogram_figure(results: Results) -> Figure:
    """Draw the power of the total modulation against time and frequency (Fig. 2a)."""
    sequence, detector = results.main.sequence, results.experiment.detector
    origin, what = start_of(results)
    t, f, power = spectrogram(results.main, WINDOW)
    shown = (f >= 75e3) & (f <= 165e3)
    # One-sided, all quadratures added: twice the two-sided density of each.
    each = 2 * float(np.asarray(noise_variance(detector))) * detector.sample_interval
    noise = each * len(detector.quadratures)
    label = "power over shot noise (dB)"
    if noise == 0:  # the ideal detector adds none
        noise, label = float(power[shown].max()), "power relative to its maximum (dB)"
    level = 10 * np.log10(np.maximum(power[shown], 1e-12 * noise) / noise)

    low = None
    if label.endswith("noise (dB)"):
        low = min(0.0, float(level.max()) - 1.0)
        if detector.model == "input_output":  # which may lie below shot noise: squeezing
            low = min(low, float(np.percentile(level, 0.5)))
    figure = style.new_figure(7.2, 3.6)
    axes = figure.add_subplot()
    image = axes.pcolormesh(
        (t - origin) * US,
        f[shown] / 1e3,
        level,
        shading="gouraud",
        cmap="cividis",
        vmin=low,
        rasterized=True,
    )
    axes.set(
        xlim=((t[0] - origin) * US, (t[-1] - origin) * US),
        ylim=(80, 160),
        xlabel=f"time from start of the {what} (µs)",
        ylabel="frequency (kHz)",
    )
    times, omega = trap_frequency(results, sequence)
    spin = float(results.experiment.params.omega_s) / KHZ
    axes.axhline(spin, color="white", linestyle="--", label=r"spin $\omega_s/2\pi$")
    axes.plot((times - origin) * US, omega / KHZ, color="white", label=r"motion $\omega_m/2\pi$")
    style.mark_stages(axes, sequence, origin, colour="white")
    axes.legend(loc="upper right", labelcolor="white")
    figure.colorbar(image, ax=axes, label=label, pad=0.02)
    return figure


@matplotlib.rc_context(style.RC)
def displacement_figure(results: Results) -> Figure:
    """Draw <D^2>_cyc with and without the pulse, beside its exact expectation (Fig. 2c)."""
    origin, what = start_of(results)
    figure = style.new_figure(7.2, 3.6)
    axes = figure.add_subplot()
    pulse = results.experiment.analysis.pulse is not None
    name = "with coupling pulse" if pulse else "measured"
    _ensemble(axes, results, results.main, origin, name, style.BLUE, "o", "-")
    if results.reference is not None:
        _ensemble(
            axes, results, results.reference, origin, "without coupling", style.RED, "s", "--"
        )
    time = results.main.sequence.time
    axes.set(
        xlim=((time[0] - origin) * US, (time[-1] - origin) * US),
        xlabel=f"time from start of the {what} (µs)",
        ylabel=D_SQUARED_LABEL,
    )
    axes.set_ylim(*_span(results))
    style.mark_stages(axes, results.main.sequence, origin)
    axes.legend(loc="upper right", ncols=2)
    return figure


def _span(results: Results) -> tuple[float, float]:
    """Return limits that hold all of <D^2> and leave room for a legend above."""
    curves = [results.main] + ([] if results.reference is None else [results.reference])
    top = max(float(np.max(np.asarray(e.displacement.mean))) for e in curves) / D_SQUARED
    low = min(float(np.min(np.asarray(e.displacement.mean))) for e in curves) / D_SQUARED
    return min(1.1 * low, -0.04 * top), 1.3 * top


def _ensemble(
    axes: Axes,
    results: Results,
    ensemble: Ensemble,
    origin: float,
    name: str,
    colour: str,
    marker: str,
    line: str,
) -> None:
    """Draw one ensemble: points, light where transient, its band, and the exact expectation."""
    t = (ensemble.displacement.time - origin) * US
    mean = np.asarray(ensemble.displacement.mean) / D_SQUARED
    error = np.asarray(ensemble.displacement.stderr) / D_SQUARED
    style.draw_displacement(
        axes,
        t,
        mean,
        error,
        ensemble.expected / D_SQUARED,
        is_transient(results, ensemble),
        labels=(name, f"exact, {name}"),
        colour=colour,
        marker=marker,
        line=line,
        band=0.2,
    )


@matplotlib.rc_context(style.RC)
def beat_figure(results: Results) -> Figure:
    """Draw <D^2>_cyc of the ringdown beside its reconstruction from the estimated C (Fig. 4c)."""
    spec, sequence = results.experiment.analysis, results.main.sequence
    span = sequence.span(spec.ringdown)
    origin = span.start * sequence.sample_interval
    t = (results.beat.time - origin) * US
    beat = results.beat
    figure = style.new_figure(7.2, 3.8)
    axes = figure.add_subplot()
    axes.fill_between(
        t,
        beat.lower / D_SQUARED,
        beat.upper / D_SQUARED,
        facecolor=style.ORANGE,
        alpha=0.4,
        edgecolor=style.ORANGE,
        linewidth=0.8,
        label="maximally correlated, 1 σ",
    )
    low, high = (beat.mean - beat.stderr) / D_SQUARED, (beat.mean + beat.stderr) / D_SQUARED
    axes.fill_between(t, low, high, color=style.BLACK, alpha=0.2, linewidth=0)
    axes.plot(t, beat.mean / D_SQUARED, color=style.BLACK, label="from the estimated C, 1 σ")
    pulse = spec.pulse is not None
    _points(axes, results.main, span, origin, "measured", style.BLUE, "o")
    if pulse and results.reference is not None:
        _points(axes, results.reference, span, origin, "without coupling", style.RED, "s")
    axes.plot(
        (sequence.time[span] - origin) * US,
        results.main.expected[span] / D_SQUARED,
        "--",
        color=style.PURPLE,
        linewidth=1.2,
        label="exact expectation",
    )
    top = max(axes.get_ylim()[1], 0.0)
    axes.set(
        xlim=(0, min(t[-1], 400.0)),
        ylim=(min(0.0, axes.get_ylim()[0]), 1.2 * top),
        xlabel=f"time from start of the {spec.ringdown} (µs)",
        ylabel=D_SQUARED_LABEL,
    )
    axes.legend(loc="upper right", ncols=3)
    return figure


def _points(
    axes: Axes, ensemble: Ensemble, span: slice, origin: float, name: str, colour: str, marker: str
) -> None:
    """Draw measured <D^2>_cyc of a stage as thinned points with errors."""
    step = max(1, (span.stop - span.start) // 130)
    thin = slice(span.start + step // 2, span.stop, step)
    trace = ensemble.displacement
    axes.errorbar(
        (trace.time[thin] - origin) * US,
        np.asarray(trace.mean)[thin] / D_SQUARED,
        np.asarray(trace.stderr)[thin] / D_SQUARED,
        fmt=marker,
        color=colour,
        markersize=2.8,
        elinewidth=0.6,
        label=name,
    )


FIGURES: dict[str, Callable[[Results], Figure]] = {
    "spectrogram": spectrogram_figure,
    "displacement": displacement_figure,
    "growth": growth_figure,
    "gain": gain_figure,
    "moments": moments_figure,
    "beat": beat_figure,
}

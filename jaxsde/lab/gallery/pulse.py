"""The sequence of Fig. 2: spectrogram, coupling strength, and <D^2> with and without the pulse."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import scipy.signal

from jaxsde.analysis.spectra import frequencies, hann, welch
from jaxsde.engine.covariance import choose_nodes
from jaxsde.engine.records import record_covariance
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.spectrum import expected_periodogram
from jaxsde.lab.experiment import Ensemble, ensemble
from jaxsde.lab.gallery.record import Record
from jaxsde.lab.gallery.settings import (
    KHZ,
    MHZ,
    Settings,
    Tell,
    experiment,
    facts_of,
    shots_of,
    simulated,
)
from jaxsde.lab.spec import Experiment, build_sequence, ends_of
from jaxsde.physics.sequence import Sequence, resolve
from jaxsde.physics.theory import optical_coupling, static_coupling

NBAR, DELTA_PC = 15.0, -1.4 * MHZ  # printed, Fig. 2, the second without its sign
DELTA = 8.05 * KHZ  # not printed: the largest gain of the steady-state theory at this pulse
WINDOW = 60e-6  # s; tells 95 kHz from 120 kHz
SPECTRUM = 512  # samples of the ringdown whose spectrum is compared with theory
SHOWN = (75e3, 165e3)  # Hz


def make_pulse(settings: Settings, tell: Tell) -> Record:
    """Simulate Fig. 2 with and without its pulse."""
    shots = shots_of(settings, "pulse")
    base = experiment(delta=DELTA, nbar=NBAR, delta_pc=DELTA_PC, shots=shots, seed=settings.seed)
    arrays: dict[str, np.ndarray] = {}
    for i, name in enumerate(("with", "without")):
        sequence = build_sequence(base, coupled=name == "with")
        made = ensemble(base, sequence, simulated(settings, "pulse", i, base, sequence))
        arrays |= {
            f"{name}_mean": np.asarray(made.displacement.mean),
            f"{name}_stderr": np.asarray(made.displacement.stderr),
            f"{name}_expected": made.expected,
        }
        arrays |= {f"{name}_{k}": v for k, v in couplings(base, sequence).items()}
        if name == "with":
            arrays |= _spectra(base, made) | dict(time=sequence.time)
        tell(i + 1, 2)
    return Record(arrays=arrays, facts=facts_of(base, window=WINDOW, spectrum=SPECTRUM))


def couplings(base: Experiment, sequence: Sequence) -> dict[str, np.ndarray]:
    """Return Omega_opt, the static coupling and omega_m (rad/s) in the middle of every sample."""
    optical, static, trap = [], [], []
    for stage in sequence.stages:
        at = (np.arange(stage.n_samples) + 0.5) / stage.n_samples
        for values, of in ((optical, optical_coupling), (static, static_coupling)):
            value = np.asarray(of(base.params, stage.controls, at), float)
            values.append(np.broadcast_to(value, at.shape))
        ends = ends_of(resolve(base.params, stage.controls).omega_m)
        trap.append(np.interp(at, [0.0, 1.0], np.array(ends, float)))
    joined = {"optical": optical, "static": static, "omega_m": trap}
    return {name: np.concatenate(values) for name, values in joined.items()}


def spectrogram(
    record: np.ndarray, sequence: Sequence
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (time s, frequency Hz, density (frequencies, frames)) of I and Q added, over shots.

    One-sided, W^2/Hz, Hann windows.
    """
    n = round(WINDOW / sequence.sample_interval)
    rate, overlap = 1 / sequence.sample_interval, n - n // 8
    f, t, s = scipy.signal.spectrogram(
        record, fs=rate, window="hann", nperseg=n, noverlap=overlap, nfft=4 * n, axis=1
    )
    return t, f, s.mean(axis=0).sum(axis=1)


def _spectra(base: Experiment, made: Ensemble) -> dict[str, np.ndarray]:
    """Return the spectrogram, and the ringdown's spectrum with error and exact expectation.

    One-sided densities of I and Q added, W^2/Hz.
    """
    frames, f, power = spectrogram(np.asarray(made.shots.record, float), made.sequence)
    kept = (f >= SHOWN[0]) & (f <= SHOWN[1])
    sequence, dt = made.sequence, made.sequence.sample_interval
    span = sequence.span("ringdown")
    part = slice(span.start, span.start + SPECTRUM)
    window, hop = hann(SPECTRUM), SPECTRUM
    each = 2 * np.asarray(welch(jnp.asarray(made.shots.record)[:, part], window, hop, dt)).sum(-1)
    cut = (*sequence.stages[:-1], dataclasses.replace(sequence.stages[-1], n_samples=SPECTRUM))
    short = dataclasses.replace(sequence, stages=cut)
    resolution = choose_resolution(base.params, short)
    nodes = choose_nodes(base.params, short, error=0.05 / np.sqrt(len(each)), least=(5, 5))
    r = record_covariance(
        base.params, short, base.detector, resolution, nodes=nodes, first_stage=len(cut) - 1
    )
    theory = 2 * np.asarray(expected_periodogram(r, window, hop, dt)).sum(-1)
    bins = frequencies(SPECTRUM, dt)
    seen = (bins >= SHOWN[0]) & (bins <= SHOWN[1])
    return dict(
        frame_time=frames,
        frame_frequency=f[kept],
        frame_power=power[kept],
        frequency=bins[seen],
        spectrum=each.mean(axis=0)[seen],
        spectrum_stderr=(each.std(axis=0, ddof=1) / np.sqrt(len(each)))[seen],
        spectrum_expected=theory[seen],
    )

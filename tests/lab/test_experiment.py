"""The main job's parts: scan sequences, fits, filters, the beat averaged over cycles."""

import dataclasses
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsde import Moments, true_moments
from jaxsde.analysis.reconstruct import beat, beat_map
from jaxsde.lab.config import ExperimentError, build_sequence, load_experiment
from jaxsde.lab.experiment import (
    check_memory,
    has_reference,
    reconstruct,
    ringdown_filters,
    scan_sequences,
)

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
PAPER = load_experiment(EXAMPLES / "kohler2018.toml")
CALM = load_experiment(EXAMPLES / "anomalous_diffusion.toml")


def test_scan_sequences_differ_in_delta_alone():
    scan = scan_sequences(PAPER)
    assert PAPER.gain_scan is not None
    assert [d for d, _ in scan] == list(PAPER.gain_scan.delta)
    for delta, sequence in scan:
        names = [stage.name for stage in sequence.stages]
        assert names == ["preparation", "ramp_up", "pulse", "ramp_down", "ringdown"]
        assert sequence.stages[2].n_samples == 200
        assert sequence.stages[2].controls.omega_m == PAPER.params.omega_s + delta
        # 40 us after the pulse: the ramp whole, the rest of it ringdown.
        assert [s.n_samples for s in sequence.stages[3:]] == [20, 60]
    assert scan_sequences(CALM) == []


def test_a_reference_needs_a_pulse_that_something_precedes():
    assert has_reference(PAPER)
    assert not has_reference(CALM)
    first = dataclasses.replace(PAPER, stages=PAPER.stages[2:])
    assert not has_reference(first)


def test_filters_sit_where_the_file_puts_them():
    spec = dataclasses.replace(PAPER.analysis, filter_start=50e-6, filter_length=200e-6)
    bank = ringdown_filters(dataclasses.replace(PAPER, analysis=spec), build_sequence(PAPER))
    used = np.flatnonzero(np.any(np.asarray(bank.weights) != 0, axis=(0, 2)))
    start = build_sequence(PAPER).span("ringdown").start
    assert (used[0], used[-1]) == (start + 100, start + 499)


def test_the_beat_is_averaged_over_cycles():
    """What turns at twice a frequency goes; the beat at 25 kHz stays."""
    sequence = build_sequence(PAPER)
    c = true_moments(PAPER.params, sequence, 4)
    blank = jnp.zeros((4, 4))
    moments = Moments(
        C=c, C_cov=0.1 * jnp.eye(10), raw=blank, bias=blank, mixing=jnp.eye(10), n_shots=10
    )
    made = reconstruct(PAPER, sequence, moments)
    raw, _ = beat(beat_map(PAPER.params, sequence, "ringdown"), c, moments.C_cov)
    taper = np.hanning(500)
    spectrum = [np.abs(np.fft.rfft((x[:500] - np.mean(x[:500])) * taper)) for x in (raw, made.mean)]
    frequency = np.fft.rfftfreq(500, 0.5e-6)
    slow = np.argmin(np.abs(frequency - 24e3))
    fast = np.abs(frequency - 215e3) < 35e3
    assert spectrum[1][slow] == pytest.approx(spectrum[0][slow], rel=0.02)
    assert np.max(spectrum[1][fast]) < 0.15 * np.max(spectrum[0][fast])
    assert np.all(made.stderr > 0) and np.all(made.lower < made.upper)


def test_memory_is_asked_before_it_is_taken():
    check_memory(PAPER)
    with pytest.raises(ExperimentError, match=r"^simulation\.shots: wanted .* take at most \d+"):
        check_memory(dataclasses.replace(PAPER, shots=100_000_000))

"""Aliasing: where a sampled line appears, and who is told."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxsde.engine.aliasing import alias, aliases
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Sequence, Stage


def lit(name="probe", **controls):
    return Stage(name=name, n_samples=10, controls=Controls(**dict(nbar=4.0) | controls))


def sequence(*stages, dt=1e-6):
    return Sequence(stages=stages, sample_interval=dt)


@pytest.mark.parametrize("frequency", [95e3, 499e3, 501e3, 620e3, 1.0e6, 1.49e6, 2.37e6])
def test_a_line_is_where_the_spectrum_of_its_samples_peaks(frequency):
    dt, n = 1e-6, 1000
    samples = np.cos(TWO_PI * frequency * np.arange(n) * dt + 0.3)
    peak = np.fft.rfftfreq(n, dt)[np.argmax(np.abs(np.fft.rfft(samples)))]
    assert alias(frequency, dt) == pytest.approx(peak, abs=1e-6)


def test_the_paper_s_sequence_has_none():
    params = Params.kohler2018()
    assert aliases(params, Sequence.kohler2018()) == []
    # 4 us hold frequencies below 125 kHz: the coupled trap, at 125.5 kHz, is too fast alone.
    coarse = Sequence.kohler2018(t_ramp=12e-6, sample_interval=4e-6)
    up, pulse, down = aliases(params, coarse)
    assert [m.partition(": ")[0] for m in (up, pulse, down)] == [
        "stage 'ramp_up'",
        "stage 'pulse'",
        "stage 'ramp_down'",
    ]
    assert pulse == (
        "stage 'pulse': omega_m: wanted omega_m/2pi below 125 kHz, half the sample rate, got 125.5 "
        "kHz: the record would show it at 124.5 kHz; take a sample_interval below 3.984 us"
    )


@pytest.mark.parametrize("ramp", [(TWO_PI * 95e3, TWO_PI * 520e3), (TWO_PI * 520e3, TWO_PI * 95e3)])
def test_both_ends_of_a_ramp_are_seen(ramp):
    (message,) = aliases(Params.kohler2018(), sequence(lit(omega_m=ramp)))
    assert message.startswith("stage 'probe': omega_m: ") and "at 480 kHz" in message


def test_the_limit_is_half_the_sample_rate_itself():
    params = Params.kohler2018()
    for hertz, count in ((499.99e3, 0), (500e3, 1), (500.01e3, 1)):
        probe = lit(omega_m=TWO_PI * hertz)
        assert len(aliases(params, sequence(probe))) == count, hertz


def test_the_spin_is_named_once_and_the_trap_at_rest_in_its_stage():
    fast = Params.kohler2018(omega_s=TWO_PI * 1.2e6, omega_m=TWO_PI * 0.7e6)
    found = aliases(fast, sequence(lit("a"), lit("b", omega_m=TWO_PI * 95e3)))
    assert [m[: m.index(": wanted")] for m in found] == ["stage 'a': omega_m", "params.omega_s"]
    assert "show it at 300 kHz" in found[0] and "show it at 200 kHz" in found[1]


def test_without_light_there_is_no_line():
    fast = Params.kohler2018(omega_s=TWO_PI * 1.2e6)
    dark = lit("dark", nbar=0.0, omega_m=TWO_PI * 3e6)
    assert aliases(fast, sequence(dark)) == []
    assert len(aliases(fast, sequence(dark, lit()))) == 1
    rising = lit("rising", nbar=(0.0, 4.0), omega_m=TWO_PI * 3e6)
    assert len(aliases(fast, sequence(rising))) == 2


def test_tracers_pass():
    def traced(omega):
        params = dataclasses.replace(Params.kohler2018(), omega_s=omega)
        nbar_too = lit(nbar=omega, omega_m=(omega, TWO_PI * 95e3))
        assert aliases(params, sequence(nbar_too)) == []
        return omega**2

    assert jax.grad(traced)(TWO_PI * 5e6) == 2 * TWO_PI * 5e6

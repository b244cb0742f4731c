"""The pulse's gain by theory, constant and ramped."""

import dataclasses

import numpy as np
import pytest

from jaxsde.lab.config import build_sequence, load_experiment
from jaxsde.lab.pulse import pulse_controls, pulse_gain, pulse_start
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls
from jaxsde.physics.theory import instability_gain
from texts import EXAMPLES

PAPER = load_experiment(EXAMPLES / "kohler2018.toml")


def ramped(**changes):
    pulse = dataclasses.replace(PAPER.stages[2], **changes)
    return dataclasses.replace(PAPER, stages=(*PAPER.stages[:2], pulse, *PAPER.stages[3:]))


def test_gain_is_the_steady_state_of_the_scan():
    gain = pulse_gain(PAPER, TWO_PI * np.array([5.55e3, -15e3]))
    assert gain[0] == pytest.approx(4.122e4, rel=1e-3)
    assert gain[1] < 3e3
    # NaN stands for the trap frequency of the file's own pulse, 5.5 kHz above the spin.
    own = pulse_gain(PAPER, np.array([np.nan]))
    assert own[0] == pytest.approx(pulse_gain(PAPER, np.array([TWO_PI * 5.5e3]))[0])


def test_gain_of_a_ramp_is_its_mean():
    moving = ramped(nbar=(4.0, 10.0), delta_pc=(TWO_PI * -1e6, TWO_PI * -2e6))
    delta = TWO_PI * 5.5e3
    each = [
        float(
            instability_gain(
                PAPER.params,
                Controls(
                    nbar=4.0 + 6.0 * at,
                    delta_pc=TWO_PI * (-1e6 - 1e6 * at),
                    omega_m=PAPER.params.omega_s + delta,
                ),
            )
        )
        for at in np.linspace(0, 1, 201)
    ]
    mean = np.trapezoid(each, dx=1 / 200)
    assert pulse_gain(moving, np.array([delta]))[0] == pytest.approx(mean, rel=1e-3)
    assert pulse_gain(moving, np.array([np.nan]))[0] == pytest.approx(mean, rel=1e-3)
    assert min(each) < 0.9 * mean < 1.1 * mean < max(each)


def test_a_trap_that_ramps_to_delta_is_ramped_for_every_delta():
    """Most of the ramp is far from resonance, where there is no gain."""
    moving = ramped(omega_m=("rest", "coupled"))
    swept, still = (pulse_gain(e, TWO_PI * np.array([5.5e3]))[0] for e in (moving, PAPER))
    assert swept < 0.5 * still


def test_the_pulse_is_found():
    sequence = build_sequence(PAPER)
    assert pulse_start(PAPER, sequence) == pytest.approx(70e-6)
    assert pulse_controls(PAPER, sequence) == sequence.stages[2].controls

"""Captions: receiver, imperfections, switching and accuracy in words."""

import dataclasses
import math

import pytest

from jaxsde.engine.detect import Detector
from jaxsde.engine.technical import Technical
from jaxsde.lab import captions
from jaxsde.lab.captions import caption, ramp, receiver, technical
from jaxsde.physics.params import TWO_PI
from tiny import tiny_results, with_everything, without_pulse


@pytest.fixture(scope="module")
def full():
    return with_everything(tiny_results())


@pytest.mark.parametrize(
    ("detector", "parts"),
    [
        (Detector(), ["heterodyne receiver of I and Q, adiabatic model (S9-S10)"]),
        (Detector(quadratures=("Q",)), ["heterodyne receiver of Q, adiabatic"]),
        (Detector.homodyne(math.pi / 6), ["homodyne receiver at 30°", "input-output model"]),
        (Detector.ideal(), ["ideal record of D"]),
    ],
)
def test_receivers_have_a_name(detector, parts):
    assert all(part in receiver(detector) for part in parts)


def test_imperfections_are_those_that_there_are():
    assert technical(Detector()) == technical(Detector(technical=Technical())) == "none"
    layer = Technical(
        lo_offset=TWO_PI * -3e3,
        lo_phase=0.5 * math.pi,
        phase_drift=10.0,
        dc_offset=(1e-9, -2e-9),
        adc_range=4e-7,
        adc_bits=12,
    )
    assert technical(Detector(technical=layer)) == (
        "LO offset/2π −3 kHz; LO phase 90 deg; LO phase diffusion 10 rad^2/s; "
        "DC offset 1 nW, −2 nW; ADC of ±400 nW, 12 bits"
    )
    clips = dataclasses.replace(layer, lo_offset=0.0, lo_phase=0.0, phase_drift=0.0, adc_bits=None)
    one = dataclasses.replace(clips, dc_offset=0.0)
    assert technical(Detector(technical=one)) == "ADC of ±400 nW"


def test_ramps_have_both_ends():
    assert ramp(4.0, str) == "4.0"
    assert ramp((1.0, 10.0), lambda value: f"{value:g}") == "1 → 10"


def test_captions_tell_all_that_a_run_was_made_with(full):
    text = caption("displacement", full)
    for part in (
        "pulse with n̄ = 4 → 10, Δ_pc/2π = −1 MHz → −2 MHz",
        "homodyne receiver at 60° (0° amplitude, 90° phase of the cavity's field)",
        "input-output model (the field that leaves the cavity)",
        "efficiency 0.09 after collecting 0.5 of the output",
        "LO offset/2π 3 kHz; LO phase diffusion 10 rad^2/s; ADC of ±100 nW, 12 bits",
        "12 of 7,200 samples clipped (0.17 %)",
        "mean field follows the probe through the cavity, the drive risen in 0.2 µs",
        "ramps in 7 and switches in 21 sub-steps a sample, estimated error 3.2e−08",
        "(tolerance 1e−07)",
    ):
        assert part in text, part
    assert "the homodyne photocurrent" in caption("spectrogram", full)


def test_what_is_perfect_is_not_spoken_of():
    text = caption("displacement", tiny_results())
    assert "heterodyne receiver of I and Q" in text and "ramps in" in text
    for part in ("imperfections", "clipped", "mean field", "switches"):
        assert part not in text
    assert "I and Q added" in caption("spectrogram", tiny_results())


def test_a_stepped_drive_is_no_rise(full):
    sudden = dataclasses.replace(full.experiment.switching, rise_time=0.0)
    e = dataclasses.replace(full.experiment, switching=sudden)
    assert captions.switching(e).endswith("the drive stepped")
    assert "at its new value" in captions.switching(dataclasses.replace(e, switching=None))


def test_accuracy_is_that_of_what_moves(full):
    def accuracy(results, **changes):
        shots = results.main.shots
        made = dataclasses.replace(
            shots, resolution=dataclasses.replace(shots.resolution, **changes)
        )
        main = dataclasses.replace(results.main, shots=made)
        return captions.accuracy(dataclasses.replace(results, main=main))

    assert "switches" not in accuracy(full, settling=0)
    assert accuracy(full, method="euler_maruyama", substeps=40).startswith("40 Euler steps")
    calm = without_pulse(full)
    last = dataclasses.replace(calm.main.sequence, stages=calm.main.sequence.stages[-1:])
    still = dataclasses.replace(calm, main=dataclasses.replace(calm.main, sequence=last))
    assert accuracy(still) == ""

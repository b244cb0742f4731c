"""Checks of what would go wrong in silence: blind receivers, aliases, ramps where none may be."""

import re

import pytest

from jaxsde.engine.aliasing import aliases
from jaxsde.lab.checks import check_experiment
from jaxsde.lab.config import build_sequence, load_experiment, parse_experiment
from texts import EXAMPLES, HOMODYNE, changed, refusal

# (what to replace, with what, parts of the message; the first is its start)
MEASUREMENT = 'nbar = 8.0\ndelta_pc = "2pi * 0 MHz"\nomega_m = "rest"'
BAD_ANGLE = "detector.angle: wanted one that sees the signal of stage 'measurement', which lies at"
REFUSED_LIGHT = {
    "model": ('model = "input', 'model = "out', ["detector.model: wanted 'adiabatic' or 'input_"]),
    "angle without a unit": ('"90 deg"', '"90"', ["detector.angle: wanted", "unit is missing"]),
    "bare angle": ('"90 deg"', "90", ["detector.angle: wanted a quantity", "90 deg", "got 90"]),
    "angle of heterodyne": (
        '["homodyne"]',
        '["I", "Q"]',
        ["detector.angle: given, but", 'got ["I", "Q"]: leave angle out'],
    ),
    "blind": ('"90 deg"', '"0 deg"', [BAD_ANGLE, "90 deg, got 0 deg, which sees 0 of"]),
    "blind to rounding": ('"90 deg"', '"180 deg"', [BAD_ANGLE, "got 180 deg", "blind at right"]),
    "all but blind": ('"90 deg"', '"0.5 deg"', [BAD_ANGLE, "sees 0.0087 of its amplitude"]),
    "quadrature": (
        'quadratures = ["homodyne"]',
        'quadratures = ["Homodyne"]',
        ['detector.quadratures: wanted one of ["I", "Q"], ["I"]', 'got ["Homodyne"]'],
    ),
    "imperfection misspelt": (
        "phase_drift =",
        "drift =",
        ["detector.technical.drift: no such key", "phase_drift"],
    ),
    "drift without a unit": ('"5 rad^2/s"', "5", ["detector.technical.phase_drift: wanted a quan"]),
    "drift of a frequency": ('"5 rad^2/s"', '"5 rad/s"', ["detector.technical.phase_drift: wan"]),
    "negative drift": ('"5 rad^2/s"', '"-5 rad^2/s"', ["detector.technical.phase_drift: ", "-5"]),
    "wild phase": (
        '"5 rad^2/s"',
        '"5e6 rad^2/s"',
        [
            "detector.technical: the local oscillator's phase moves by 1.6 rad in a sample",
            "at most",
        ],
    ),
    "aliased LO": (
        '"2pi * 0 Hz"',
        '"2pi * 1.2 MHz"',
        ["detector.technical.lo_offset: wanted", "alias to -800000 Hz"],
    ),
    "dark ADC": (
        '"400 nW"',
        '"-400 nW"',
        ["detector.technical.adc_range: wanted a positive full scale, got '-400 nW'"],
    ),
    "bits without a range": (
        "adc_range =",
        "#",
        ["detector.technical.adc_range: this key is missing; adc_bits needs it", '"100 nW"'],
    ),
    "no bits": (
        "adc_bits = 12",
        "adc_bits = 0",
        ["detector.technical.adc_bits: wanted", "least 1"],
    ),
    "many bits": ("adc_bits = 12", "adc_bits = 33", ["detector.technical.adc_bits: ", "than 33"]),
    "half a bit": ("adc_bits = 12", "adc_bits = 0.5", ["detector.technical.adc_bits: wanted a wh"]),
    "one offset too many": (
        'dc_offset = "1 nW"',
        'dc_offset = ["1 nW", "0 nW"]',
        ["detector.technical.dc_offset: wanted one power, or one for each", "got 2"],
    ),
    "switching": ('"cavity"', '"sudden"', ["sequence.switching: wanted 'instantaneous' or 'cavi"]),
    "rise without switching": (
        'switching = "cavity"',
        "",
        ["sequence.rise_time: given, but switching is instantaneous", 'add switching = "cavity"'],
    ),
    "negative rise": ('"0.2 us"', '"-0.2 us"', ["sequence.rise_time: wanted zero or", "-200 ns"]),
    "long rise": (
        '"0.2 us"',
        '"401 us"',
        ["sequence.rise_time: wanted at most 400 us, the length of stage 'measurement'", "401 us"],
    ),
    "no tolerance": ("= 1e-8", "= 0.0", ["simulation.tolerance: wanted a number from 1e-12", "0"]),
    "any tolerance": (
        "= 1e-8",
        "= 1.0",
        ["simulation.tolerance: wanted a number", "below 1, got 1"],
    ),
    "tolerance as text": ("= 1e-8", '= "1e-8"', ["simulation.tolerance: wanted a number, got"]),
    "three ends": ("[0.5, 2.0]", "[0.5, 2.0, 1.0]", ["stage 'preparation': nbar: wanted a pair"]),
    "one end": ("[0.5, 2.0]", "[0.5]", ["stage 'preparation': nbar: wanted a pair [from, to]"]),
    "end as text": ("[0.5, 2.0]", '[0.5, "2"]', ["stage 'preparation': nbar: wanted a number, or"]),
    "negative end": ("[0.5, 2.0]", "[0.5, -2.0]", ["stage 'preparation': nbar: wanted", "got -2"]),
    "endless end": ("[0.5, 2.0]", "[0.5, inf]", ["stage 'preparation': nbar: wanted a finite nu"]),
    "end without a unit": (
        'delta_pc = "2pi * 0 MHz"',
        "delta_pc = [0, 1]",
        ["stage 'preparation': delta_pc: wanted a quantity with its unit", "got 0"],
    ),
    "trap through zero": (
        'omega_m = "rest"',
        'omega_m = ["rest", "2pi * -5 kHz"]',
        [
            "stage 'preparation': omega_m: wanted",
            "got 2pi * -5 kHz; the ramp would go through zero",
        ],
    ),
    "aliased trap": (
        'omega_m = "rest"',
        'omega_m = ["rest", "2pi * 1.25 MHz"]',
        ["stage 'preparation': omega_m: wanted", "got 1250 kHz: the record would show it at 750"],
    ),
    "aliased spin": (
        '"2pi * 120 kHz"',
        '"2pi * 1.1 MHz"',
        ["params.omega_s: wanted", "show it at 900 kHz; take a detector.sample_interval below"],
    ),
    "measured in a ramp of light": (
        MEASUREMENT,
        MEASUREMENT.replace("8.0", "[8.0, 4.0]"),
        ["stage 'measurement': nbar: wanted a constant for matched filters, got a ramp; put"],
    ),
    "measured in a ramp of the probe": (
        MEASUREMENT,
        MEASUREMENT.replace('"2pi * 0 MHz"', '["2pi * 0 MHz", "2pi * 1 MHz"]'),
        ["stage 'measurement': delta_pc: wanted a constant for matched filters"],
    ),
    "measured in a ramp of the trap": (
        MEASUREMENT,
        MEASUREMENT.replace('"rest"', '["rest", "2pi * 100 kHz"]'),
        ["stage 'measurement': omega_m: wanted a constant for matched filters"],
    ),
}


@pytest.mark.parametrize(("old", "new", "parts"), REFUSED_LIGHT.values(), ids=REFUSED_LIGHT.keys())
def test_refusals_of_receivers_and_ramps_name_the_field(old, new, parts):
    message = refusal(changed((old, new), text=HOMODYNE))
    assert message.startswith(parts[0])
    assert all(part in message for part in parts)


def receiver(text: str) -> str:
    return changed(("sample_interval =", text + "\nsample_interval ="))


def test_the_pulse_is_seen_at_every_moment_of_its_ramp():
    """At 60 degrees the signal of a ramp from -4 to 4 MHz, 155 to 24 degrees, passes unseen."""
    wide = '["2pi * -4 MHz", "2pi * 4 MHz"]'
    homodyne = receiver('quadratures = ["homodyne"]\nangle = "60 deg"')
    message = refusal(changed(('"2pi * -2.0 MHz"', wide), text=homodyne))
    assert "stage 'pulse', which lies at 155.5 deg to 24.47 deg, got 60 deg" in message
    parse_experiment(
        changed(('"2pi * -2.0 MHz"', '["2pi * -2 MHz", "2pi * 2 MHz"]'), text=homodyne), "x"
    )
    blind = receiver('quadratures = ["homodyne"]\nangle = "47.7 deg"')
    assert "stage 'pulse', which lies at 137.7 deg, got 47.7 deg" in refusal(blind)


def test_one_quadrature_may_be_dark_where_nothing_is_read():
    i_alone = receiver('quadratures = ["I"]')
    resonant = 'duration = "500 us"\nnbar = 4.0\ndelta_pc = "2pi * '
    spaced = re.sub(r" +#.*", "", i_alone)
    off = changed((resonant + "0 MHz", resonant + "-1 MHz"), text=spaced)
    parse_experiment(off, "x")  # preparation and ramps, on resonance, are all in Q
    near = changed(
        ('60 us"\nnbar = 1.0\ndelta_pc = "2pi * 0', '60 us"\nnbar = 1.0\ndelta_pc = "2pi * 0.001'),
        text=off,
    )
    message = refusal(near)
    assert message.startswith("detector.quadratures: wanted 'Q' for stage 'preparation'")
    assert "0.00055 of the signal's amplitude" in message


def test_a_pulse_needs_light_at_both_ends_of_its_ramp():
    message = refusal(changed(("nbar = 10.0", "nbar = [0.0, 10.0]")))
    assert message.startswith("stage 'pulse': nbar: wanted a positive number at both ends of the")


def test_lo_errors_need_both_quadratures():
    text = changed(('["homodyne"]', '["Q"]'), ('angle = "90 deg"', ""), text=HOMODYNE)
    message = refusal(text)
    assert message.startswith(
        'detector.technical.phase_drift: wanted none with quadratures = ["Q"]'
    )
    parse_experiment(changed(('phase_drift = "5 rad^2/s"', ""), text=text), "x")


def test_the_ideal_record_has_no_imperfections():
    text = changed(
        ('["homodyne"]', '["D"]'),
        ('angle = "90 deg"', ""),
        ('model = "input_output"', ""),
        ('lo_power = "1 mW"', 'S_SN = "0 W^2/Hz"'),
        ('wavelength = "780 nm"', ""),
        text=HOMODYNE,
    )
    assert refusal(text).startswith("detector.technical: wanted a receiver of light, got the ideal")


def test_the_scan_is_looked_through_for_aliases_and_long_rises():
    message = refusal(changed(('"2pi * 19.25 kHz"', '"2pi * 900 kHz"')))
    assert message.startswith("gain_scan.delta[10]: stage 'ramp_up': omega_m: wanted omega_m/2pi")
    assert "show it at 980 kHz" in message
    slow = changed(("[sequence]", '[sequence]\nswitching = "cavity"\nrise_time = "11 us"'))
    # ramp_up is as short, but keeps the probe of the stage before it.
    assert "at most 10 us, the length of stage 'ramp_down', whose probe steps" in refusal(slow)
    # A scan's own pulse, of 9 us, is shorter than a rise of 10 us.
    risen = changed(
        ("11 us", "10 us"),
        ('"100 us"', '"9 us"'),
        ('"12 us", "92 us"', '"1 us", "8 us"'),
        text=slow,
    )
    message = refusal(risen)
    assert message.startswith("gain_scan.delta[0]: sequence.rise_time: wanted at most 9 us")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_example_passes_its_checks(path):
    experiment = load_experiment(path)
    check_experiment(experiment)
    assert aliases(experiment.params, build_sequence(experiment)) == []

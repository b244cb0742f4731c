"""Quantities with units: what is read, what is refused, and exact round trips."""

import math

import numpy as np
import pytest

from jaxsde.lab import units

TWO_PI = 2 * math.pi


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (units.angular, "2pi * 95 kHz", TWO_PI * 95e3),
        (units.angular, "2*pi*1.82 MHz", TWO_PI * 1.82e6),
        (units.angular, "2π -18 kHz", TWO_PI * -18e3),
        (units.angular, "2π × 95kHz", TWO_PI * 95e3),
        (units.angular, "-2pi * 18 kHz", TWO_PI * -18e3),
        (units.angular, "2pi * 0.5 GHz", TWO_PI * 0.5e9),
        (units.angular, "596902.6 rad/s", 596902.6),
        (units.angular, "3 krad/s", 3e3),
        (units.rate, "2pi * 2 kHz", TWO_PI * 2e3),
        (units.rate, "12566 1/s", 12566.0),
        (units.rate, "12566/s", 12566.0),
        (units.rate, "3e4 quanta/s", 3e4),
        (units.rate, "30 quanta/ms", 3e4),
        (units.duration, "60 us", 60e-6),
        (units.duration, "0.1 µs", 0.1e-6),
        (units.duration, "2.5e-3 s", 2.5e-3),
        (units.frequency, "85 kHz", 85e3),
        (units.power, "1 mW", 1e-3),
        (units.length, "780 nm", 780e-9),
        (units.power_density, "2.5e-22 W^2/Hz", 2.5e-22),
        (units.power_density, "250 pW^2/Hz", 2.5e-22),
        (units.angle, "90 deg", math.pi / 2),
        (units.angle, "-180°", -math.pi),
        (units.angle, "1500 mrad", 1.5),
        (units.phase_drift, "10 rad^2/s", 10.0),
        (units.phase_drift, "2 mrad^2/us", 2.0),
    ],
)
def test_reads_to_the_last_bit(read, text, value):
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (
            units.angular,
            "95 kHz",
            "a.b: wanted an angular frequency such as '2pi * 95 kHz', got '95 kHz': "
            "write '2pi * 95 kHz' if 95 kHz is the ordinary frequency",
        ),
        (units.rate, "2 kHz", "write '2pi * 2 kHz' if 2 kHz is the ordinary frequency"),
        (units.frequency, "2pi * 85 kHz", "got '2pi * 85 kHz': leave the 2pi out"),
        (units.frequency, "85 rad/s", "the unit 'rad/s' does not fit"),
        (units.angular, "5 1/s", "the unit '1/s' does not fit"),
        (units.angular, "2pi * 3 rad/s", "after '2pi *' the unit must be Hz, kHz, MHz or GHz"),
        (units.angular, "2pi * 95", "its unit is missing"),
        (units.duration, 60, "a.b: wanted a quantity with its unit such as '60 us', got 60"),
        (units.duration, 6e-5, "such as '60 us', got 6e-05"),
        (units.duration, True, "such as '60 us', got true"),
        (units.duration, "60", "got '60': its unit is missing"),
        (units.duration, "60 kHz", "the unit 'kHz' does not fit"),
        (units.angle, "90", "got '90': its unit is missing"),
        (units.angle, "0.5 pi rad", "'90 deg' or '1.5 rad', got '0.5 pi rad': 'pi rad' is no unit"),
        (units.angle, "2pi * 0.25 rad", "leave the 2pi out"),
        (units.angle, "90 kHz", "the unit 'kHz' does not fit"),
        (units.phase_drift, "10 rad/s", "the unit 'rad/s' does not fit"),
        (units.duration, "60 parsec", "'parsec' is no unit known here"),
        (units.duration, "60 us s(", "'us s(' is no unit known here"),
        (units.duration, "sixty us", "write a number, then its unit"),
        (units.duration, "", "write a number, then its unit"),
        (units.angular, "2pi * nan kHz", "it must be finite"),
        (units.duration, "inf s", "it must be finite"),
        (units.duration, "1e999 s", "it must be finite"),
        (units.frequency, "1e308 GHz", "it must be finite"),
        (units.duration, "1e99999999999999999999 s", "it must be finite"),
    ],
)
def test_refuses_in_one_line(read, text, message):
    with pytest.raises(ValueError) as caught:
        read(text, "a.b")
    line = str(caught.value)
    assert line.startswith("a.b: wanted ") and message in line and "\n" not in line


def test_without_a_field_the_message_stands_alone():
    with pytest.raises(ValueError, match=r"^wanted a time such as '60 us', got 'x'"):
        units.duration("x")


def test_vanishing_exponents_are_zero():
    assert units.duration("1e-99999999999999999999 s") == 0.0


@pytest.mark.parametrize(
    ("form", "reads"),
    [
        (units.format_angular, (units.angular, units.rate)),
        (units.format_rate, (units.rate,)),
        (units.format_duration, (units.duration,)),
        (units.format_frequency, (units.frequency,)),
        (units.format_power_density, (units.power_density,)),
        (units.format_power, (units.power,)),
        (units.format_angle, (units.angle,)),
        (units.format_phase_drift, (units.phase_drift,)),
    ],
)
def test_formats_read_back_exactly(form, reads):
    rng = np.random.default_rng(1)
    values = rng.choice([-1, 1], 300) * 10 ** rng.uniform(-30, 12, 300)
    for value in [0.0, *values.tolist()]:
        for read in reads:
            assert read(form(value)) == value


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (units.format_angular(TWO_PI * 95e3), "2pi * 95 kHz"),
        (units.format_angular(TWO_PI * 1.82e6), "2pi * 1.82 MHz"),
        (units.format_angular(TWO_PI * -18e3), "2pi * -18 kHz"),
        (units.format_angular(0.0), "2pi * 0 Hz"),
        (units.format_rate(3e4), "30000 1/s"),
        (units.format_duration(60e-6), "60 us"),
        (units.format_frequency(85e3), "85 kHz"),
        (units.format_power_density(2.5e-22), "2.5e-22 W^2/Hz"),
        (units.format_power(4e-7), "400 nW"),
        (units.format_angle(math.pi / 3), "60 deg"),
        (units.format_phase_drift(10.0), "10 rad^2/s"),
    ],
)
def test_formats_are_short(text, wanted):
    assert text == wanted


def test_formats_refuse_nan():
    with pytest.raises(ValueError, match="finite"):
        units.format_duration(math.nan)

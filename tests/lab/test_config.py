"""Experiment files: every refusal names its field, and every example says what it should."""

import dataclasses
import math
import re
import tomllib
from pathlib import Path

import pytest

from jaxsde.engine.aliasing import aliases
from jaxsde.engine.detect import Detector
from jaxsde.engine.technical import Technical
from jaxsde.lab.config import (
    Experiment,
    ExperimentError,
    build_sequence,
    check_experiment,
    dump_experiment,
    load_experiment,
    parse_experiment,
)
from jaxsde.lab.schema import _EXAMPLES, ExperimentTable
from jaxsde.physics.sequence import Switching

TWO_PI = 2 * math.pi
EXAMPLES = Path(__file__).parents[2] / "examples"
KOHLER = (EXAMPLES / "kohler2018.toml").read_text(encoding="utf-8")
HOMODYNE = re.sub(r"(?m)(^| +)#.*", "", (EXAMPLES / "homodyne.toml").read_text(encoding="utf-8"))
NO_PULSE = (EXAMPLES / "anomalous_diffusion.toml").read_text(encoding="utf-8")
BARE = re.sub(r"(?m)^#.*\n", "", KOHLER)  # comments quote some of what is replaced below
PULSE = 'name = "pulse"\nduration = "60 us"'
RINGDOWN = 'name = "ringdown"\nduration = "500 us"'


@pytest.fixture
def kohler() -> Experiment:
    return load_experiment(EXAMPLES / "kohler2018.toml")


def changed(*pairs: tuple[str, str], text: str = BARE) -> str:
    for old, new in pairs:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    return text


def refusal(text: str) -> str:
    with pytest.raises(ExperimentError) as caught:
        parse_experiment(text, "x.toml")
    line = str(caught.value)
    assert line.startswith("x.toml: ") and "\n" not in line and "pydantic" not in line
    return line.removeprefix("x.toml: ")


# (what to replace, with what, parts of the message; the first is its start)
REFUSED = {
    "misspelt key": ("kappa =", "kapa =", ["params.kapa: no such key; did you mean 'kappa'?"]),
    "wrong case": ("B_s =", "b_s =", ["params.b_s: no such key; did you mean 'B_s'?"]),
    "unknown key": ("kappa =", "zzz =", ["params.zzz: no such key (known: omega_m, omega_s"]),
    "unknown table": ("[gain_scan]", "[gainscan]", ["gainscan: no such", "'gain_scan'?"]),
    "unknown stage key": ("nbar = 10.0", "nbars = 1", ["stage 'pulse': nbars: no such", "'nbar'?"]),
    "missing key": ("kappa =", "#", ["params.kappa: this key is missing; write one such as kappa"]),
    "missing shots": ("shots =", "#", ["simulation.shots: this key is missing", "shots = 200"]),
    "missing table": ("[analysis]", "[gain_scan.x]", ["gain_scan.x: no such key"]),
    "missing unit": (
        '"2pi * 95 kHz"',
        '"95"',
        ["params.omega_m: wanted an ang", "unit is missing"],
    ),
    "plain number": (
        '= "2pi * 95 kHz"',
        "= 95",
        ["params.omega_m: wanted a quantity with", "got 95"],
    ),
    "bare kHz": (
        '= "2pi * 95 kHz"',
        '= "95 kHz"',
        ["params.omega_m: wanted", "write '2pi * 95 kHz'"],
    ),
    "bare rate": (
        '"2pi * 2 kHz"',
        '"2 kHz"',
        ["params.gamma_m: wanted a rate", "'2pi * 2 kHz' if"],
    ),
    "wrong unit": (
        '"60 us"',
        '"60 kHz"',
        ["stage 'preparation': duration: wanted", "does not fit"],
    ),
    "negative kappa": ('"2pi * 1.82', '"2pi * -1.82', ["params.kappa: wanted a positive number"]),
    "zero kappa": ('"2pi * 1.82', '"2pi * 0', ["params.kappa: wanted a positive number, got 0"]),
    "epsilon": ("epsilon = -1", "epsilon = 0.5", ["params.epsilon: wanted -1", "got 0.5"]),
    "nan": ("n_bath = 1.0", "n_bath = nan", ["params.n_bath: wanted a finite number, got nan"]),
    "inf": ("nbar = 10.0", "nbar = inf", ["stage 'pulse': nbar: wanted a finite number, got inf"]),
    "nan in a unit": (
        '= "2pi * 95 kHz"',
        '= "2pi * nan kHz"',
        ["params.omega_m: wanted", "be finite"],
    ),
    "negative B_s": ('"3e4 quanta/s"', '"-1 1/s"', ["params.B_s: wanted zero or more, got -1"]),
    "negative nbar": ("nbar = 10.0", "nbar = -1", ["stage 'pulse': nbar: wanted", "got -1"]),
    "text for a number": ("nbar = 10.0", 'nbar = "4"', ["stage 'pulse': nbar: wanted a number"]),
    "bool for a number": (
        "n_bath = 1.0",
        "n_bath = true",
        ["params.n_bath: wanted a number, got t"],
    ),
    "number for text": ('"Negative-mass instability, Figs. 3-4"', "3", ["title: wanted text"]),
    "efficiency 0": (
        "efficiency = 0.09",
        "efficiency = 0.0",
        ["detector.efficiency: wanted a num"],
    ),
    "efficiency 2": (
        "efficiency = 0.09",
        "efficiency = 2",
        ["detector.efficiency: wanted", "got 2"],
    ),
    "collection": ("collection = 0.5", "collection = 1.5", ["detector.collection: wanted"]),
    "interval": ('"0.5 us"', '"0 us"', ["detector.sample_interval: wanted a positive time"]),
    "S_SN twice": (
        "lo_power =",
        'S_SN = "1e-22 W^2/Hz"\nlo_power =',
        ["detector.S_SN: given together with lo_power", "keep one"],
    ),
    "no S_SN": ("lo_power =", "#", ["detector.lo_power: this key is missing", "S_SN alone"]),
    "no wavelength": ("wavelength =", "#", ["detector.wavelength: this key is missing"]),
    "dark LO": ('"1 mW"', '"0 mW"', ["detector.lo_power: wanted a positive quantity, got 0"]),
    "part of a sample": (
        PULSE,
        PULSE.replace("60", "60.2"),
        ["stage 'pulse': duration: wanted a wh"],
    ),
    "no duration": (
        PULSE,
        PULSE.replace("60", "0"),
        ["stage 'pulse': duration: wanted a positive"],
    ),
    "same name": ('name = "ramp_up"', 'name = "pulse"', ["stage 'pulse': name: wanted", "got 2"]),
    "no name": ('name = "ramp_up"', 'name = ""', ["sequence.stages[1].name: wanted a name"]),
    "bad pair": ('["rest", "coupled"]', '["rest"]', ["stage 'ramp_up': omega_m: wanted a pair"]),
    "bad trap": ('["rest", "coupled"]', '"resting"', ["stage 'ramp_up': omega_m: wanted 'rest', "]),
    "pulse unknown": (
        'pulse = "pulse"',
        'pulse = "puls"',
        ["analysis.pulse: wanted the name", "ul"],
    ),
    "ringdown unknown": (
        'ringdown = "ringdown"',
        'ringdown = "end"',
        ["analysis.ringdown: wanted the name of a stage, got 'end'", "preparation, ramp_up"],
    ),
    "one stage for both": ('ringdown = "ringdown"', 'ringdown = "pulse"', ["analysis.ringdown: w"]),
    "long filter": (
        'fit_window = ["12 us", "54 us"]',
        'filter_length = "600 us"\nfit_window = ["12 us", "54 us"]',
        ["analysis.filter_length: wanted", "up to 500 us", "'ringdown'", "got 600 us"],
    ),
    "long delayed filter": (
        'fit_window = ["12 us", "54 us"]',
        'filter_start = "100 us"\nfilter_length = "450 us"\nfit_window = ["12 us", "54 us"]',
        ["analysis.filter_length: wanted", "up to 400 us", "got 450 us"],
    ),
    "late filter": (
        'fit_window = ["12 us", "54 us"]',
        'filter_start = "500 us"\nfit_window = ["12 us", "54 us"]',
        ["analysis.filter_start: wanted a time from 0 to below 500 us"],
    ),
    "fit outside": ('"54 us"', '"64 us"', ["analysis.fit_window: wanted", "60 us", "64 us]"]),
    "fit backwards": ('"54 us"', '"10 us"', ["analysis.fit_window: wanted increasing times"]),
    "fit of three": (
        '"54 us"]',
        '"5 us", "6 us"]',
        ["analysis.fit_window: wanted at most 2 entries"],
    ),
    "no fit window": (
        "fit_window =",
        "#",
        ["analysis.fit_window: this key is missing; pulse needs"],
    ),
    "no pulse": (
        'pulse = "pulse"',
        "#",
        ["analysis.pulse: this key is missing; fit_window needs it"],
    ),
    "zero shots": (
        "shots = 200",
        "shots = 0",
        ["simulation.shots: wanted a whole number, at least 1"],
    ),
    "half a shot": (
        "shots = 200",
        "shots = 1.5",
        ["simulation.shots: wanted a whole number, got 1.5"],
    ),
    "negative seed": (
        "seed = 2018",
        "seed = -1",
        ["simulation.seed: wanted", "at least 0, got -1"],
    ),
    "huge seed": (
        "seed = 2018",
        f"seed = {2**63}",
        ["simulation.seed: wanted", f"less than {2**63}"],
    ),
    "method": ('"exact"', '"rk4"', ["simulation.method: wanted 'exact', 'interaction_euler' or"]),
    "substeps": ('dtype = "float64"', "substeps = 0", ["simulation.substeps: wanted", "got 0"]),
    "dtype": ('"float64"', '"float16"', ["simulation.dtype: wanted 'float32' or 'float64'"]),
    "band above Nyquist": ('"150 kHz"', '"1 MHz"', ["analysis.band: wanted", "Nyquist", "1 MHz]"]),
    "band backwards": ('"150 kHz"', '"80 kHz"', ["analysis.band: wanted increasing", "80 kHz]"]),
    "band with 2pi": (
        '"150 kHz"',
        '"2pi * 150 kHz"',
        ["analysis.band[1]: wanted", "leave the 2pi"],
    ),
    "cycle average": (
        'average = "120',
        'average = "2000',
        ["analysis.cycle_average: wanted", "2 MHz"],
    ),
    "no delta": (
        'delta = "2pi * 5.5 kHz"',
        "",
        ["sequence.delta: this key is missing", "'ramp_up'"],
    ),
    "trap below 0": ('"2pi * 5.5 kHz"', '"2pi * -130 kHz"', ["stage 'ramp_up': omega_m: wanted"]),
    "scan t_c": ('"100 us"', '"100.3 us"', ["gain_scan.t_c: ", "whole number of samples"]),
    "scan window": ('"92 us"', '"102 us"', ["gain_scan.fit_window: wanted", "100 us", "102 us]"]),
    "scan delta": (
        '"2pi * 19.25 kHz"',
        '"19.25 kHz"',
        ["gain_scan.delta[10]: wanted", "'2pi * 19.25 kHz'"],
    ),
    "scan trap below 0": ('"2pi * 19.25 kHz"', '"2pi * -120 kHz"', ["gain_scan.delta[10]: wanted"]),
}


@pytest.mark.parametrize(("old", "new", "parts"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals_name_the_field(old, new, parts):
    message = refusal(changed((old, new)))
    assert message.startswith(parts[0])
    assert all(part in message for part in parts)


# The same for what homodyne.toml has and kohler2018.toml leaves at its defaults.
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
    assert refusal(slow).startswith("sequence.rise_time: wanted at most 10 us, the length of stage")
    # A scan's own pulse, of 9 us, is shorter than a rise of 10 us.
    risen = changed(
        ("11 us", "10 us"),
        ('"100 us"', '"9 us"'),
        ('"12 us", "92 us"', '"1 us", "8 us"'),
        text=slow,
    )
    message = refusal(risen)
    assert message.startswith("gain_scan.delta[0]: sequence.rise_time: wanted at most 9 us")


def test_refuses_delta_that_nothing_uses():
    message = refusal(NO_PULSE.replace("[[seq", '[sequence]\ndelta = "2pi * 5 kHz"\n[[seq', 1))
    assert message.startswith("sequence.delta: given, but no stage uses it")


def test_refuses_a_scan_without_a_pulse():
    message = refusal(NO_PULSE + KOHLER[KOHLER.index("[gain_scan]") :])
    assert message.startswith("gain_scan: given, but analysis.pulse is missing")


def test_refuses_a_scan_of_a_pulse_that_does_not_depend_on_delta():
    message = refusal(changed(('omega_m = "coupled"', 'omega_m = "2pi * 125 kHz"')))
    assert message.startswith("gain_scan.delta: the pulse does not depend on delta")


def test_refuses_an_empty_sequence():
    message = refusal(re.sub(r"(?s)\[\[sequence.*(?=\[simulation\])", "stages = []\n", KOHLER))
    assert message == "sequence.stages: wanted at least 1 entries, got 0"


def test_toml_syntax_errors_tell_the_place():
    assert refusal('title = "a"\nparams = = 3\n').startswith("line 2, column 10: not valid TOML: ")
    assert refusal("title =").startswith("end of document: not valid TOML: ")


def test_unreadable_files(tmp_path):
    with pytest.raises(ExperimentError, match=r"none\.toml: no such file"):
        load_experiment(tmp_path / "none.toml")
    with pytest.raises(ExperimentError, match="got a folder"):
        load_experiment(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'title = "\xb5"')
    with pytest.raises(ExperimentError, match=r"latin\.toml: wanted UTF-8 .* 0xb5 at offset 9"):
        load_experiment(tmp_path / "latin.toml")


def test_errors_of_a_file_begin_with_its_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(changed(("kappa =", "kapa =")), encoding="utf-8")
    with pytest.raises(ExperimentError) as caught:
        load_experiment(path)
    assert str(caught.value).startswith(f"{path}: params.kapa: no such key")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_dump_parses_back_to_an_equal_experiment(path):
    experiment = load_experiment(path)
    text = dump_experiment(experiment)
    assert parse_experiment(text, "dump") == experiment
    assert dump_experiment(parse_experiment(text, "dump")) == text


def test_keeps_its_source(kohler):
    assert kohler.text == KOHLER
    assert kohler.source == str(EXAMPLES / "kohler2018.toml")


def test_reads_every_key_of_the_homodyne_example():
    made = load_experiment(EXAMPLES / "homodyne.toml")
    assert made.detector == Detector.homodyne(
        math.pi / 2,
        efficiency=0.9,
        collection=1.0,
        technical=Technical(phase_drift=5.0, dc_offset=1e-9, adc_range=4e-7, adc_bits=12),
    )
    assert made.switching == Switching(rise_time=0.2e-6)
    assert made.stages[0].nbar == (0.5, 2.0) and made.tolerance == 1e-8


def test_defaults_of_newer_keys_are_not_dumped(kohler):
    text = dump_experiment(kohler)
    for key in ("model", "angle", "technical", "switching", "rise_time", "tolerance"):
        assert key not in text
    assert kohler.switching is None and kohler.detector.technical is None
    assert (kohler.detector.model, kohler.tolerance) == ("adiabatic", 1e-8)


def test_newer_keys_are_dumped_and_come_back(kohler):
    stages = list(kohler.stages)
    stages[2] = dataclasses.replace(
        stages[2], nbar=(1 / 3, 10.0), delta_pc=(TWO_PI * -1e6 / 7, TWO_PI * -2e6)
    )
    offsets = (1e-9 / 3, -2e-9)
    base = dataclasses.replace(
        kohler, stages=tuple(stages), tolerance=1e-6, switching=Switching(rise_time=1e-6 / 3)
    )
    for detector in (
        Detector(model="input_output", technical=Technical(dc_offset=offsets, adc_range=1e-7)),
        Detector(technical=Technical()),
        Detector(
            technical=Technical(
                lo_offset=TWO_PI * 1e3 / 7,
                lo_phase=0.1,
                phase_drift=1 / 3,
                adc_range=1.0,
                adc_bits=8,
            )
        ),
        Detector.homodyne(1.0),
        Detector(quadratures=("homodyne",), angle=-2.0),
    ):
        for switching in (base.switching, Switching(), None):
            now = dataclasses.replace(base, detector=detector, switching=switching)
            text = dump_experiment(now)
            back = parse_experiment(text, "dump")
            assert back == now and back.switching == switching
            assert dump_experiment(back) == text


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_example_passes_its_checks(path):
    experiment = load_experiment(path)
    check_experiment(experiment)
    assert aliases(experiment.params, build_sequence(experiment)) == []


def test_dump_says_what_the_experiment_is_now(kohler):
    stage = dataclasses.replace(
        kohler.stages[3], omega_m=(TWO_PI * 96.1e3, "rest"), B_s=1 / 3, n_bath=0.1, delta_pc=-1 / 7
    )
    now = dataclasses.replace(
        kohler,
        title='a "quoted" \\ title\n\x7f µ',
        params=dataclasses.replace(kohler.params, g_m=1e5 / 3, n_m0=0.1 + 0.2),
        detector=Detector.ideal(0.25e-6),
        stages=(*kohler.stages[:3], stage, kohler.stages[4]),
        shots=7,
        seed=2**63 - 1,
        analysis=dataclasses.replace(kohler.analysis, filter_start=1e-5, filter_length=4e-4),
        gain_scan=None,
    )
    text = dump_experiment(now)
    assert parse_experiment(text, "dump") == now
    assert tomllib.loads(text)["simulation"]["shots"] == 7


def test_every_missing_key_has_an_example():
    def required(model, path=""):
        for name, field in model.model_fields.items():
            inner = field.annotation
            inner = (*getattr(inner, "__args__", ()), inner)[0]  # list[Table] -> Table
            if field.is_required():
                yield path + name
            if hasattr(inner, "model_fields"):
                yield from required(inner, f"{path}{name}.")

    names = set(required(ExperimentTable))
    assert {"params.kappa", "sequence.stages.nbar", "gain_scan.t_c"} <= names
    assert names == set(_EXAMPLES)

"""Experiment files: every refusal names its field, and every example says what it should."""

import dataclasses
import math
import re
import tomllib

import pytest

from jaxsde.engine.detect import Detector
from jaxsde.engine.technical import Technical
from jaxsde.lab.config import (
    Experiment,
    ExperimentError,
    dump_experiment,
    load_experiment,
    parse_experiment,
)
from jaxsde.physics.sequence import Switching
from texts import EXAMPLES, KOHLER, NO_PULSE, changed, refusal

TWO_PI = 2 * math.pi
PULSE = 'name = "pulse"\nduration = "60 us"'


@pytest.fixture
def kohler() -> Experiment:
    return load_experiment(EXAMPLES / "kohler2018.toml")


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

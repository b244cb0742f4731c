import dataclasses
import re

import pytest
from matplotlib.text import Text

from gallery_records import RECORDS
from jaxsde.lab.config import ExperimentError
from jaxsde.lab.gallery.catalogue import ENTRIES, MAKERS, NAMES, chosen
from jaxsde.lab.gallery.settings import SHOTS

WANTED = "1a 1b 2a 2b 2c 3a 3b 3c 3d 4a 4b 4c S1c S2".split()


@pytest.fixture(scope="module")
def records():
    return {name: make() for name, make in RECORDS.items()}


def parts(key, records):
    return [records[dataset] for dataset in ENTRIES[key].datasets]


def test_names_are_the_papers_in_its_order():
    assert list(NAMES) == WANTED
    assert set(MAKERS) == set(SHOTS) == {d for e in ENTRIES.values() for d in e.datasets}


@pytest.mark.parametrize(
    "names, keys",
    [
        (["3d"], ["3cd"]),
        (["s1C", "1b"], ["1ab", "S1c"]),
        (["3cd", "3c"], ["3cd"]),
        (["4"], ["4a", "4b", "4c"]),
        ([], list(ENTRIES)),
    ],
)
def test_names_stand_for_figures(names, keys):
    assert chosen(names) == keys


@pytest.mark.parametrize("name", ["5", "3e", "", "gain", "S1"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ExperimentError, match=r"wanted figures of the paper out of 1a, 1b, 2a"):
        chosen(["1a", name])


@pytest.mark.parametrize("key", ENTRIES)
def test_every_axis_has_a_unit(key, records):
    figure = ENTRIES[key].draw(*parts(key, records))
    labels = [figure.get_supxlabel(), figure.get_supylabel()]
    for axes in figure.axes:
        labels += [axes.get_xlabel(), axes.get_ylabel()]
    written = [label for label in labels if label]
    assert len(written) >= 2
    for label in written:
        has_unit = re.search(r"\((µs|kHz|dB|quanta|ms|\$10\^3\$|\$\\pi\$)", label)
        assert has_unit or "over shot noise" in label, label


@pytest.mark.parametrize("key", ENTRIES)
def test_captions_hold_every_parameter(key, records):
    made = parts(key, records)
    text = ENTRIES[key].caption(*made)
    facts = made[0].facts
    assert not re.search(r"\bnan\b|[{}]|None", text)
    for symbol in ("g_m", "g_s", "g_sm", "κ", "Γ_m"):
        assert re.search(rf"{symbol}/2π = −?[\d.]+ ([kM]?Hz)", text), symbol
    for symbol in ("σ_m", "σ_s"):
        assert re.search(rf"{symbol}/2π = [\d.]+( [kM]?Hz)?", text), symbol
    assert "bath occupation 1" in text and "initial occupations 1 (motion) and 1 (spin)" in text
    assert "B_s = 30000 quanta/s" in text and "efficiency 9 %" in text and "samples of" in text
    assert "n̄ = 4" in text and ("δ" in text or key == "S1c")
    if key != "2b":
        assert f"{facts['shots']} shots" in text and f"seed {facts['seed']}" in text
    if key != "1ab":
        assert "ε = " in text
        for stage in facts["stages"]:
            assert f"n̄ = {stage['nbar']:g}" in text
        assert text.count("Δ_pc") >= 2 and "ω_m/2π = 95 kHz" in text
    if key in ("2c", "3a", "3b", "3cd", "4c", "S1c", "S2"):
        assert "85 to 150 kHz" in text and "below 120 kHz" in text


def test_the_numbers_of_a_figure_are_those_of_its_record(records):
    for key, entry in ENTRIES.items():
        found = entry.numbers(*parts(key, records))
        assert found and all(isinstance(v, str) and "nan" not in v for v in found.values()), key
    gains = ENTRIES["3cd"].numbers(*parts("3cd", records))
    assert gains["(c) peak of steady-state theory"] == "40.0 ms⁻¹ at 5 kHz"
    assert gains["(c) largest gain told, 30 shots"] == "40.5 ± 4.2 ms⁻¹ at 5 kHz"
    assert (
        ENTRIES["S1c"].numbers(*parts("S1c", records))["B_s calibrated"].startswith("3.10 ± 0.40")
    )


def test_an_open_contour_is_drawn_as_no_gain(records):
    figure = ENTRIES["3cd"].draw(*parts("3cd", records))
    axes = figure.axes[0]
    (crosses,) = [one for one in axes.lines if "do not tell" in str(one.get_label())]
    assert list(crosses.get_xdata()) == [-5.0]
    words = [t.get_text() for t in ENTRIES["3b"].draw(*parts("3b", records)).findobj(Text)]
    assert sum("not told apart" in word for word in words) == 1


def test_a_fit_that_did_not_converge_is_said(records):
    found = records["resonance"]
    lost = dataclasses.replace(found, facts=found.facts | dict(converged=False))
    assert "The fit did not converge." in ENTRIES["3b"].caption(lost)
    assert "did not converge" not in ENTRIES["3b"].caption(found)
    numbers = ENTRIES["3b"].numbers(lost)
    assert numbers["joint fit converged, 30 and 1000 shots"] == "no and yes"

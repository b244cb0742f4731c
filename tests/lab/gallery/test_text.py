import json

import pytest

from jaxsde.lab.gallery.settings import KHZ, MHZ, experiment, facts_of
from jaxsde.lab.gallery.text import (
    hertz,
    sequence_of,
    sequence_text,
    shot_noise,
    system_text,
    us,
)
from jaxsde.lab.spec import build_sequence


@pytest.mark.parametrize(
    "value, text",
    [
        (26 * KHZ, "26 kHz"),
        (-18 * KHZ, "−18 kHz"),
        (0.12 * KHZ, "120 Hz"),
        (1.82 * MHZ, "1.82 MHz"),
        (0.0, "0"),
        (-2 * MHZ, "−2 MHz"),
    ],
)
def test_angular_frequencies_are_written_over_2_pi(value, text):
    assert hertz(value) == text


def test_a_sequence_is_written_stage_by_stage():
    facts = json.loads(json.dumps(facts_of(experiment(nbar=15.0, t_c=60e-6))))
    text = sequence_text(facts)
    assert "coupling pulse 60 µs (n̄ = 15, Δ_pc/2π = −2 MHz, ω_m = ω_s + δ)" in text
    assert "ramp back 10 µs (n̄ = 4, Δ_pc/2π = 0, ω_m ramped)" in text
    assert "coupling pulse t_c (n̄ = 15, Δ_pc varied" in sequence_text(
        facts, length="t_c", delta_pc="Δ_pc varied"
    )
    assert us(0.5e-6) == "0.5 µs"


def test_the_stages_come_back_with_their_lengths():
    made = experiment(t_c=60e-6)
    found = sequence_of(facts_of(made))
    assert [s.n_samples for s in found.stages] == [s.n_samples for s in build_sequence(made).stages]


def test_shot_noise_is_that_of_both_quadratures_one_sided():
    facts = facts_of(experiment())
    # S_SN/2 in each, two-sided (docs/conventions.md): twice that of two is 2 S_SN.
    assert shot_noise(facts) == 2 * facts["detector"]["S_SN"]


def test_what_the_paper_does_not_print_is_said():
    assert "the paper prints no value" in system_text(facts_of(experiment()))

"""Parts of a run and the blocks they are made in."""

import dataclasses
import pathlib

import pytest

import streams
from jaxsde.lab.config import load_experiment
from jaxsde.lab.experiment import MAIN, REFERENCE, SCAN
from jaxsde.lab.parts import (
    MOST_SHOTS,
    blocks_of,
    check_block_shots,
    open_experiment,
    parts_of,
    production,
)
from jaxsde.lab.spec import ExperimentError

PAPER = load_experiment(pathlib.Path(__file__).parents[2] / "examples" / "kohler2018.toml")


def test_parts_are_the_ensembles_of_the_main_job():
    parts = parts_of(PAPER)
    assert [p.name for p in parts[:3]] == ["main", "reference", "scan_00"]
    assert [p.stream for p in parts] == [MAIN, REFERENCE, *(SCAN + i for i in range(11))]
    assert [p.shots for p in parts] == [200, 200, *[1000] * 11]
    # With a scan the fit reads the scan alone; its window may grow by a tenth.
    assert parts[0].window is None and parts[1].window is None
    assert parts[2].window == pytest.approx((70e-6 + 12e-6, 70e-6 + 12e-6 + 1.1 * 80e-6))
    assert [p.filtered for p in parts] == [True, *[False] * 12]


def test_blocks_cover_a_part_once():
    (part,) = parts_of(streams.experiment())
    blocks = list(blocks_of(part, 4096))
    assert [(b.number, b.first, b.end) for b in blocks] == [
        (0, 0, 4096),
        (1, 4096, 8192),
        (2, 8192, 9001),
    ]
    assert sum(b.shots for b in blocks) == part.shots


@pytest.mark.parametrize("shots, keep", [(512, "records"), (65536, "estimates"), (4096, "moments")])
def test_good_blocks(shots, keep):
    check_block_shots(shots, keep)


@pytest.mark.parametrize(
    "shots, keep", [(1000, "records"), (1536, "filters"), (512, "moments"), (0, "records")]
)
def test_blocks_that_would_change_sums_are_refused(shots, keep):
    with pytest.raises(ExperimentError, match=r"--block-shots: wanted .* power of two"):
        check_block_shots(shots, keep)


def test_shots_have_as_many_indices_as_a_word():
    with pytest.raises(ExperimentError, match=r"wanted at most 4,293,918,720"):
        parts_of(dataclasses.replace(PAPER, shots=MOST_SHOTS + 1))


def test_every_process_reads_the_same_experiment():
    text = streams.text()
    found, parts = open_experiment(text)
    assert found == streams.experiment() and list(parts) == ["main"]
    made = production(text, "main", "filters")
    assert made.keep == "filters" and made.reduction.products and made.weights is not None
    with pytest.raises(ExperimentError, match="backend: wanted one of"):
        production(text, "main", "filters", "gpu")

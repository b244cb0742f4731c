"""A real run of the whole chain, made so small that tests of what is drawn of it stay quick."""

import dataclasses
import functools
import pathlib

from jaxsde.lab.config import load_experiment
from jaxsde.lab.experiment import Results, run_experiment
from jaxsde.physics.params import TWO_PI

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"
# As long as a scan's sequences, so that both compile once.
DURATIONS = dict(preparation=30e-6, pulse=40e-6, ringdown=30e-6)
DELTAS = tuple(TWO_PI * f for f in (0.0, 5.5e3, 11e3))


@functools.cache
def tiny_results() -> Results:
    """Return the results of kohler2018.toml with short stages, few shots and 1 us samples."""
    e = load_experiment(EXAMPLES / "kohler2018.toml")
    assert e.gain_scan is not None
    return run_experiment(
        dataclasses.replace(
            e,
            shots=12,
            detector=dataclasses.replace(e.detector, sample_interval=1e-6),
            stages=tuple(
                dataclasses.replace(s, duration=DURATIONS.get(s.name, s.duration))
                for s in e.stages
            ),
            analysis=dataclasses.replace(e.analysis, fit_window=(8e-6, 36e-6)),
            gain_scan=dataclasses.replace(
                e.gain_scan, delta=DELTAS, t_c=40e-6, fit_window=(8e-6, 36e-6), shots=10
            ),
        )
    )


def without_pulse(results: Results) -> Results:
    """Return results as an experiment without a pulse has them."""
    e = results.experiment
    calm = dataclasses.replace(
        e,
        gain_scan=None,
        delta=None,
        analysis=dataclasses.replace(e.analysis, pulse=None, fit_window=None),
    )
    return dataclasses.replace(results, experiment=calm, reference=None, growth=None)


def positive_mass(results: Results) -> Results:
    """Return results whose spin is said to have positive mass; its numbers stay."""
    e = results.experiment
    params = dataclasses.replace(e.params, epsilon=1.0)
    return dataclasses.replace(results, experiment=dataclasses.replace(e, params=params))

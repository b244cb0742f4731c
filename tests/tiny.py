"""Results made up of plausible numbers, so that tests of what is drawn of them are quick.

The gain is really fitted; everything else is a closed form plus noise of a fixed seed.
"""

import dataclasses
import functools
import pathlib

import jax.numpy as jnp
import numpy as np

from jaxsde.analysis.displacement import MeanSquaredDisplacement
from jaxsde.analysis.matched import FilterBank
from jaxsde.analysis.moments import Moments
from jaxsde.engine.detect import noise_variance
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.simulate import Shots
from jaxsde.engine.technical import Technical
from jaxsde.lab.config import load_experiment
from jaxsde.lab.experiment import (
    Beat,
    Ensemble,
    Results,
    build_sequence,
    fit_growth,
    scan_sequences,
)
from jaxsde.lab.spec import Experiment
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Sequence, Switching

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"
DURATIONS = dict(preparation=30e-6, pulse=40e-6, ringdown=60e-6)
DELTAS = tuple(TWO_PI * f for f in (0.0, 5.5e3, 11e3))
GAINS = (2.7e4, 4.1e4, 2.8e4)  # 1/s
D_0 = 3e10  # (rad/s)^2


def experiment() -> Experiment:
    """Return kohler2018.toml with short stages, few shots and 1 us samples."""
    e = load_experiment(EXAMPLES / "kohler2018.toml")
    assert e.gain_scan is not None
    return dataclasses.replace(
        e,
        shots=12,
        detector=dataclasses.replace(e.detector, sample_interval=1e-6),
        stages=tuple(
            dataclasses.replace(s, duration=DURATIONS.get(s.name, s.duration)) for s in e.stages
        ),
        analysis=dataclasses.replace(e.analysis, fit_window=(8e-6, 36e-6)),
        gain_scan=dataclasses.replace(
            e.gain_scan, delta=DELTAS, t_c=40e-6, fit_window=(8e-6, 36e-6), shots=10
        ),
    )


def ensemble(e: Experiment, sequence: Sequence, shots: int, gain: float, seed: int) -> Ensemble:
    """Return an ensemble that grows at gain (1/s) during the pulse and then beats."""
    rng = np.random.default_rng(seed)
    n, stages, quadratures = sequence.n_samples, len(sequence.stages), len(e.detector.quadratures)
    t = np.clip(sequence.time - 40e-6, 0.0, 40e-6)
    after = np.maximum(sequence.time - 90e-6, 0.0)
    expected = D_0 * np.exp(gain * t) * (1 + 0.5 * np.sin(TWO_PI * 25e3 * after))
    each = expected * rng.exponential(1.0, (shots, 1)) + 0.5 * D_0 * rng.normal(size=(shots, n))
    noise = np.sqrt(float(np.asarray(noise_variance(e.detector))))
    return Ensemble(
        sequence=sequence,
        shots=Shots(
            record=jnp.asarray(noise * rng.normal(size=(shots, n, quadratures))),
            time=sequence.time,
            stage=sequence.stage_index,
            omega_m=jnp.full(shots, float(e.params.omega_m)),
            omega_s=jnp.full(shots, float(e.params.omega_s)),
            states=jnp.zeros((shots, stages, 6)),
            status=jnp.zeros(shots, int),
            clipped=jnp.zeros(shots, int),
            backend="scan",
            method=e.method,
            resolution=choose_resolution(e.params, sequence),
        ),
        displacement=MeanSquaredDisplacement(
            time=sequence.time,
            mean=jnp.asarray(each.mean(axis=0)),
            stderr=jnp.asarray(each.std(axis=0, ddof=1) / np.sqrt(shots)),
            each=jnp.asarray(each),
            noise_bias=jnp.zeros(n),
        ),
        expected=expected,
    )


def moments() -> tuple[Moments, np.ndarray]:
    """Return (estimate, exact C) of n_m = 10, n_s = 12 and <a b> = -11i."""
    exact = np.diag([21.0, 21.0, 25.0, 25.0])
    exact[0, 3] = exact[3, 0] = exact[1, 2] = exact[2, 1] = -22.0
    rng = np.random.default_rng(5)
    root = rng.normal(size=(10, 10))
    cov = root @ root.T / 20 + 0.5 * np.eye(10)
    off = np.zeros((4, 4))
    off[np.triu_indices(4)] = rng.multivariate_normal(np.zeros(10), cov)
    made = Moments(
        C=jnp.asarray(exact + off + np.triu(off, 1).T),
        C_cov=jnp.asarray(cov),
        raw=jnp.eye(4),
        bias=jnp.eye(4),
        mixing=jnp.eye(10),
        n_shots=12,
    )
    return made, exact


@functools.cache
def tiny_results() -> Results:
    """Return made-up results of experiment(), with a reference and a scan of the gain."""
    e = experiment()
    sequence = build_sequence(e)
    main = ensemble(e, sequence, e.shots, GAINS[1], 0)
    scan = [
        (delta, ensemble(e, s, 10, gain, 2 + i))
        for i, ((delta, s), gain) in enumerate(zip(scan_sequences(e), GAINS, strict=True))
    ]
    estimate, exact = moments()
    t = sequence.time[sequence.span("ringdown")] + 0.5e-6
    beat = 2e11 + 1e11 * np.sin(TWO_PI * 25e3 * (t - 90e-6))
    return Results(
        experiment=e,
        main=main,
        reference=ensemble(e, build_sequence(e, coupled=False), e.shots, 0.0, 1),
        bank=FilterBank(
            weights=jnp.zeros((4, sequence.n_samples, 2)),
            names=("Z_m", "P_m", "Z_s", "P_s"),
            stage=4,
        ),
        moments=estimate,
        C_theory=exact,
        beat=Beat(time=t, mean=beat, stderr=0.1 * beat, lower=0.8 * beat, upper=1.2 * beat),
        growth=fit_growth(e, main, scan),
    )


def with_everything(results: Results) -> Results:
    """Return results as of homodyne detection with imperfections, ramps of the probe, switching.

    7 samples of the main ensemble, 2 of the reference and 1 of each trace of the scan are clipped.
    """
    e, calm = results.experiment, results.reference
    assert calm is not None and results.growth is not None
    pulse = dict(nbar=(4.0, 10.0), delta_pc=(TWO_PI * -1e6, TWO_PI * -2e6))
    e = dataclasses.replace(
        e,
        switching=Switching(rise_time=0.2e-6),
        tolerance=1e-7,
        detector=dataclasses.replace(
            e.detector,
            quadratures=("homodyne",),
            model="input_output",
            angle=np.pi / 3,
            technical=Technical(
                lo_offset=TWO_PI * 3e3, phase_drift=10.0, adc_range=100e-9, adc_bits=12
            ),
        ),
        stages=tuple(dataclasses.replace(s, **pulse) if s.name == "pulse" else s for s in e.stages),
    )

    def imperfect(made: Ensemble, sequence: Sequence, clipped: int) -> Ensemble:
        shots = dataclasses.replace(
            made.shots,
            record=made.shots.record[:, :, :1],
            clipped=jnp.zeros(e.shots, int).at[3].set(clipped),
            resolution=dataclasses.replace(
                made.shots.resolution,
                ramp_substeps=7,
                switch_substeps=21,
                settling=3,
                tolerance=e.tolerance,
                ramp_error=3.2e-8,
            ),
        )
        return dataclasses.replace(made, sequence=sequence, shots=shots)

    return dataclasses.replace(
        results,
        experiment=e,
        main=imperfect(results.main, build_sequence(e), 7),
        reference=imperfect(calm, build_sequence(e, coupled=False), 2),
        growth=dataclasses.replace(results.growth, clipped=np.ones(3, int)),
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

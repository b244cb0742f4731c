"""The signal chain on records of an experiment, laboratory or simulated: <D^2>, gain, moments.

What `jaxsde run` does to shots in memory, this does to records that are streamed.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxsde.analysis.anomalous import DiffusionFit, fit_diffusion
from jaxsde.analysis.displacement import expected_displacement
from jaxsde.analysis.inversion import invert
from jaxsde.analysis.moments import Moments, moments_of_outputs, true_moments
from jaxsde.engine.resolution import Resolution
from jaxsde.engine.simulate import Shots
from jaxsde.lab.config import dump_experiment, parse_experiment
from jaxsde.lab.experiment import (
    Ensemble,
    Results,
    fit_growth,
    reconstruct,
    ringdown_filters,
)
from jaxsde.lab.guards import exact_resolution
from jaxsde.lab.record_stream import Streamed, stream
from jaxsde.lab.recordings import Losses, RecordError
from jaxsde.lab.records import Source
from jaxsde.lab.spec import Experiment, build_sequence
from jaxsde.lab.table import Row, table_rows
from jaxsde.physics.sequence import Sequence

# A linear growth is fitted from here after a stage begins, clear of the filters' reach, to before
# its end.
CLEAR = 25e-6  # s

Tell = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chain:
    """Hold the results of an experiment's records, and what was measured beside them.

    losses: of each record.  diffusion: B_s, where there is no pulse.  shot_noise: mean over the
    record of the empty cavity's <D^2> over what the filters' bandwidth gives, and its error.
    """

    results: Results
    losses: dict[str, Losses]
    diffusion: DiffusionFit | None
    shot_noise: tuple[float, float] | None


def analyse_chain(
    experiment: Experiment,
    source: Source,
    *,
    reference: Source | None = None,
    empty: Source | None = None,
    keep_clipped: bool = False,
    tell: Tell | None = None,
) -> Chain:
    """Take records of an experiment through the whole chain.

    reference: records without coupling.  empty: records of an empty cavity, whose noise is
    subtracted in place of what the filters' bandwidth and S_SN give.
    Raises RecordError for records that leave too few shots.
    """
    say = tell or (lambda task, done, total: None)
    sequence = build_sequence(experiment)
    resolution = exact_resolution(experiment, sequence)
    bank = ringdown_filters(experiment, sequence)

    def streamed(name: str, records: Source, over: Sequence, filters) -> Streamed:
        return stream(
            records,
            experiment,
            over,
            filters,
            keep_clipped=keep_clipped,
            tell=lambda done, total: say(name, done, total),
        )

    made = streamed("records", source, sequence, bank)
    losses = {"records": made.losses}
    dark = None
    if empty is not None:
        dark = streamed("empty cavity", empty, sequence, bank)
        losses["empty cavity"] = dark.losses
        made = _without(made, dark)
    calm = None
    if reference is not None:
        over = build_sequence(experiment, coupled=False)
        found = streamed("reference", reference, over, None)
        losses["reference"] = found.losses
        calm = _ensemble(experiment, over, found, exact_resolution(experiment, over))
    main = _ensemble(experiment, sequence, made, resolution)
    outputs = np.zeros((0, 4)) if made.outputs is None else made.outputs
    if len(outputs) < 2:
        raise RecordError(
            f"{source.path}: wanted at least 2 shots without a gap in "
            f"{experiment.analysis.ringdown!r}, got {len(outputs)}"
        )
    inversion = invert(
        experiment.params, sequence, experiment.detector, bank, resolution=resolution
    )
    moments = moments_of_outputs(
        jnp.asarray(outputs),
        inversion,
        shot_noise=None if dark is None else jnp.asarray(dark.outputs),
    )
    results = _results(experiment, main, calm, bank, moments, resolution, made.used)
    return Chain(
        results=results,
        losses=losses,
        diffusion=_diffusion(experiment, main),
        shot_noise=None if dark is None else _agreement(dark),
    )


def _results(experiment, main, calm, bank, moments: Moments, resolution, used: int) -> Results:
    sequence = main.sequence
    # One of the fit's starts may run away on poor data; the best of them is kept.
    with np.errstate(all="ignore"):
        growth = fit_growth(experiment, main, [])
    if growth is not None:
        growth = dataclasses.replace(growth, shots=used)
    return Results(
        experiment=experiment,
        main=main,
        reference=calm,
        bank=bank,
        moments=moments,
        C_theory=np.asarray(
            true_moments(experiment.params, sequence, bank.stage, resolution=resolution)
        ),
        beat=reconstruct(experiment, sequence, moments, resolution),
        growth=growth,
    )


def _ensemble(
    experiment: Experiment, sequence: Sequence, made: Streamed, resolution: Resolution
) -> Ensemble:
    """Return an ensemble whose shots are those kept to be shown; what they hid is not known."""
    n = len(made.shown)
    unknown = jnp.full(n, jnp.nan)
    coupled = sequence == build_sequence(experiment)
    return Ensemble(
        sequence=sequence,
        shots=Shots(
            record=jnp.asarray(made.shown),
            time=sequence.time,
            stage=sequence.stage_index,
            omega_m=unknown,
            omega_s=unknown,
            states=jnp.full((n, len(sequence.stages), 6), jnp.nan),
            status=jnp.zeros(n, int),
            clipped=jnp.zeros(n, int),
            backend="records",
            method=experiment.method,
            resolution=resolution,
        ),
        displacement=made.displacement,
        expected=_expected(dump_experiment(experiment), coupled, resolution),
    )


@functools.lru_cache(maxsize=16)
def _expected(text: str, coupled: bool, resolution: Resolution) -> np.ndarray:
    """Return the exact <D^2> of an experiment, once for all the records that follow it."""
    experiment = parse_experiment(text, "experiment")
    expected = expected_displacement(
        experiment.params,
        build_sequence(experiment, coupled=coupled),
        experiment.detector,
        band=experiment.analysis.band,
        cycle_average=experiment.analysis.cycle_average,
        resolution=resolution,
    )
    return np.asarray(expected)


def _without(made: Streamed, dark: Streamed) -> Streamed:
    """Return <D^2> with the empty cavity's noise subtracted in place of the bandwidth's."""
    d, e = made.displacement, dark.displacement
    displacement = dataclasses.replace(
        d,
        mean=d.mean - e.mean,
        each=d.each - e.mean[None],
        stderr=jnp.hypot(d.stderr, e.stderr),
        noise_bias=d.noise_bias + e.mean,
    )
    return dataclasses.replace(made, displacement=displacement)


def _agreement(dark: Streamed) -> tuple[float, float]:
    """Return (empty cavity's noise)/(bandwidth's) over the record, and its standard error."""
    d = dark.displacement
    bias = np.asarray(d.noise_bias)
    each = 1 + np.nanmean(np.asarray(d.each) / bias, axis=1)
    return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))


def _diffusion(experiment: Experiment, main: Ensemble) -> DiffusionFit | None:
    """Return B_s from the growth during the measurement, if no pulse disturbs it."""
    spec, sequence = experiment.analysis, main.sequence
    if spec.pulse is not None or main.displacement.each.shape[0] < 3:
        return None
    span, dt = sequence.span(spec.ringdown), sequence.sample_interval
    start, stop = span.start * dt + CLEAR, span.stop * dt - CLEAR
    if stop - start < CLEAR:
        return None
    return fit_diffusion(
        main.displacement,
        experiment.params,
        sequence,
        experiment.detector,
        start=start,
        stop=stop,
        band=spec.band,
        cycle_average=spec.cycle_average,
    )


def chain_rows(chain: Chain) -> list[Row]:
    """Return the rows of a chain: those of `jaxsde run`, then B_s and the noise of the cavity."""
    rows = table_rows(chain.results)
    d = chain.diffusion
    if d is not None:
        rows.append(
            Row(
                name="B_s",
                label="B_s",
                value=d.B_s,
                error=d.B_s_stderr,
                theory=float(np.asarray(chain.results.experiment.params.B_s)),
                unit="quanta/s",
                note=f"growth of <D²> {d.slope:.3g} ± {d.slope_stderr:.2g} (rad/s)²/s, of it "
                f"{d.without:.3g} without B_s (measurement back-action, motion settling)",
            )
        )
    if chain.shot_noise is not None:
        value, error = chain.shot_noise
        rows.append(
            Row(
                name="shot_noise",
                label="shot noise, empty cavity",
                value=value,
                error=error,
                theory=1.0,
                unit="1",
                note="over that of the filters' bandwidth and S_SN; the former is subtracted",
            )
        )
    return rows

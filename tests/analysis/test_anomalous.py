"""B_s from the growth of <D^2>: against the truth of simulated shots, and exact theory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde as js
from jaxsde.analysis.anomalous import fit_diffusion, line_slope

DT, B_S = 1e-6, 2e5
PARAMS = js.Params.kohler2018(omega_s=2 * np.pi * 110e3, B_s=B_S)
STAGES = (
    js.Stage(name="preparation", n_samples=30, controls=js.Controls(nbar=1.0, B_s=0.0)),
    js.Stage(name="measurement", n_samples=200, controls=js.Controls(nbar=4.0)),
)
SEQUENCE = js.Sequence(stages=STAGES, sample_interval=DT)
DETECTOR = js.Detector(sample_interval=DT)
WINDOW = dict(start=60e-6, stop=200e-6)


@pytest.fixture(scope="module")
def traces():
    shots = js.simulate(jax.random.key(2), PARAMS, SEQUENCE, DETECTOR, 12_000)
    return js.mean_squared_displacement(shots.record, PARAMS, SEQUENCE, DETECTOR)


def part(traces, shots):
    each = traces.each[shots]
    error = jnp.std(each, axis=0, ddof=1) / np.sqrt(len(each))
    return dataclasses.replace(traces, each=each, mean=each.mean(axis=0), stderr=error)


def test_b_s_is_unbiased_and_its_error_covers(traces):
    """All shots: within 3.5 errors of 6 %; 30 sets of 400: rms z within 3.5/sqrt(60) of 1."""
    whole = fit_diffusion(traces, PARAMS, SEQUENCE, DETECTOR, **WINDOW)
    assert whole.B_s_stderr < 0.08 * B_S
    assert abs(whole.B_s - B_S) < 3.5 * whole.B_s_stderr
    assert whole.B_s == pytest.approx((whole.slope - whole.without) / whole.per_quantum)
    inside = (np.asarray(traces.time) >= WINDOW["start"]) & (traces.time <= WINDOW["stop"])
    z = []
    for k in range(30):
        some = part(traces, slice(400 * k, 400 * k + 400))
        slope = line_slope(traces.time[inside], some.each[:, inside])
        error = float(slope.std(ddof=1)) / 20 / whole.per_quantum
        z.append(((float(slope.mean()) - whole.without) / whole.per_quantum - B_S) / error)
    assert abs(np.sqrt(np.mean(np.square(z))) - 1) < 3.5 / np.sqrt(60)


def test_the_exact_expectation_gives_b_s_back(traces):
    """Whatever the B_s that the parameters hold: only the data's counts."""
    exact = js.expected_displacement(PARAMS, SEQUENCE, DETECTOR)
    made = dataclasses.replace(part(traces, slice(10)), mean=exact)
    other = dataclasses.replace(PARAMS, B_s=0.0)
    fit = fit_diffusion(made, other, SEQUENCE, DETECTOR, **WINDOW)
    assert fit.B_s == pytest.approx(B_S, rel=1e-6)
    # What filters leave of 2 g_s^2: 110 kHz lies within their band.
    assert fit.per_quantum == pytest.approx(2 * float(PARAMS.g_s) ** 2, rel=0.1)


def test_refusals(traces):
    some = part(traces, slice(10))
    with pytest.raises(ValueError, match=r"^window 60 to 61 us: wanted at least 4 samples and 3"):
        fit_diffusion(some, PARAMS, SEQUENCE, DETECTOR, start=60e-6, stop=61e-6)
    held = tuple(
        dataclasses.replace(s, controls=dataclasses.replace(s.controls, B_s=0.0)) for s in STAGES
    )
    sequence = dataclasses.replace(SEQUENCE, stages=held)
    with pytest.raises(ValueError, match=r"^B_s: wanted a window in which <D\^2> grows with it"):
        fit_diffusion(some, PARAMS, sequence, DETECTOR, **WINDOW)

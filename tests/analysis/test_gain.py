import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
import oracles
from jaxsde.analysis.displacement import MeanSquaredDisplacement
from jaxsde.analysis.gain import _growth_slopes, fit_gain, growth

TIME = (np.arange(200) + 0.5) * 0.5e-6
WINDOW = dict(start=0.0, stop=100e-6)


def trace_of(each, time=TIME):
    """Return the trace of shots (shots, samples)."""
    return MeanSquaredDisplacement(
        time=time,
        mean=jnp.asarray(each.mean(axis=0)),
        stderr=jnp.asarray(each.std(axis=0, ddof=1) / np.sqrt(len(each))),
        each=jnp.asarray(each),
        noise_bias=jnp.zeros(len(time)),
    )


def synthetic(rng, d_0, gain, diffusion, shots=200):
    """Return shots whose power fluctuates as that of noise in a band: correlated over 20 us."""
    mean = oracles.growth(TIME, d_0, gain, diffusion)
    decay = np.exp(-0.5e-6 / 20e-6)
    white = rng.normal(size=(shots, len(TIME), 2))
    field = np.empty_like(white)
    field[:, 0] = white[:, 0]
    for k in range(1, len(TIME)):
        field[:, k] = decay * field[:, k - 1] + np.sqrt(1 - decay**2) * white[:, k]
    return trace_of(mean * (field**2).mean(axis=2))


def noiseless(d_0, gain, diffusion, time=TIME):
    """Return a trace without error of its mean, and an even weight."""
    mean = oracles.growth(time, d_0, gain, diffusion)
    ripple = 0.01 * mean.mean() * np.array([[1.0], [-1.0]])
    return trace_of(mean + ripple, time)


@pytest.mark.parametrize("gain", [-3e4, -1.0, 0.0, 1e-3, 5.0, 4e4])
def test_growth_solves_s12_at_every_gain(gain):
    t = np.linspace(0, 100e-6, 30)
    expected = oracles.growth(t, 2.0, gain if abs(gain) >= 1 else 0.0, 3e4)
    np.testing.assert_allclose(growth(t, 2.0, gain, 3e4), expected, rtol=1e-6)


@pytest.mark.parametrize("gain", [0.0, 1.0, 200.0, 4e4])
def test_growth_has_the_slopes_that_differences_show(gain):
    x = np.array([2.0, gain, 3e4])
    slopes = _growth_slopes(TIME, *x)
    for i, step in enumerate((1e-3, 1.0, 10.0)):
        move = step * np.eye(3)[i]
        difference = (growth(TIME, *(x + move)) - growth(TIME, *(x - move))) / (2 * step)
        np.testing.assert_allclose(slopes[:, i], difference, rtol=1e-6)


@pytest.mark.parametrize(
    "truth", [(3.0, 4e4, 1e5), (3.0, 1e4, 0.0), (0.5, 2e4, 3e5), (5.0, 300.0, 2e5)]
)
def test_truth_is_recovered_without_noise(truth):
    fit = fit_gain([noiseless(*truth)], **WINDOW)
    assert fit.converged
    assert fit.D_0 == pytest.approx(truth[0], rel=1e-4)
    assert fit.gain[0] == pytest.approx(truth[1], rel=1e-3, abs=2.0)
    assert fit.diffusion[0] == pytest.approx(truth[2], rel=1e-3, abs=50.0)
    assert fit.gain_sys[0] < 1e-3 * truth[1] + 2.0
    assert fit.gain_error[0] == np.hypot(fit.gain_stat[0], fit.gain_sys[0])
    assert fit.n_points == 200
    assert fit.chi2 == pytest.approx(0.0, abs=1e-4)


def test_origin_is_where_the_growth_begins():
    shifted = noiseless(3.0, 3e4, 1e5)
    late = trace_of(np.asarray(shifted.each), TIME + 70e-6)
    fit = fit_gain([late], start=80e-6, stop=165e-6, origin=70e-6)
    assert fit.D_0 == pytest.approx(3.0, rel=1e-3)
    assert fit.gain[0] == pytest.approx(3e4, rel=1e-3)
    from_start = fit_gain([late], start=80e-6, stop=165e-6)
    assert from_start.D_0 == pytest.approx(float(oracles.growth(10e-6, 3.0, 3e4, 1e5)), rel=1e-3)


def test_traces_share_their_start():
    """Two gains, one D_0; each trace may have a window of its own."""
    traces = [noiseless(3.0, 4e4, 1e5), noiseless(3.0, 0.8e4, 2e5)]
    fit = fit_gain(traces, start=[0.0, 0.0], stop=[60e-6, 100e-6])
    assert fit.D_0 == pytest.approx(3.0, rel=1e-4)
    np.testing.assert_allclose(fit.gain, [4e4, 0.8e4], rtol=2e-3)
    np.testing.assert_allclose(fit.diffusion, [1e5, 2e5], rtol=2e-3)
    # Where they do not, the common start is a compromise that fits neither.
    apart = fit_gain([noiseless(3.0, 4e4, 1e5), noiseless(6.0, 0.8e4, 2e5)], **WINDOW)
    assert 3.0 < apart.D_0 < 6.0
    assert apart.chi2 > 100


def test_errors_cover_the_truth():
    rng = np.random.default_rng(3)
    fits = [fit_gain([synthetic(rng, 3.0, 3e4, 2e5)], **WINDOW) for _ in range(150)]
    inside = [f for f in fits if not f.at_bound.any() and f.D_0 > 1e-6]
    assert len(inside) > 140
    for name, scores in {
        "gain": [(f.gain[0] - 3e4) / f.gain_stat[0] for f in inside],
        "D_0": [(f.D_0 - 3.0) / f.D_0_stat for f in inside],
        "diffusion": [(f.diffusion[0] - 2e5) / f.diffusion_stat[0] for f in inside],
    }.items():
        scores = np.array(scores)
        assert 0.8 < scores.std() < 1.25, (name, scores.std())
        assert abs(scores.mean()) < 0.4, (name, scores.mean())


def test_errors_from_independent_samples_would_be_far_too_small():
    """What the scatter of whole shots is for: neighbouring samples say the same."""
    trace = synthetic(np.random.default_rng(4), 3.0, 3e4, 2e5)
    fit = fit_gain([trace], **WINDOW)
    slopes = _growth_slopes(TIME, fit.D_0, fit.gain[0], fit.diffusion[0])
    weighted = slopes / np.asarray(trace.stderr)[:, None]
    naive = np.sqrt(np.diag(np.linalg.inv(weighted.T @ weighted)))
    assert fit.gain_stat[0] > 2 * naive[1]


def test_a_diffusion_on_its_bound_is_reported():
    """A growth that starts late wants a negative diffusion, which there is not."""
    mean = 2.0 * np.exp(3e4 * TIME) - 0.5 * TIME / 100e-6
    each = mean + 0.01 * np.array([[1.0], [-1.0]])
    fit = fit_gain([trace_of(each)], **WINDOW)
    np.testing.assert_array_equal(fit.at_bound, [True])
    assert fit.diffusion[0] == pytest.approx(0.0, abs=1.0)
    assert fit.diffusion_stat[0] == 0
    free = fit_gain([noiseless(3.0, 3e4, 1e5)], **WINDOW)
    np.testing.assert_array_equal(free.at_bound, [False])


@pytest.mark.slow
def test_a_pulse_of_100_us_is_within_errors_of_the_fit_of_its_expectation():
    sequence = jaxsde.Sequence.kohler2018(t_c=100e-6, t_preparation=20e-6, t_ringdown=40e-6)
    params, detector = jaxsde.Params.kohler2018(), jaxsde.Detector()
    shots = jaxsde.simulate(jax.random.key(2), params, sequence, detector, 4096, dtype=jnp.float32)
    trace = jaxsde.mean_squared_displacement(shots.record, params, sequence, detector)
    exact = np.asarray(jaxsde.expected_displacement(params, sequence, detector))
    assert np.abs((np.asarray(trace.mean) - exact) / np.asarray(trace.stderr)).max() < 4
    pulse = sequence.span("pulse").start * sequence.sample_interval
    window = dict(start=pulse + 20e-6, stop=pulse + 85e-6, origin=pulse)
    fit = fit_gain([trace], **window)
    each = np.asarray(trace.each)
    expected = fit_gain([trace_of(each - each.mean(axis=0) + exact, trace.time)], **window)
    assert fit.converged and expected.converged
    assert abs(fit.gain[0] - expected.gain[0]) < 3 * fit.gain_stat[0]
    assert abs(fit.D_0 - expected.D_0) < 3 * fit.D_0_stat
    # Of the size of the steady gain, 4.12e4 /s; transients and diffusion share the growth.
    assert 1e4 < fit.gain[0] < 8e4


@pytest.mark.parametrize(
    "window, got",
    [
        (dict(start=0.0, stop=1e-6), "2 samples and 2 shots"),
        (dict(start=200e-6, stop=300e-6), "0 samples and 2 shots"),
    ],
)
def test_a_window_without_samples_is_refused(window, got):
    with pytest.raises(ValueError, match=rf"^fit window .*wanted at least 4 samples .*got {got}$"):
        fit_gain([noiseless(3.0, 3e4, 1e5)], **window)


def test_fit_gain_refuses_what_cannot_be_fitted():
    with pytest.raises(ValueError, match=r"^traces: wanted at least one"):
        fit_gain([], **WINDOW)
    one = trace_of(np.repeat(np.asarray(noiseless(3.0, 3e4, 1e5).mean)[None], 2, axis=0))
    single = MeanSquaredDisplacement(
        time=TIME, mean=one.mean, stderr=one.stderr, each=one.each[:1], noise_bias=one.noise_bias
    )
    with pytest.raises(ValueError, match=r"got 200 samples and 1 shots$"):
        fit_gain([single], **WINDOW)
    with pytest.raises(ValueError, match=r"^mean squared displacement: wanted finite numbers"):
        fit_gain([trace_of(np.full((3, 200), np.nan))], **WINDOW)

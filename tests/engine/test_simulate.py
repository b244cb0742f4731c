import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembles
import jaxsde
import oracles
from ensembles import DETECTOR, PARAMS, SEQUENCE, displacement_covariance, z_of_products
from jaxsde.analysis.matched import apply_filters, matched_filter
from jaxsde.engine.detect import noise_variance, quadrature_gains
from jaxsde.engine.noise import seed_words
from jaxsde.engine.plan import segments, transitions
from jaxsde.engine.propagate import repeat
from jaxsde.engine.resolution import METHODS, choose_resolution
from jaxsde.engine.scan import advance
from jaxsde.physics.model import initial_covariance
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Sequence, Stage

KEY = jax.random.key(11)
DT = 0.5e-6
PULSE = Controls(nbar=10.0, delta_pc=TWO_PI * -2.0e6, omega_m=TWO_PI * 125.5e3)
MEASUREMENT = Controls(nbar=4.0)
SHORT = Sequence(
    stages=(
        Stage(name="pulse", n_samples=3, controls=PULSE),
        Stage(name="ringdown", n_samples=9, controls=MEASUREMENT),
    ),
    sample_interval=DT,
)


def short(n_shots=40, key=KEY, **options):
    return jaxsde.simulate(key, PARAMS, SHORT, DETECTOR, n_shots, **options)


# --- moments of 20,000 shots against covariance theory --------------------------------------------


@pytest.fixture(scope="module")
def shots():
    return ensembles.paper()


def test_states_have_the_covariance_of_theory_at_every_stage_end(shots):
    assert (shots.status == 0).all()
    theory = np.asarray(jaxsde.covariance(PARAMS, SEQUENCE))
    states = np.asarray(shots.states, float)
    z = np.array([z_of_products(states[:, s], theory[s]) for s in range(5)])
    assert np.abs(z).max() < 4, z
    means = states.mean(axis=0) / (states.std(axis=0) / np.sqrt(len(states)))
    assert np.abs(means).max() < 4
    # 105 z-values of unit variance: the spread is right too, not only small.
    assert 0.8 < z.std() < 1.2


@pytest.mark.parametrize("wrong", [dict(g_sm=0.0), dict(B_s=2 * PARAMS.B_s), dict(epsilon=1.0)])
def test_states_refuse_a_wrong_theory(shots, wrong):
    theory = jaxsde.covariance(dataclasses.replace(PARAMS, **wrong), SEQUENCE)
    assert np.abs(z_of_products(shots.states[:, -1], theory[-1])).max() > 6


@pytest.fixture(scope="module")
def record_theory():
    """Return the covariance of I and Q at some samples of every stage, (2, samples, samples)."""
    r, _ = displacement_covariance(PARAMS, SEQUENCE, choose_resolution(PARAMS, SEQUENCE))
    gains = np.concatenate(
        [
            np.tile(np.asarray(quadrature_gains(PARAMS, s.controls, DETECTOR)), (s.n_samples, 1))
            for s in SEQUENCE.stages
        ]
    )
    some = np.r_[0:120:40, 118:142:4, 142:262:17, 259:284:3, 284:294, 300:1280:140]
    r = np.asarray(r)[np.ix_(some, some)]
    signal = np.stack([r * np.outer(gains[some, k], gains[some, k]) for k in (0, 1)])
    return some, signal + noise_variance(DETECTOR) * np.eye(len(some))


def test_record_has_the_covariance_of_theory(shots, record_theory):
    some, theory = record_theory
    for k in (0, 1):
        record = np.asarray(shots.record[:, some, k], float)
        z = z_of_products(record, theory[k])
        assert np.abs(z).max() < 4.3, (k, np.abs(z).max())  # 741 of them: 4.3 is 1 in 80
        assert 0.9 < z.std() < 1.1


def test_every_sample_of_the_record_has_the_variance_of_theory(shots):
    r, _ = displacement_covariance(PARAMS, SEQUENCE, choose_resolution(PARAMS, SEQUENCE))
    n = shots.record.shape[0]
    first = 0
    for stage in SEQUENCE.stages:
        span = slice(first, first + stage.n_samples)
        first += stage.n_samples
        gains = np.asarray(quadrature_gains(PARAMS, stage.controls, DETECTOR))
        expected = np.diag(r)[span, None] * gains**2 + noise_variance(DETECTOR)
        squares = np.asarray(shots.record[:, span], float) ** 2
        z = (squares.mean(axis=0) - expected) / (squares.std(axis=0) / np.sqrt(n))
        assert np.abs(z).max() < 4.5, stage.name  # 2,560 of them in all


def test_frequencies_are_normal_and_independent(shots):
    n = shots.omega_m.shape[0]
    m = (np.asarray(shots.omega_m) - PARAMS.omega_m) / PARAMS.sigma_m
    s = (np.asarray(shots.omega_s) - PARAMS.omega_s) / PARAMS.sigma_s
    for x in (m, s):
        assert abs(x.mean()) < 4 / np.sqrt(n)
        assert abs(x.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs(np.mean(m * s)) < 4 / np.sqrt(n)


def test_a_shot_moves_at_its_own_frequency():
    """In the dark, undamped: x turns by omega_m t, and the ideal record is the mean of D."""
    params = dataclasses.replace(PARAMS, gamma_m=0.0, B_s=0.0)
    dark = Controls(nbar=0.0)
    sequence = Sequence(
        stages=(
            Stage(name="a", n_samples=1, controls=dark),
            Stage(name="b", n_samples=5, controls=dark),
        ),
        sample_interval=DT,
    )
    got = jaxsde.simulate(KEY, params, sequence, jaxsde.Detector.ideal(DT), 50)
    x, t = np.asarray(got.states[:, 0]), (np.arange(5) + 0.5) * DT
    d = 0.0
    for g, omega, position, momentum in (
        (params.g_m, np.asarray(got.omega_m), x[:, 0], x[:, 1]),
        (params.g_s, -np.asarray(got.omega_s), x[:, 2], x[:, 3]),  # negative mass
    ):
        phase = omega[:, None] * t
        box = np.sinc(omega * DT / TWO_PI)[:, None]
        d = d + g * box * (position[:, None] * np.cos(phase) + momentum[:, None] * np.sin(phase))
    np.testing.assert_allclose(got.record[:, 1:, 0], d, rtol=1e-9, atol=1e-9 * np.abs(d).max())
    turn = np.asarray(got.omega_m) * 5 * DT
    expected = x[:, 0] * np.cos(turn) + x[:, 1] * np.sin(turn)
    np.testing.assert_allclose(got.states[:, 1, 0], expected, rtol=1e-9, atol=1e-9)


def test_the_ideal_record_has_the_covariance_of_the_displacement():
    got = jaxsde.simulate(KEY, PARAMS, SHORT, jaxsde.Detector.ideal(DT), 20_000)
    theory, _ = displacement_covariance(PARAMS, SHORT, choose_resolution(PARAMS, SHORT))
    z = z_of_products(got.record[..., 0], theory)
    assert np.abs(z).max() < 4


def test_shot_noise_alone_is_white_and_has_half_the_density():
    params = dataclasses.replace(PARAMS, g_m=0.0, g_s=0.0)
    got = jaxsde.simulate(KEY, params, SHORT, DETECTOR, 20_000)
    record = np.asarray(got.record).reshape(20_000, -1) / np.sqrt(DETECTOR.S_SN / (2 * DT))
    z = z_of_products(record, np.eye(24))
    assert np.abs(z).max() < 4
    variance = record.var()
    assert abs(variance - 1) < 4 * np.sqrt(2 / record.size)


# --- what decides a number ------------------------------------------------------------------------


SHOT_FIELDS = ("record", "states", "omega_m", "omega_s", "status", "clipped")


def _first(shots, n):
    return dataclasses.replace(shots, **{name: getattr(shots, name)[:n] for name in SHOT_FIELDS})


def equal(one, two):
    for name in SHOT_FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("backend, ends", [("scan", [32, 40]), ("fused", [13, 26, 39, 40])])
def test_blocks_do_not_change_a_shot(dtype, backend, ends):
    done = []
    whole = short(40, dtype=dtype, backend=backend)
    parts = short(40, block_shots=13, on_block=done.append, dtype=dtype, backend=backend)
    equal(whole, parts)
    assert done == ends
    equal(_first(short(700, block_shots=700, dtype=dtype, backend=backend), 40), whole)


def test_an_ensemble_can_be_made_in_parts():
    whole = short(40)
    first, second = short(13), short(27, first_shot=13)
    for name in SHOT_FIELDS:
        joined = np.concatenate([getattr(first, name), getattr(second, name)])
        np.testing.assert_array_equal(getattr(whole, name), joined, err_msg=name)
    last = short(1, first_shot=2**32 - 1)
    assert np.isfinite(last.record).all()


def test_a_key_decides_everything():
    one, again, other = short(), short(), short(key=jax.random.key(12))
    equal(one, again)
    for name in ("record", "states", "omega_m", "omega_s"):
        assert (np.asarray(getattr(one, name)) != np.asarray(getattr(other, name))).all(), name


def test_float32_trajectories_are_float64_ones_rounded():
    wide, narrow = short(), short(dtype=jnp.float32)
    assert (wide.record.dtype, narrow.record.dtype) == (jnp.float64, jnp.float32)
    for name in ("record", "states"):
        a, b = (np.asarray(getattr(s, name), float) for s in (wide, narrow))
        assert np.abs(a - b).max() < 1e-5 * np.abs(a).max(), name
    np.testing.assert_array_equal(wide.omega_m, narrow.omega_m)


def test_shots_tell_what_ran():
    got = short(3, backend="scan", method="euler_maruyama", substeps=100)
    assert (got.backend, got.method, got.resolution.substeps) == ("scan", "euler_maruyama", 100)
    assert got.record.shape == (3, 12, 2)
    assert got.states.shape == (3, 2, 6)
    np.testing.assert_allclose(got.time, (np.arange(12) + 0.5) * DT)
    np.testing.assert_array_equal(got.stage, [0] * 3 + [1] * 9)


def test_filters_inside_the_loop_are_filters_of_the_record():
    got = short()
    bank = matched_filter(PARAMS, SHORT, DETECTOR)
    q, states, _, _ = advance(
        seed_words(KEY), PARAMS, SHORT, DETECTOR, jnp.arange(40, dtype=jnp.uint32),
        got.resolution, jnp.dtype(float), weights=bank.weights,
    )  # fmt: skip
    expected = np.asarray(apply_filters(got.record, bank))
    np.testing.assert_allclose(q.T, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_allclose(jnp.transpose(states, (2, 0, 1)), got.states, rtol=1e-9, atol=1e-12)


def test_outputs_alone_are_those_of_the_shots():
    bank = matched_filter(PARAMS, SHORT, DETECTOR)
    out, ran = jaxsde.simulate_outputs(
        KEY, PARAMS, SHORT, DETECTOR, 40,
        asked=jaxsde.Asked(record=False, displacement=True), weights=bank.weights,
    )  # fmt: skip
    whole = short()
    assert ran.name == whole.backend == "fused" and out.record.size == 0
    np.testing.assert_array_equal(out.states, whole.states)
    expected = np.asarray(apply_filters(whole.record, bank))
    np.testing.assert_allclose(out.filters, expected, atol=1e-12 * np.abs(expected).max())
    later, _ = jaxsde.simulate_outputs(
        KEY, PARAMS, SHORT, DETECTOR, 3, asked=jaxsde.Asked(), first_shot=37
    )
    np.testing.assert_array_equal(later.record, whole.record[37:])
    with pytest.raises(ValueError, match=r"^weights: wanted shape \(filters, 12, 2\)"):
        jaxsde.simulate_outputs(
            KEY, PARAMS, SHORT, DETECTOR, 2, asked=jaxsde.Asked(), weights=jnp.ones((1, 3, 2))
        )


# --- the heating of Euler-Maruyama ----------------------------------------------------------------

RINGDOWN = Sequence(
    stages=(Stage(name="ringdown", n_samples=400, controls=MEASUREMENT),), sample_interval=DT
)
QUIET = dataclasses.replace(PARAMS, sigma_m=0.0, sigma_s=0.0)


def spin_after_200_us(method, substeps=1):
    """Return <b^dag b> after 200 us of measurement, from the state that the 60 us pulse leaves."""
    pulse = Sequence(
        stages=(Stage(name="pulse", n_samples=120, controls=PULSE),), sample_interval=DT
    )
    p = np.asarray(jaxsde.covariance(dataclasses.replace(QUIET, B_s=0.0), pulse))[0]
    # The heating in per cent depends on the diffusion, which the published numbers leave open:
    # this one gives all four.
    params = dataclasses.replace(QUIET, B_s=2.3e4)
    resolution = choose_resolution(params, RINGDOWN, method=method, substeps=substeps)
    step = transitions(
        params, segments(params, RINGDOWN, resolution)[0], jnp.zeros((1, 2)), DT, resolution
    )
    many = repeat(step, 400)
    a, q = np.asarray(many.A)[0, :6, :6], np.asarray(many.Q)[0, :6, :6]
    return oracles.two_modes(a @ p @ a.T + q)[1]


def test_euler_maruyama_heats_the_spin_by_omega_squared_dt():
    """The numbers of docs/accuracy.md, from the Transitions that move the shots."""
    exact = spin_after_200_us("exact")
    excess = [spin_after_200_us("euler_maruyama", n) / exact - 1 for n in (500, 250, 100, 50)]
    np.testing.assert_allclose(excess, [0.10, 0.22, 0.65, 1.77], rtol=0.05)
    assert abs(spin_after_200_us("interaction_euler", 50) / exact - 1) < 0.01


@pytest.mark.parametrize("method", METHODS)
def test_shots_heat_in_the_laboratory_frame_alone(method):
    n = 4000
    params = dataclasses.replace(PARAMS, n_m0=10.0, n_s0=10.0)
    substeps = 1 if method == "exact" else 50  # 10 ns
    got = jaxsde.simulate(
        KEY, params, RINGDOWN, DETECTOR, n, method=method, substeps=substeps, dtype=jnp.float32
    )
    spin = np.asarray(got.states, float)[:, -1, 2:4]
    each = (spin**2).sum(axis=1) / 4 - 0.5
    own, exact = (
        oracles.two_modes(jaxsde.covariance(params, RINGDOWN, resolution=r)[0])[1]
        for r in (got.resolution, choose_resolution(params, RINGDOWN))
    )
    error = each.std() / np.sqrt(n)
    assert abs(each.mean() - own) < 4 * error
    z = (each.mean() - exact) / error
    if method == "euler_maruyama":
        assert z > 20
    else:
        assert abs(z) < 4


# --- what goes wrong ------------------------------------------------------------------------------


def test_overflow_is_told_by_the_status_and_raises_nothing():
    """A pulse of 6 ms grows by e^{120}: beyond float32, not beyond float64."""
    pulse = Stage(name="pulse", n_samples=3000, controls=PULSE)
    sequence = Sequence(stages=(pulse,), sample_interval=2e-6)
    detector = jaxsde.Detector(sample_interval=2e-6)
    narrow, wide = (
        jaxsde.simulate(KEY, PARAMS, sequence, detector, 2, dtype=t)
        for t in (jnp.float32, jnp.float64)
    )
    np.testing.assert_array_equal(narrow.status, 1)
    np.testing.assert_array_equal(wide.status, 0)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(n_shots=0), r"^n_shots: wanted an integer of at least 1, got 0$"),
        (dict(first_shot=-1), r"^first_shot: wanted an integer of at least 0, got -1$"),
        (dict(block_shots=0), r"^block_shots: wanted an integer of at least 1, got 0$"),
        (dict(first_shot=2**32 - 1, n_shots=2), r"^n_shots: wanted shot indices below 2\^32"),
        (dict(backend="gpu"), r"^backend: wanted one of auto, scan, fused, got 'gpu'$"),
        (
            dict(method="milstein"),
            r"^method: wanted one of exact, interaction_euler, .*'milstein'$",
        ),
        (dict(substeps=2), r"^substeps: the exact method has no steps to choose"),
        (dict(dtype=jnp.int32), r"^dtype: wanted float32 or float64, got int32$"),
        (dict(dtype=jnp.bfloat16), r"^dtype: wanted float32 or float64, got bfloat16$"),
    ],
)
def test_simulate_refuses(options, message):
    options = dict(n_shots=1) | options
    with pytest.raises(ValueError, match=message):
        jaxsde.simulate(KEY, PARAMS, SHORT, DETECTOR, **options)


def test_simulate_refuses_what_it_is_given():
    other = dataclasses.replace(DETECTOR, sample_interval=1e-6)
    with pytest.raises(
        ValueError, match=r"^detector\.sample_interval: wanted the sequence's 5e-07"
    ):
        jaxsde.simulate(KEY, PARAMS, SHORT, other, 1)
    for params, message in (
        (Params.kohler2018(g_m=float("nan")), r"^params\.g_m: wanted a finite number, got nan$"),
        (Params.kohler2018(kappa=-1.0), r"^params\.kappa: wanted a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxsde.simulate(KEY, params, SHORT, DETECTOR, 1)
    with pytest.raises(ValueError, match=r"^detector\.efficiency: "):
        jaxsde.simulate(KEY, PARAMS, SHORT, dataclasses.replace(DETECTOR, efficiency=2.0), 1)
    with pytest.raises(ValueError, match=r"^sequence\.stages: "):
        jaxsde.simulate(KEY, PARAMS, dataclasses.replace(SHORT, stages=()), DETECTOR, 1)


def test_float64_trajectories_need_x64():
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match=r"^dtype: float64 needs jax\.config\.update"):
            short(1, dtype=jnp.float64)
        with pytest.warns(UserWarning, match=r"x64 mode is off: propagators .* in float32"):
            assert short(1).record.dtype == jnp.float32


def test_without_jitter_every_shot_has_the_same_frequencies():
    got = jaxsde.simulate(KEY, QUIET, SHORT, DETECTOR, 4)
    np.testing.assert_array_equal(got.omega_m, [QUIET.omega_m] * 4)
    np.testing.assert_array_equal(got.omega_s, [QUIET.omega_s] * 4)
    assert got.resolution.jitter_nodes == 1


def test_initial_states_have_the_covariance_that_params_give():
    """One sample in the dark turns and damps the start; theory does the same."""
    params = dataclasses.replace(QUIET, n_m0=3.0, n_s0=7.0)
    stage = Stage(name="dark", n_samples=1, controls=Controls(nbar=0.0))
    sequence = Sequence(stages=(stage,), sample_interval=1e-9)
    detector = jaxsde.Detector(sample_interval=1e-9)
    got = jaxsde.simulate(KEY, params, sequence, detector, 20_000)
    start = np.asarray(initial_covariance(params))
    np.testing.assert_allclose(np.diag(start), [7, 7, 15, 15, 0.5, 0.5])
    z = z_of_products(got.states[:, 0], np.asarray(jaxsde.covariance(params, sequence))[0])
    assert np.abs(z).max() < 4


def test_aliasing_is_said():
    sequence = Sequence(
        stages=(Stage(name="slow", n_samples=3, controls=MEASUREMENT),), sample_interval=4.5e-6
    )
    detector = jaxsde.Detector(sample_interval=4.5e-6)
    with pytest.warns(UserWarning, match=r"^params\.omega_s: .*would show it at 102\.2"):
        got = jaxsde.simulate(KEY, QUIET, sequence, detector, 2)
    assert np.isfinite(got.record).all()

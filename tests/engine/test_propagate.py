import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
from jaxsde.engine import propagate
from jaxsde.engine.plan import segments, transitions
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.engine.step import Transition
from jaxsde.physics.model import coupling_drift, diffusion, drift, free_drift, measured
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Sequence, Stage

PULSE = Controls(nbar=10.0, delta_pc=TWO_PI * -2.0e6, omega_m=TWO_PI * 125.5e3)
MEASUREMENT = Controls(nbar=4.0)
RAMP = Controls(nbar=4.0, omega_m=(TWO_PI * 125.5e3, TWO_PI * 95e3))
exact = jax.jit(propagate.exact, static_argnums=3)


def wide(m, d, row):
    """Return generator and diffusion of (x, s)."""
    generator = propagate.augment(jnp.asarray(m), jnp.asarray(row)[None])
    return generator, noise_of(d)


def noise_of(d):
    """Return the diffusion of (x, s) for an s without noise of its own."""
    n = len(d)
    return propagate.augment_diffusion(jnp.asarray(d), jnp.zeros((n, 1)), jnp.zeros((1, 1)))


def matrices(params, controls):
    return (
        np.array(f)
        for f in (drift(params, controls), diffusion(params, controls), measured(params))
    )


def doublings(m, h):
    ratio = np.abs(m).sum(1).max() * h / propagate.MAX_NORM
    return max(1, int(np.ceil(np.log2(max(ratio, 1.0)))))


def relative(got, expected):
    """Return the error of a covariance in units of the standard deviations of its variables."""
    s = np.sqrt(np.diag(expected))
    return np.abs((np.asarray(got) - expected) / np.outer(s, s)).max()


# --- exact ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa_h", [0.01, 1.0, 11.0, 34.0, 1000.0])
@pytest.mark.parametrize("controls", [PULSE, MEASUREMENT], ids=["unstable", "delta_pc=0"])
def test_exact_is_the_interval_map_of_its_equations(controls, kappa_h):
    params = Params.kohler2018()
    m, d, row = matrices(params, controls)
    h = kappa_h / params.kappa
    step = exact(*wide(m, d, row), h, doublings(m, h))
    if kappa_h < 100:
        a, q = oracles.interval_map(h, lambda _: m, d, row)
    else:  # whole hundreds of cavity lifetimes: eight maps of one eighth, composed
        a8, q8 = oracles.interval_map(h / 8, lambda _: m, d, row)
        a8 = np.column_stack([a8, np.eye(7)[:, 6]])
        a, q = a8, q8
        for _ in range(7):
            a, q = a8 @ a, a8 @ q @ a8.T + q8
        a = a[:, :6]
    unit = np.append(np.ones(6), np.abs(row).max() * h)
    np.testing.assert_allclose(step.A[:, :6] / unit[:, None], a / unit[:, None], atol=2e-10)
    np.testing.assert_array_equal(step.A[:, 6], np.eye(7)[6])
    assert relative(step.Q, q) < 1e-8


@pytest.mark.parametrize(
    "m, d",
    [
        ([[-0.7, 1.0], [0.0, -0.7]], [[1.0, 0.2], [0.2, 0.5]]),  # defective: one eigenvector
        ([[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]),  # nilpotent, one noise
        ([[-1.0, 50.0], [0.0, -1.1]], [[0.0, 0.0], [0.0, 1.0]]),  # far from normal
        ([[2.0, 0.3], [-0.3, 1.5]], [[1.0, 1.0], [1.0, 1.0]]),  # unstable, rank one
        ([[0.0, 3.0], [-3.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]),  # no noise at all
    ],
    ids=["jordan", "nilpotent", "non-normal", "unstable", "noiseless"],
)
@pytest.mark.parametrize("h", [0.05, 1.0, 6.0])
def test_exact_of_awkward_matrices(m, d, h):
    m, d, row = np.array(m), np.array(d), np.array([1.0, -0.5])
    step = exact(*wide(m, d, row), h, doublings(m, h) + 1)
    a, q = oracles.interval_map(h, lambda _: m, d, row)
    np.testing.assert_allclose(step.A[:, :2], a, rtol=1e-10, atol=1e-11 * np.abs(a).max())
    np.testing.assert_allclose(step.Q, q, rtol=1e-10, atol=1e-11 * np.abs(q).max())


def test_exact_does_not_overflow_where_a_doubled_matrix_would():
    params = Params.kohler2018()
    m, d, row = matrices(params, MEASUREMENT)
    h = 1000 / params.kappa
    step = exact(*wide(m, d, row), h, 20)
    # e^{kappa h} = e^1000; the cavity at the end knows nothing of its start.
    assert np.isfinite(step.Q).all()
    assert np.abs(step.A[:, 4:6]).max() < 1e-1
    assert float(step.Q[4, 4]) == pytest.approx(0.5, rel=1e-6)


def test_the_result_does_not_depend_on_the_number_of_doublings():
    params = Params.kohler2018()
    m, d, row = matrices(params, PULSE)
    few, many = (exact(*wide(m, d, row), 0.5e-6, n) for n in (9, 19))
    scale = np.append(np.ones(6), 0.1)
    np.testing.assert_allclose(many.A / scale[:, None], few.A / scale[:, None], atol=1e-12)
    assert relative(many.Q, np.asarray(few.Q)) < 1e-12


# --- composition ----------------------------------------------------------------------------------


def random_transition(seed, n=4):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n))
    return Transition(A=jnp.asarray(rng.normal(size=(n, n)) / n), Q=jnp.asarray(root @ root.T))


def test_compose_is_first_then_second():
    one, two = random_transition(1), random_transition(2)
    both = propagate.compose(one, two)
    a1, q1, a2, q2 = (np.asarray(v) for v in (one.A, one.Q, two.A, two.Q))
    np.testing.assert_allclose(both.A, a2 @ a1, rtol=1e-14)
    np.testing.assert_allclose(both.Q, a2 @ q1 @ a2.T + q2, rtol=1e-14)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 13, 64])
def test_repeat_is_the_same_step_again_and_again(count):
    step = random_transition(3)
    naive = step
    for _ in range(count - 1):
        naive = propagate.compose(naive, step)
    many = propagate.repeat(step, count)
    np.testing.assert_allclose(many.A, naive.A, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(many.Q, naive.Q, rtol=1e-12)


# --- Euler ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 37])
def test_euler_maruyama_is_what_a_beginner_writes(n):
    m, d, row = matrices(Params.kohler2018(), PULSE)
    generator, noise = (np.asarray(v) for v in wide(m, d, row))
    p0, h = np.diag([3.0, 3.0, 3.0, 3.0, 0.5, 0.5, 0.0]), 1e-9
    step = propagate.repeat(
        propagate.euler_maruyama(jnp.asarray(generator), jnp.asarray(noise), h), n
    )
    got = np.asarray(step.A @ p0 @ step.A.T + step.Q)
    expected = oracles.euler_maruyama_covariance(generator, noise, p0, h, n)
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12 * np.abs(expected).max())


def interaction(params, controls, h, count):
    row = measured(params)
    free = propagate.augment(free_drift(params, controls), row[None])
    coupling = propagate.augment(coupling_drift(params, controls), jnp.zeros((1, 6)))
    noise = noise_of(diffusion(params, controls))
    return propagate.repeat(propagate.interaction_euler(free, coupling, noise, h, 10), count)


def test_interaction_euler_converges_at_first_order():
    params, span = Params.kohler2018(), 0.5e-6
    m, d, row = matrices(params, PULSE)
    reference = exact(*wide(m, d, row), span, 10)
    scale = np.append(np.ones(6), np.abs(row).max() * span)
    steps = (interaction(params, PULSE, span / n, n) for n in (25, 50, 100))
    errors = np.array(
        [
            [
                np.abs((s.A - reference.A) / scale[:, None]).max(),
                relative(s.Q, np.asarray(reference.Q)),
            ]
            for s in steps
        ]
    )
    np.testing.assert_allclose(errors[:-1] / errors[1:], 2.0, rtol=0.06)


def test_only_the_laboratory_frame_gains_energy_from_the_step():
    """Free rotation by Euler's rule grows |x|^2 by 1 + (omega h)^2 a step: at rate omega^2 h."""
    params = Params.kohler2018(g_m=0.0, g_s=0.0, g_sm=0.0, gamma_m=0.0, B_s=0.0)
    h, n = 10e-9, 20_000  # 200 us
    m, d, row = matrices(params, MEASUREMENT)
    rotation = np.asarray(interaction(params, MEASUREMENT, h, n).A)[2:4, 2:4]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(2), atol=1e-9)
    lab = propagate.repeat(propagate.euler_maruyama(*wide(m, d, row), h), n)
    growth = np.asarray(lab.A)[2:4, 2:4] @ np.asarray(lab.A)[2:4, 2:4].T
    expected = (1 + (params.omega_s * h) ** 2) ** n
    assert expected > 3
    np.testing.assert_allclose(growth, expected * np.eye(2), rtol=1e-9, atol=1e-9)


# --- ramps ----------------------------------------------------------------------------------------


def ramp_end(params, n_samples, dt, substeps, method="exact"):
    """Return the covariance after a ramp that starts from two correlated modes, without jitter."""
    stage = Stage(name="ramp", n_samples=n_samples, controls=RAMP)
    resolution = Resolution(method=method, substeps=substeps, ramp_substeps=substeps, doublings=12)
    sequence = Sequence(stages=(stage,), sample_interval=dt)
    (segment,) = segments(params, sequence, resolution)
    steps = transitions(params, segment, jnp.zeros((1, 2)), dt, resolution)
    p = START
    for a, q in zip(
        np.asarray(steps.A)[:, 0, :6, :6], np.asarray(steps.Q)[:, 0, :6, :6], strict=True
    ):
        p = a @ p @ a.T + q
    return p


def correlated_start():
    p = np.diag([21.0, 21.0, 21.0, 21.0, 0.5, 0.5])
    p[0, 3] = p[3, 0] = p[1, 2] = p[2, 1] = -19.0
    return p


START = correlated_start()


def ramp_oracle(params, duration):
    d = np.array(diffusion(params, RAMP))
    first, last = np.array(drift(params, RAMP, 0.0)), np.array(drift(params, RAMP, 1.0))
    return oracles.moment_ode([(duration, lambda f: first + (last - first) * f, d)], START)[0]


def test_ramp_is_accurate_at_the_resolution_that_is_chosen():
    params = Params.kohler2018()
    dt, n = 0.5e-6, 20
    sequence = Sequence(
        stages=(Stage(name="ramp", n_samples=n, controls=RAMP),), sample_interval=dt
    )
    substeps = choose_resolution(params, sequence).ramp_substeps
    expected = ramp_oracle(params, n * dt)
    assert relative(ramp_end(params, n, dt, substeps), expected) < 1e-8


def test_ramp_converges_at_fourth_order():
    params = Params.kohler2018()
    dt, n = 4e-6, 2  # a ramp in 8 us, with samples long enough to see an error
    expected = ramp_oracle(params, n * dt)
    errors = [relative(ramp_end(params, n, dt, k), expected) for k in (16, 32, 64)]
    assert errors[0] < 1e-2
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(orders, 4.0, atol=0.35)


@pytest.mark.parametrize("method", ["interaction_euler", "euler_maruyama"])
def test_ramp_by_euler_converges_at_first_order(method):
    params = Params.kohler2018()
    expected = ramp_oracle(params, 2e-6)
    errors = [relative(ramp_end(params, 4, 0.5e-6, k, method), expected) for k in (500, 1000)]
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.06)


def test_a_standing_stage_is_a_ramp_between_equal_ends():
    params = Params.kohler2018()
    still, moving = (
        Stage(name="s", n_samples=1, controls=dataclasses.replace(PULSE, omega_m=w))
        for w in (PULSE.omega_m, (PULSE.omega_m, PULSE.omega_m))
    )
    for method in ("exact", "interaction_euler", "euler_maruyama"):
        resolution = Resolution(method=method, substeps=30, ramp_substeps=3, doublings=10)
        one, two = (
            transitions(params, segment, jnp.array([[1e3, -2e3]]), 0.5e-6, resolution)
            for s in (still, moving)
            for segment in segments(
                params, Sequence(stages=(s,), sample_interval=0.5e-6), resolution
            )
        )
        np.testing.assert_allclose(two.A[0], one.A, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(two.Q[0], one.Q, rtol=1e-8, atol=1e-15)


# --- gradients ------------------------------------------------------------------------------------

NAMES = (
    "omega_m",
    "omega_s",
    "kappa",
    "g_m",
    "g_s",
    "g_sm",
    "gamma_m",
    "n_bath",
    "B_s",
    "nbar",
    "delta_pc",
)


@jax.jit
def probe(values):
    """Return two numbers that see every element of A and Q of one sample of 0.5 us."""
    fields = dict(zip(NAMES, values, strict=True))
    controls = Controls(nbar=fields.pop("nbar"), delta_pc=fields.pop("delta_pc"))
    params = Params(**fields, epsilon=values[-1] * 0 - 1.0)
    row = measured(params)
    m = propagate.augment(drift(params, controls), row[None])
    d = noise_of(diffusion(params, controls))
    step = propagate.exact(m, d, 0.5e-6, 9)
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 7)))
    scale = jnp.append(jnp.ones(6), 10.0)
    return jnp.stack(
        [
            jnp.sum(weights[0] * step.A / scale[:, None]),
            jnp.sum(weights[1] * step.Q / (scale[:, None] * scale[None])),
        ]
    )


def point(**changes):
    params, values = Params.kohler2018(), []
    for name in NAMES:
        default = {"nbar": 10.0, "delta_pc": TWO_PI * -2e6}.get(name)
        values.append(changes.get(name, getattr(params, name) if default is None else default))
    return np.array(values)


PLACES = {
    "pulse": {},
    "delta_pc=0": dict(delta_pc=0.0),
    "degenerate": dict(omega_m=TWO_PI * 120e3, delta_pc=0.0),
    "B_s=0": dict(B_s=0.0),
    "nothing on": dict(B_s=0.0, nbar=0.0, delta_pc=0.0, n_bath=0.0, gamma_m=0.0, g_sm=0.0),
}


@pytest.mark.parametrize("place", PLACES)
def test_gradients_forward_and_reverse(place):
    x = point(**PLACES[place])
    forward, reverse = (np.asarray(jax.jit(f(probe))(x)) for f in (jax.jacfwd, jax.jacrev))
    assert np.isfinite(forward).all()
    scale = np.abs(point())
    np.testing.assert_allclose(reverse * scale, forward * scale, rtol=1e-9, atol=1e-11)
    if place != "nothing on":  # sqrt(nbar) has no two-sided difference at 0
        for i in range(len(NAMES)):
            step = 1e-5 * scale[i] * np.eye(len(NAMES))[i]
            slope = (probe(x + step) - probe(x - step)) / (2 * step[i])
            np.testing.assert_allclose(
                forward[:, i] * scale[i], slope * scale[i], rtol=2e-5, atol=3e-8, err_msg=NAMES[i]
            )

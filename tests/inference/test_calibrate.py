import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembles
import jaxsde
from ensembles import DETECTOR, PARAMS, SEQUENCE
from jaxsde.analysis.matched import apply_filters, matched_filter
from jaxsde.engine.resolution import choose_resolution
from jaxsde.inference import calibrate as inference
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Sequence, Stage

FREE = ("g_m", "g_s", "B_s")
TRUTH = np.array([PARAMS.g_m, PARAMS.g_s, PARAMS.B_s])
OFF = dataclasses.replace(PARAMS, g_m=1.3 * PARAMS.g_m, g_s=0.7 * PARAMS.g_s, B_s=1.3 * PARAMS.B_s)
calibrate = functools.partial(jaxsde.calibrate, sequence=SEQUENCE, detector=DETECTOR)

SHORT = Sequence(
    stages=(
        Stage(name="ringdown", n_samples=24, controls=Controls(nbar=4.0, omega_m=TWO_PI * 95e3)),
    ),
    sample_interval=0.5e-6,
)
short = functools.partial(jaxsde.calibrate, sequence=SHORT, detector=DETECTOR, windows=1)


def noise_record(shots=40, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(shots, 24, 2)) * 1e-8)


@functools.cache
def by_moments(seed):
    return calibrate(OFF, ensembles.paper(200, seed), FREE)


# --- recovery -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seed", [100, *(pytest.param(s, marks=pytest.mark.slow) for s in (101, 102))]
)
def test_moments_recover_the_truth_from_thirty_per_cent_off(seed):
    fit = by_moments(seed)
    assert fit.converged
    z = (fit.values - TRUTH) / fit.stderr
    assert np.abs(z).max() < 3, z
    # The errors are small enough to tell the truth from the start.
    assert ((fit.start - TRUTH) / fit.stderr)[0] > 3
    np.testing.assert_allclose(fit.start, [OFF.g_m, OFF.g_s, OFF.B_s])
    assert [getattr(fit.params, name) for name in FREE] == pytest.approx(list(fit.values))
    assert fit.params.kappa == PARAMS.kappa
    np.testing.assert_allclose(np.diag(fit.correlation), 1.0)
    assert (np.diff(fit.loss) < 0).all()
    assert (fit.n_shots, fit.n_simulated, fit.free) == (200, 0, FREE)
    np.testing.assert_array_equal(fit.mc_error, 0)
    # The misfit is near its number of degrees of freedom, but for jitter and chance.
    assert fit.misfit_dof == 75
    assert 30 < fit.misfit < 150


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, 101])
def test_pathwise_recovers_the_truth_from_thirty_per_cent_off(seed):
    fit = calibrate(
        OFF, ensembles.paper(200, seed), FREE,
        objective="pathwise", key=jax.random.key(900 + seed), n_simulated=1024,
    )  # fmt: skip
    assert fit.converged
    z = (fit.values - TRUTH) / fit.stderr
    assert np.abs(z).max() < 3, z
    assert fit.n_simulated == 1024
    # The simulation has five times the shots of the data: its own noise adds a fifth.
    share = fit.mc_error**2 / (fit.stderr**2 - fit.mc_error**2)
    np.testing.assert_allclose(share, 200 / 1024, rtol=0.6)
    # Both objectives see the same data.
    apart = np.abs(fit.values - by_moments(seed).values)
    assert (apart < 4 * fit.mc_error).all()


@pytest.mark.slow
def test_quoted_errors_are_the_scatter_of_experiments():
    """Of 12 experiments the scatter is known to 21 %."""
    fits = [by_moments(seed) for seed in range(100, 112)]
    values = np.array([fit.values for fit in fits])
    errors = np.sqrt(np.mean([fit.stderr**2 for fit in fits], axis=0))
    ratio = values.std(axis=0, ddof=1) / errors
    assert ((ratio > 0.5) & (ratio < 1.6)).all(), ratio
    bias = (values.mean(axis=0) - TRUTH) / errors * np.sqrt(len(fits))
    assert np.abs(bias).max() < 4, bias


def test_the_optimum_does_not_depend_on_the_start():
    fit = by_moments(100)
    other = dataclasses.replace(
        PARAMS, g_m=0.75 * PARAMS.g_m, g_s=1.3 * PARAMS.g_s, B_s=0.6 * PARAMS.B_s
    )
    again = calibrate(other, ensembles.paper(200, 100), FREE)
    assert again.converged
    assert np.abs((again.values - fit.values) / fit.stderr).max() < 0.03
    np.testing.assert_allclose(again.stderr, fit.stderr, rtol=0.01)
    np.testing.assert_allclose(again.loss[-1], fit.loss[-1], atol=1e-3)


@pytest.mark.slow
def test_a_wrong_model_shows_in_the_misfit():
    """A bath of 30 quanta for one of 1: no coupling makes up for it."""
    wrong = dataclasses.replace(OFF, n_bath=30.0)
    fit = calibrate(wrong, ensembles.paper(200, 100), FREE)
    assert fit.misfit > by_moments(100).misfit + 30


def test_every_step_is_told():
    told = []
    fit = calibrate(OFF, ensembles.paper(200, 100).record, FREE, on_step=lambda *a: told.append(a))
    np.testing.assert_array_equal(fit.values, by_moments(100).values)
    assert [number for number, _ in told] == list(range(1, len(told) + 1))
    assert told[-1][1] == pytest.approx(fit.loss[-1])
    assert len(fit.path) == len(fit.loss)


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", inference.OBJECTIVES)
def test_the_gradient_is_what_differences_of_the_loss_show(objective):
    record = jaxsde.simulate(jax.random.key(5), PARAMS, SHORT, DETECTOR, 60).record
    bank = matched_filter(PARAMS, SHORT, DETECTOR)
    q = np.asarray(apply_filters(record, bank))
    scale = 1 / np.sqrt(np.mean(q**2, axis=0))
    bank = dataclasses.replace(bank, weights=bank.weights * scale[:, None, None])
    s_data = (q * scale).T @ (q * scale) / 60
    resolution = choose_resolution(PARAMS, SHORT)
    model = (
        inference._exact(PARAMS, SHORT, DETECTOR, bank, FREE, resolution)
        if objective == "moments"
        else inference._pathwise(
            PARAMS, SHORT, DETECTOR, bank, FREE, resolution, jax.random.key(6), 64
        )
    )
    at = np.array([0.1, -0.2, 0.3])
    gradient = inference._evaluate(model, at, s_data).gradient
    for i in range(3):
        move = 1e-4 * np.eye(3)[i]
        high, low = (inference._evaluate(model, at + s * move, s_data).loss for s in (1, -1))
        assert gradient[i] == pytest.approx((high - low) / 2e-4, rel=1e-4, abs=1e-8)


def test_the_loss_is_zero_at_the_data_and_above_it_elsewhere():
    s_data = np.array([[2.0, 0.3], [0.3, 1.0]])

    def scaled(u):
        return s_data * np.exp(u[0]), (s_data * np.exp(u[0]))[..., None]

    model = inference._Model(scaled, None)
    at, above, below = (inference._evaluate(model, np.array([u]), s_data) for u in (0.0, 0.2, -0.2))
    assert at.loss == pytest.approx(0.0, abs=1e-14)
    assert at.gradient == pytest.approx(0.0, abs=1e-14)
    assert min(above.loss, below.loss) > 0.01
    assert above.gradient[0] > 0 > below.gradient[0]
    # Of a scale of p = 2 outputs Fisher's information is p/2.
    assert at.information[0, 0] == pytest.approx(1.0)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "free, message",
    [
        (("g_x",), r"^free: wanted names out of .*, got 'g_x'$"),
        (("epsilon",), r"^free: wanted names out of .*, got 'epsilon'$"),
        ((), r"^free: wanted at least one of"),
    ],
)
def test_names_are_checked(free, message):
    with pytest.raises(ValueError, match=message):
        short(PARAMS, noise_record(), free)


def test_a_start_at_zero_is_refused():
    with pytest.raises(ValueError, match=r"^free: B_s starts at 0, where its scale and sign"):
        short(dataclasses.replace(PARAMS, B_s=0.0), noise_record(), ("B_s",))


def test_calibrate_refuses_what_it_is_given():
    with pytest.raises(
        ValueError, match=r"^objective: wanted one of moments, pathwise, got 'map'$"
    ):
        short(PARAMS, noise_record(), FREE, objective="map")
    with pytest.raises(
        ValueError, match=r"^key: wanted a JAX random key for the pathwise objective"
    ):
        short(PARAMS, noise_record(), FREE, objective="pathwise")
    with pytest.raises(ValueError, match=r"^record: wanted more shots than the 4 filters, got 4; "):
        short(PARAMS, noise_record(4), FREE)
    with pytest.raises(ValueError, match=r"^record: wanted finite samples, got NaN .* in 2 shots$"):
        short(PARAMS, noise_record().at[[3, 7], 5, 0].set(jnp.nan), FREE)
    with pytest.raises(ValueError, match=r"^params\.kappa: "):
        short(dataclasses.replace(PARAMS, kappa=-1.0), noise_record(), FREE)


def test_a_parameter_without_effect_is_named():
    """Every stage sets omega_m itself, so that of params moves nothing."""
    with pytest.raises(RuntimeError, match=r"^free: these data do not determine omega_m; hold"):
        short(PARAMS, noise_record(), ("g_m", "omega_m"))


def test_parameters_that_only_act_together_are_named():
    """The bath heats at gamma_m (n_bath + 1/2): at gamma_m = 1/s no damping tells them apart."""
    slow = dataclasses.replace(PARAMS, gamma_m=1e-6, n_bath=1e10)
    with pytest.raises(
        RuntimeError, match=r"do not determine gamma_m and n_bath; hold at least one"
    ):
        short(slow, noise_record(), ("gamma_m", "n_bath"))

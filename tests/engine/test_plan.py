import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsde.engine import plan
from jaxsde.engine import resolution as chosen
from jaxsde.engine.step import Transition
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Sequence, Stage

DT = 0.5e-6
PULSE = Stage(
    name="pulse",
    n_samples=2,
    controls=Controls(nbar=10.0, delta_pc=TWO_PI * -2.0e6, omega_m=TWO_PI * 125.5e3),
)
RAMP = Stage(name="ramp", n_samples=2, controls=Controls(nbar=4.0, omega_m=(8e5, 6e5)))


def sequence_of(*stages, dt=DT):
    return Sequence(stages=stages, sample_interval=dt)


def segment(params, stage, resolution):
    """Return the one segment of a sequence of one stage."""
    (only,) = plan.segments(params, sequence_of(stage), resolution)
    return only


def direct(params, stage, offsets, dt, resolution):
    return plan.transitions(params, segment(params, stage, resolution), offsets, dt, resolution)


def nodes(params, stage, dt, resolution):
    return plan.node_transitions(params, segment(params, stage, resolution), dt, resolution)


@pytest.mark.parametrize("stage", [PULSE, RAMP], ids=["pulse", "ramp"])
@pytest.mark.parametrize("times", [1.0, 60.0], ids=["paper", "sigma x 60"])
def test_interpolation_is_the_direct_evaluation_at_any_offset(stage, times):
    params = Params.kohler2018()
    params = dataclasses.replace(
        params, sigma_m=params.sigma_m * times, sigma_s=params.sigma_s * times
    )
    resolution = chosen.choose_resolution(params, sequence_of(stage))
    rng = np.random.default_rng(0)
    corner = plan.Z_MAX * 0.999
    z = np.concatenate([rng.normal(size=(2, 6)), [[corner, -corner], [corner, corner]]], axis=1)
    expected = direct(params, stage, jnp.asarray(z.T * plan.sigmas(params)[None]), DT, resolution)
    table = nodes(params, stage, DT, resolution)
    basis = plan.jitter_basis(jnp.asarray(z), resolution.jitter_nodes)
    for name in ("A", "Q"):
        values, exact = np.asarray(getattr(table, name)), np.asarray(getattr(expected, name))
        if stage is RAMP:
            values, exact = values[1], exact[1]
        got = np.moveaxis(np.asarray(plan.interpolate(jnp.asarray(values), basis)), -1, 0)
        # s, the integral of D, is of order D x dt: every element in units of its largest value.
        unit = np.abs(exact).max(axis=0) + 1e-30
        error = np.abs(got - exact) / np.maximum(unit, 1e-3 * np.abs(exact).max(axis=(0, 2)))
        assert error.max() < 1e-10, name
    if times == 60.0:
        assert resolution.jitter_nodes > 8


def test_interpolation_is_needed():
    """The Transition does depend on the offset, by far more than the error of interpolation."""
    params = Params.kohler2018()
    resolution = chosen.choose_resolution(params, sequence_of(PULSE))
    table = nodes(params, PULSE, DT, resolution)
    assert float(jnp.abs(table.A[0] - table.A[-1])[:4, :4].max()) > 1e-3


def test_interpolation_is_exact_for_polynomials_of_low_degree():
    """Two offsets together up to the fourth power: five nodes give the polynomial itself."""
    u = plan.chebyshev_nodes(5)
    m, s = (x.reshape(-1) for x in np.meshgrid(u, u, indexing="ij"))
    z = np.random.default_rng(0).uniform(-plan.Z_MAX, plan.Z_MAX, size=(2, 50))

    def polynomial(m, s):
        return 3.0 + m - 2 * s + m * s**3 - 0.5 * m**2 * s**2 + 0.1 * m**4

    values = Transition(A=jnp.asarray(polynomial(m, s))[:, None, None], Q=jnp.ones((25, 1, 1)))
    table = plan._coefficients(values, 5)
    basis = plan.jitter_basis(jnp.asarray(z), 5)
    assert basis.shape == (15, 50)
    expected = polynomial(*z)
    np.testing.assert_allclose(
        plan.interpolate(table.A[:, 0, 0], basis), expected, atol=1e-11 * np.abs(expected).max()
    )
    np.testing.assert_allclose(plan.interpolate(table.Q[:, 0, 0], basis), 1.0, rtol=1e-12)


def test_transitions_shift_the_two_frequencies():
    """An offset acts as other values of omega_m in the controls and omega_s in params."""
    params = Params.kohler2018()
    resolution = chosen.choose_resolution(params, sequence_of(PULSE))
    offset = jnp.array([[2e3, -3e3]])
    moved = dataclasses.replace(params, omega_s=params.omega_s - 3e3)
    controls = dataclasses.replace(PULSE.controls, omega_m=TWO_PI * 125.5e3 + 2e3)
    stage = dataclasses.replace(PULSE, controls=controls)
    got = direct(params, PULSE, offset, DT, resolution)
    expected = direct(moved, stage, jnp.zeros((1, 2)), DT, resolution)
    np.testing.assert_allclose(got.A, expected.A, rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(got.Q, expected.Q, rtol=1e-13, atol=1e-20)
    still = dataclasses.replace(PULSE, controls=Controls(nbar=1.0))
    at_rest = direct(dataclasses.replace(moved, omega_m=params.omega_m + 2e3), still,
                     jnp.zeros((1, 2)), DT, resolution)  # fmt: skip
    np.testing.assert_allclose(
        direct(params, still, offset, DT, resolution).A, at_rest.A, rtol=1e-13
    )


@pytest.mark.parametrize("method", chosen.METHODS)
def test_every_method_takes_the_jitter(method):
    params = Params.kohler2018()
    resolution = dataclasses.replace(
        chosen.choose_resolution(params, sequence_of(PULSE)),
        method=method,
        substeps=20 if method != "exact" else 1,
    )
    z = jnp.array([[1.3], [-0.4]])
    table = nodes(params, PULSE, DT, resolution)
    basis = plan.jitter_basis(z, resolution.jitter_nodes)
    a, _ = plan.at_offsets(table, basis)
    expected = direct(params, PULSE, z.T * plan.sigmas(params)[None], DT, resolution)
    np.testing.assert_allclose(a[..., 0], expected.A[0, :, :6], rtol=1e-9, atol=1e-12)


def test_choose_resolution_of_the_paper():
    resolution = chosen.choose_resolution(Params.kohler2018(), Sequence.kohler2018())
    assert 0 < resolution.ramp_error < resolution.tolerance == 1e-8
    assert resolution == chosen.Resolution(
        ramp_substeps=11,
        switch_substeps=resolution.switch_substeps,
        doublings=9,
        jitter_nodes=5,
        ramp_error=resolution.ramp_error,
    )


def test_choose_resolution_grows_with_what_it_must_resolve():
    params, sequence = Params.kohler2018(), sequence_of(PULSE, RAMP)
    base = chosen.choose_resolution(params, sequence)
    longer = chosen.choose_resolution(params, sequence_of(PULSE, RAMP, dt=4 * DT))
    assert longer.doublings == base.doublings + 2
    assert longer.ramp_substeps >= 3 * base.ramp_substeps
    wider = chosen.choose_resolution(dataclasses.replace(params, sigma_s=1e5), sequence)
    assert wider.jitter_nodes > base.jitter_nodes


def test_one_node_suffices_without_jitter():
    params = Params.kohler2018(sigma_m=0.0, sigma_s=0.0)
    resolution = chosen.choose_resolution(params, sequence_of(PULSE))
    assert resolution.jitter_nodes == 1
    assert resolution.ramp_substeps == 1  # no ramp
    table = nodes(params, PULSE, DT, resolution)
    expected = direct(params, PULSE, jnp.zeros((1, 2)), DT, resolution)
    np.testing.assert_array_equal(table.A, expected.A)
    basis = plan.jitter_basis(jnp.zeros((2, 3)), 1)
    np.testing.assert_array_equal(basis, np.ones((1, 3)))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(method="heun"), r"^method: wanted one of exact, .*, got 'heun'$"),
        (dict(substeps=0), r"^substeps: wanted an integer of at least 1, got 0$"),
        (
            dict(method="exact", substeps=3),
            r"^substeps: the exact method has no steps to choose, got 3",
        ),
    ],
)
def test_choose_resolution_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        chosen.choose_resolution(Params.kohler2018(), sequence_of(PULSE), **options)


def test_choose_resolution_refuses_traced_parameters_and_tells_the_remedy():
    def traced(g_m):
        chosen.choose_resolution(Params.kohler2018(g_m=g_m), sequence_of(PULSE))
        return g_m

    with pytest.raises(ValueError, match=r"^resolution: params are traced .*pass resolution="):
        jax.grad(traced)(1.0)


def test_choose_resolution_refuses_samples_that_are_too_long():
    with pytest.raises(ValueError, match=r"^sample_interval: .*; take shorter samples$"):
        chosen.choose_resolution(Params.kohler2018(), sequence_of(PULSE, dt=1.0))

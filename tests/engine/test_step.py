import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
from jaxsde.engine import step as engine
from jaxsde.engine.propagate import augment, augment_diffusion, exact
from jaxsde.physics.model import diffusion, drift, measured
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls

DT = 0.5e-6


def random_psd(rng, n, rank):
    root = rng.normal(size=(n, rank))
    return root @ root.T


def test_products_are_those_of_numpy_for_every_batch():
    rng = np.random.default_rng(0)
    left, right, x = rng.normal(size=(3, 4, 5)), rng.normal(size=(4, 2, 5)), rng.normal(size=(4, 5))
    product = engine.matmul(jnp.asarray(left), jnp.asarray(right))
    np.testing.assert_allclose(product, np.einsum("ijb,jkb->ikb", left, right), rtol=1e-13)
    image = engine.matvec(jnp.asarray(left), jnp.asarray(x))
    np.testing.assert_allclose(image, np.einsum("ijb,jb->ib", left, x), rtol=1e-12)
    plain = engine.matvec(jnp.asarray(left[..., 0]), jnp.asarray(x[:, 0]))
    np.testing.assert_allclose(plain, left[..., 0] @ x[:, 0], rtol=1e-12)


def test_cholesky_of_full_rank_is_numpys():
    rng = np.random.default_rng(1)
    q = np.stack([random_psd(rng, 8, 12) for _ in range(6)])
    got = engine.psd_cholesky(jnp.moveaxis(jnp.asarray(q), 0, -1))
    np.testing.assert_allclose(jnp.moveaxis(got, -1, 0), np.linalg.cholesky(q), rtol=1e-10)


@pytest.mark.parametrize("rank", [0, 1, 3, 5])
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e12])
def test_cholesky_of_deficient_rank_still_gives_the_matrix(rank, scale):
    q = random_psd(np.random.default_rng(rank), 6, rank) * scale
    root = engine.psd_cholesky(jnp.asarray(q))
    assert np.isfinite(root).all()
    np.testing.assert_array_equal(np.triu(root, 1), 0)
    np.testing.assert_allclose(root @ root.T, q, rtol=1e-12, atol=1e-12 * np.abs(q).max())


def test_cholesky_keeps_a_direction_without_noise_empty():
    q = np.diag([2.0, 0.0, 3.0])
    root = engine.psd_cholesky(jnp.asarray(q))
    np.testing.assert_array_equal(root[:, 1], 0.0)
    np.testing.assert_allclose(root, np.diag(np.sqrt([2.0, 0.0, 3.0])), rtol=1e-15)


@pytest.mark.parametrize("differentiate", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("rank", [2, 4])
def test_cholesky_has_the_derivative_that_differences_show(differentiate, rank):
    rng = np.random.default_rng(5)
    root, direction = rng.normal(size=(4, rank)), rng.normal(size=(4, rank))

    def moved(t):  # stays of the same rank
        moving = jnp.asarray(root) + t * jnp.asarray(direction)
        return engine.psd_cholesky(moving @ moving.T)

    slope = differentiate(moved)(0.0)
    h = 1e-5
    np.testing.assert_allclose(slope, (moved(h) - moved(-h)) / (2 * h), rtol=1e-6, atol=1e-7)


def test_cholesky_has_a_finite_derivative_where_the_noise_vanishes():
    def of(b_s):
        return jnp.sum(engine.psd_cholesky(jnp.diag(jnp.stack([1.0 + b_s, b_s]))) ** 2)

    for differentiate in (jax.grad, jax.jacfwd):
        assert np.isfinite(differentiate(of)(0.0))


def transition(params, controls):
    row = measured(params)
    return exact(
        augment(drift(params, controls), row[None]),
        augment_diffusion(diffusion(params, controls), jnp.zeros((6, 1)), jnp.zeros((1, 1))),
        DT,
        10,
    )


PULSE = Controls(nbar=10.0, delta_pc=TWO_PI * -2.0e6, omega_m=TWO_PI * 125.5e3)


def test_step_has_the_joint_covariance_of_state_and_record():
    params = Params.kohler2018()
    z = transition(params, PULSE)
    gains, noise = np.array([0.3, -1.7]), 2e3
    step = engine.make_step(
        z.A[:, :6], z.Q, jnp.asarray(gains)[:, None], jnp.asarray(noise), DT, jnp.dtype(float)
    )
    # The record by its definition: gains times the mean of D over the sample, and white noise.
    a, q = oracles.interval_map(
        DT, lambda _: np.array(drift(params, PULSE)), np.array(diffusion(params, PULSE)),
        np.array(measured(params)),
    )  # fmt: skip
    to_joint = np.zeros((8, 7))
    to_joint[:6, :6], to_joint[6:, 6] = np.eye(6), gains / DT
    expected = to_joint @ q @ to_joint.T + np.diag([0.0] * 6 + [noise] * 2)
    root = np.concatenate([step.L, step.N])
    s = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(root @ root.T / np.outer(s, s), expected / np.outer(s, s), atol=1e-9)
    joint_a = to_joint @ a
    scale = np.append(np.ones(6), np.abs(joint_a[6:]).max(1))[:, None]
    got_a = np.concatenate([step.A, step.C])
    np.testing.assert_allclose(got_a / scale, joint_a / scale, atol=1e-9)
    np.testing.assert_array_equal(step.b, 0)
    np.testing.assert_array_equal(step.d, 0)
    # Back-action and imprecision are correlated: the record's noise moves the state too.
    assert np.abs((root @ root.T)[:6, 6:] / np.outer(s[:6], s[6:])).max() > 1e-3


def test_output_maps_of_a_batch_are_those_of_its_members():
    params = Params.kohler2018()
    members = [transition(params, Controls(nbar=n)) for n in (1.0, 4.0)]
    a = jnp.stack([t.A[:, :6] for t in members], axis=-1)
    q = jnp.stack([t.Q for t in members], axis=-1)
    gains, noise = jnp.array([[1.5]]), jnp.asarray(0.1)
    together = engine.output_maps(a, q, gains, noise, DT)
    for i, member in enumerate(members):
        alone = engine.output_maps(member.A[:, :6], member.Q, gains, noise, DT)
        for both, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(both[..., i], one, rtol=1e-14)


def test_an_ideal_detector_has_no_noise_of_its_own():
    """With one noiseless copy of s/dt, the joint covariance is that of (x, s/dt)."""
    z = transition(Params.kohler2018(), PULSE)
    _, _, joint = engine.output_maps(z.A[:, :6], z.Q, jnp.ones((1, 1)), jnp.asarray(0.0), DT)
    np.testing.assert_allclose(joint[6, 6], z.Q[6, 6] / DT**2, rtol=1e-14)


def test_apply_is_the_affine_map():
    rng = np.random.default_rng(2)
    shapes = dict(A=(3, 3), b=(3,), L=(3, 5), C=(2, 3), d=(2,), N=(2, 5))
    parts = {name: rng.normal(size=(*shape, 4)) for name, shape in shapes.items()}
    x, xi = rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    step = engine.Step(**{name: jnp.asarray(value) for name, value in parts.items()})
    after, y = engine.apply(step, jnp.asarray(x), jnp.asarray(xi))
    for shot in range(4):
        p = {name: value[..., shot] for name, value in parts.items()}
        np.testing.assert_allclose(
            after[:, shot], p["A"] @ x[:, shot] + p["b"] + p["L"] @ xi[:, shot], rtol=1e-11
        )
        np.testing.assert_allclose(
            y[:, shot], p["C"] @ x[:, shot] + p["d"] + p["N"] @ xi[:, shot], rtol=1e-11
        )


def test_make_step_casts_last():
    z = transition(Params.kohler2018(), PULSE)
    gains, noise = jnp.array([[1.0]]), jnp.asarray(0.5)
    wide, narrow = (
        engine.make_step(z.A[:, :6], z.Q, gains, noise, DT, jnp.dtype(t)) for t in ("f8", "f4")
    )
    for one, two in zip(jax.tree.leaves(wide), jax.tree.leaves(narrow), strict=True):
        assert two.dtype == jnp.float32
        np.testing.assert_array_equal(np.asarray(one).astype(np.float32), two)

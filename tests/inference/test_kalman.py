import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsde.engine.step import Step
from jaxsde.inference.kalman import condition, move_means, pushforward, triangular_root


def random_step(seed, n=3, k=2, nodes=2):
    """Return a Step with correlated process and record noise, offsets included."""
    rng = np.random.default_rng(seed)
    m = n + k
    shapes = dict(A=(n, n), b=(n,), L=(n, m), C=(k, n), d=(k,), N=(k, m))
    return Step(**{f: jnp.asarray(rng.normal(size=(*s, nodes))) for f, s in shapes.items()})


def textbook(step, node, mean, cov, y):
    """Return the law of x' given y, and log p(y): joint Gaussian, conditioned by its formula."""
    a, b, low, c, d, noise = (
        np.asarray(getattr(step, f))[..., node] for f in ("A", "b", "L", "C", "d", "N")
    )
    s = c @ cov @ c.T + noise @ noise.T
    gain = (a @ cov @ c.T + low @ noise.T) @ np.linalg.inv(s)
    v = y - c @ mean - d
    after = a @ cov @ a.T + low @ low.T - gain @ s @ gain.T
    density = -0.5 * (v @ np.linalg.solve(s, v) + np.linalg.slogdet(2 * np.pi * s)[1])
    return a @ mean + b + gain @ v, after, density


def test_the_root_is_cholesky_of_the_product_without_forming_it():
    rng = np.random.default_rng(0)
    m = rng.normal(size=(4, 7, 3))
    root = np.asarray(triangular_root(jnp.asarray(m)))
    for i in range(3):
        want = np.linalg.cholesky(m[..., i] @ m[..., i].T)
        np.testing.assert_allclose(root[..., i], want, rtol=1e-12, atol=1e-14)
    # Rows that differ by 1e-9: in m m^T, at 1e-18, rounding hides it.
    close = np.array([[1.0, 0.0, 0.0], [1.0, 1e-9, 0.0]])
    root = np.asarray(triangular_root(jnp.asarray(close)))
    assert root[1, 1] == pytest.approx(1e-9, rel=1e-9)


def test_a_row_without_direction_of_its_own_has_none_in_the_root():
    twice = jnp.asarray([[3.0, 4.0, 0.0], [6.0, 8.0, 0.0], [0.0, 0.0, 2.0]])
    root = np.asarray(triangular_root(twice))
    np.testing.assert_allclose(root, [[5, 0, 0], [10, 0, 0], [0, 0, 2]], atol=1e-12)
    slope = jax.jacfwd(triangular_root)(twice)
    assert np.isfinite(np.asarray(slope)).all()


@pytest.mark.parametrize("k", [1, 2])
def test_filtering_is_the_textbook_filter(k):
    step, nodes, shots = random_step(1, k=k), 2, 4
    rng = np.random.default_rng(2)
    start = np.tril(rng.normal(size=(3, 3)))
    root = jnp.asarray(np.repeat(start[..., None, None], nodes, axis=2))
    mean = jnp.asarray(rng.normal(size=(nodes, 1, 3, shots)))
    y = jnp.asarray(rng.normal(size=(k, 1, shots)))
    after_root, update = condition(step, root)
    after, r = move_means(update, mean, y)
    log_scale = np.asarray(update.log_scale).sum(axis=0)[:, 0]
    for node in range(nodes):
        cov = np.asarray(after_root)[..., node, 0]
        for shot in range(shots):
            want_mean, want_cov, density = textbook(
                step, node, np.asarray(mean)[node, 0, :, shot], start @ start.T,
                np.asarray(y)[:, 0, shot],
            )  # fmt: skip
            np.testing.assert_allclose(np.asarray(after)[node, 0, :, shot], want_mean, rtol=1e-10)
            np.testing.assert_allclose(cov @ cov.T, want_cov, rtol=1e-9, atol=1e-11)
            white = np.asarray(r)[node, 0, :, shot]
            got = -0.5 * white @ white - log_scale[node] - k * np.log(2 * np.pi) / 2
            assert got == pytest.approx(density, rel=1e-10)


def test_an_output_that_is_missing_tells_nothing():
    """Its filter is that of a Step that has only the other output."""
    step, y = random_step(3), np.array([0.0, 0.7])
    root = jnp.broadcast_to(jnp.eye(3)[..., None, None], (3, 3, 2, 1))
    mean = jnp.ones((2, 1, 3, 1))
    seen = jnp.asarray([[False], [True]])
    alone = Step(A=step.A, b=step.b, L=step.L, C=step.C[1:], d=step.d[1:], N=step.N[1:])
    got_root, got = condition(step, root, seen)
    want_root, want = condition(alone, root)
    np.testing.assert_allclose(got_root, want_root, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(got.log_scale[0], 0.0, atol=1e-14)
    np.testing.assert_allclose(got.log_scale[1], want.log_scale[0], rtol=1e-12)
    moved, r = move_means(got, mean, jnp.asarray(y)[:, None, None])
    expected, r_alone = move_means(want, mean, jnp.asarray(y[1:])[:, None, None])
    np.testing.assert_allclose(moved, expected, rtol=1e-12)
    np.testing.assert_allclose(r[:, :, 1], r_alone[:, :, 0], rtol=1e-12)
    np.testing.assert_allclose(r[:, :, 0], 0.0, atol=1e-14)


def test_pushforward_gives_the_value_once_and_each_tangent():
    value, slopes = pushforward(lambda x: x**2, (jnp.asarray(3.0),), (jnp.asarray([1.0, 2.0]),))
    assert float(value) == 9.0
    np.testing.assert_allclose(slopes, [6.0, 12.0])

"""Contours: where chi^2 of a fit of S12 exceeds its minimum by 1, in (G_+, diffusion)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsde.analysis.growth import GrowthData, Minimum, growth_terms, whitened

# Values of D_0 at which the other traces are fitted again, in standard errors of D_0.
GRID = tuple(4 * (i / 12 - 1) for i in range(25))
# Lengths of rays that are tried, in standard errors, and halvings after.
RAYS = tuple(0.1 * 1.25**i for i in range(23))
HALVINGS = 30
# Steps of the other traces' fits at each D_0.
REFITS = 25


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Contours:
    """Hold the contours of all traces, in the units of their GrowthData.

    points: (G, b) around the minimum, NaN where chi^2 stays below along a ray of 13 standard
    errors.  low, high: the range of each, the errors of S.5.  closed: no ray was that long.
    """

    points: Float[Array, "*fits traces angles 2"]
    low: Float[Array, "*fits traces 2"]
    high: Float[Array, "*fits traces 2"]
    closed: Bool[Array, "*fits traces"]


def profile_contours(
    data: GrowthData, best: Minimum, *, delta: float = 1.0, angles: int = 48
) -> Contours:
    """Return the contours of chi^2 = minimum + delta, all else at its own best (S.5).

    Along rays from the minimum.  chi^2 is exactly quadratic in D_0; what the other traces say of
    D_0 is their chi^2, each at its best (G, b), on a grid of D_0.  Fits along a leading axis share
    nothing.
    """
    if data.mean.ndim == 2:
        return _contours(data, best, jnp.asarray(delta), angles)
    return _each(data, best, jnp.asarray(delta), angles)


def _others(data: GrowthData, best: Minimum, grid: Array) -> Float[Array, "traces grid"]:
    """Return the chi^2 that all traces but one have at each D_0, at their best (G, b)."""
    _, slopes = whitened(data, best.power, best.D_0, best.gain, best.diffusion)
    normal = jnp.einsum("nka,nkb->nab", slopes[:, :, 1:], slopes[:, :, 1:])
    tie = jnp.einsum("nka,nk->na", slopes[:, :, 1:], slopes[:, :, 0])
    per_d_0 = -jnp.linalg.solve(normal, tie[..., None])[..., 0]

    def residuals(d_0, x):
        return whitened(data, best.power, d_0, x[:, 0], x[:, 1])

    def at(d_0):
        def body(_, carry):
            x, damping = carry
            r, slopes = residuals(d_0, x)
            j = slopes[:, :, 1:]
            normal = jnp.einsum("nka,nkb->nab", j, j)
            size = jnp.trace(normal, axis1=1, axis2=2)[:, None, None]
            firm = normal * (1 + damping[:, None, None] * jnp.eye(2)[None])
            firm = firm + 1e-12 * size * jnp.eye(2)[None]
            step = jnp.linalg.solve(firm, jnp.einsum("nka,nk->na", j, r)[..., None])[..., 0]
            tried = x - jnp.stack([jnp.clip(step[:, 0], -1.0, 1.0), step[:, 1]], axis=1)
            after, _ = residuals(d_0, tried)
            better = jnp.sum(after**2, axis=1) <= jnp.sum(r**2, axis=1)
            x = jnp.where(better[:, None], tried, x)
            return x, jnp.where(better, damping / 10, damping * 10)

        x = jnp.stack([best.gain, best.diffusion], axis=1)
        moved = x + per_d_0 * (d_0 - best.D_0)
        one, two = (jnp.sum(residuals(d_0, y)[0] ** 2, axis=1) for y in (x, moved))
        x = jnp.where((two < one)[:, None], moved, x)
        x, _ = jax.lax.fori_loop(0, REFITS, body, (x, jnp.full(x.shape[:1], 1e-3)))
        return jnp.sum(residuals(d_0, x)[0] ** 2, axis=1)

    each = jax.vmap(at, out_axes=1)(grid)
    return jnp.sum(each, axis=0)[None] - each


def _profile(data: GrowthData, best: Minimum, grid: Array, others: Array, points: Array) -> Array:
    """Return chi^2 above the minimum at points (traces, n, 2), the best over D_0."""
    gain, diffusion = points[..., 0], points[..., 1]
    e, p, _, _ = growth_terms(data.time[:, None], gain[..., None])
    white = data.whiten / best.power[:, None]
    base = jnp.einsum("nkt,nat->nak", data.average, diffusion[..., None] * p)
    base = jnp.einsum("njk,nak->naj", white, base - data.mean[:, None])
    slope = jnp.einsum("njk,nkt,nat->naj", white, data.average, e)
    a, b, c = (jnp.sum(x, axis=-1) for x in (slope**2, base * slope, base**2))
    d_0 = grid[None, None]
    total = a[..., None] * d_0**2 + 2 * b[..., None] * d_0 + c[..., None] + others[:, None]
    at = jnp.clip(jnp.argmin(total, axis=-1), 1, grid.shape[0] - 2)
    step = grid[1] - grid[0]
    # A parabola through what the others say around there, and the exact one of this trace.
    before, here, after = (jnp.take_along_axis(others, at + i, axis=1) for i in (-1, 0, 1))
    bend = (before - 2 * here + after) / step**2 / 2
    lean = (after - before) / (2 * step)
    middle = grid[at]
    curve = a + bend
    tilt = 2 * a * middle + 2 * b + lean
    value = a * middle**2 + 2 * b * middle + c + here
    return value - tilt**2 / (4 * curve) - jnp.sum(best.chi2)


@jax.jit(static_argnums=(3,))
def _contours(data: GrowthData, best: Minimum, delta: Array, angles: int) -> Contours:
    grid = best.D_0 + jnp.sqrt(best.D_0_variance) * jnp.array(GRID)
    others = _others(data, best, grid)
    centre = jnp.stack([best.gain, best.diffusion], axis=1)
    turn = jnp.asarray(np.arange(angles) * (2 * np.pi / angles))
    circle = jnp.stack([jnp.cos(turn), jnp.sin(turn)])
    rays = jnp.swapaxes(jnp.linalg.cholesky(best.covariance) @ circle[None], 1, 2)

    def above(length):
        points = centre[:, None] + length[..., None] * rays
        return _profile(data, best, grid, others, points) - delta

    shape = rays.shape[:2]
    lengths = jnp.array(RAYS) * jnp.sqrt(delta)
    tried = jax.lax.map(lambda r: above(jnp.broadcast_to(r, shape)), lengths)
    crossed = tried > 0
    first = jnp.argmax(crossed, axis=0)
    low, high = jnp.where(first > 0, lengths[first - 1], 0.0), lengths[first]

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        out = above(middle) > 0
        return jnp.where(out, low, middle), jnp.where(out, middle, high)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (low, high))
    found = jnp.any(crossed, axis=0)
    length = jnp.where(found, (low + high) / 2, jnp.nan)
    points = centre[:, None] + length[..., None] * rays
    return Contours(
        points=points,
        low=-_extent(-points),
        high=_extent(points),
        closed=jnp.all(found, axis=1),
    )


@jax.jit(static_argnums=(3,))
def _each(data: GrowthData, best: Minimum, delta: Array, angles: int) -> Contours:
    return jax.vmap(lambda d, b: _contours(d, b, delta, angles))(data, best)


def _extent(points: Array) -> Float[Array, "traces 2"]:
    """Return the largest value of each coordinate, by a parabola through the highest points."""
    at = jnp.argmax(points, axis=1, keepdims=True)
    n = points.shape[1]
    before, here, after = (
        jnp.take_along_axis(points, (at + i) % n, axis=1)[:, 0] for i in (-1, 0, 1)
    )
    bend = before - 2 * here + after
    safe = jnp.where(bend < 0, bend, -1.0)
    return here - jnp.where(bend < 0, (after - before) ** 2 / (8 * safe), 0.0)

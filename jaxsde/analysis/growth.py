"""Growth: <D^2>_cyc of many traces in bins, whitened by its own covariance, and S12 fitted to it.

    D_fit(t) = D_0 e^{G t} + (b/G)(e^{G t} - 1)

Traces share D_0 and have G and b of their own.  Neighbouring samples of <D^2>_cyc say the same, so
that a bin's mean and the covariance of bins over shots are what is fitted.  The power of a shot
scatters in proportion to itself; a covariance taken as measured would favour bins that happen to
be low.  The covariance is therefore that relative to the power, times the fit's own power, in turn.
"""

import dataclasses
import functools
from collections.abc import Sequence as Series

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.analysis.displacement import MeanSquaredDisplacement

# Times that the covariance is taken at the fit before it, and steps of each fit at most.
ROUNDS, STEPS = 5, 200
# |G| times the window is kept below this.
STEEPEST = 20.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GrowthData:
    """Hold binned traces, in units of their own: time 1/window, D^2 the traces' mean.

    time: of samples.  average: the bins, as weights of samples.  mean: of bins.  offset: power of
    shot noise that was subtracted.  whiten: inverse Cholesky factor of the relative covariance,
    corrected for its own uncertainty.  second, square: units in s and (rad/s)^2.
    """

    time: Float[Array, "*fits traces samples"]
    average: Float[Array, "*fits traces bins samples"]
    mean: Float[Array, "*fits traces bins"]
    offset: Float[Array, "*fits traces bins"]
    whiten: Float[Array, "*fits traces bins bins"]
    second: Float[Array, "*fits"]
    square: Float[Array, "*fits"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Minimum:
    """Hold a minimum in the units of its GrowthData.

    x: (D_0, then G and b of each trace).  power: that the covariance is taken at.  chi2: of each
    trace.  covariance: of (G, b) of each trace, D_0 and all others free.  D_0_variance.
    """

    D_0: Float[Array, "*fits"]
    gain: Float[Array, "*fits traces"]
    diffusion: Float[Array, "*fits traces"]
    power: Float[Array, "*fits traces bins"]
    chi2: Float[Array, "*fits traces"]
    covariance: Float[Array, "*fits traces 2 2"]
    D_0_variance: Float[Array, "*fits"]
    converged: Array


def growth_terms(t: Array, gain: Array) -> tuple[Array, Array, Array, Array]:
    """Return e^{Gt} and t phi(Gt), phi(x) = (e^x - 1)/x, with their derivatives along G."""
    x = gain * t
    small = jnp.abs(x) < 1e-3
    safe = jnp.where(small, 1.0, x)
    e = jnp.exp(x)
    phi = jnp.where(small, 1 + x / 2 + x**2 / 6 + x**3 / 24, jnp.expm1(safe) / safe)
    slope = jnp.where(small, 0.5 + x / 3 + x**2 / 8 + x**3 / 30, (e - phi) / safe)
    return e, t * phi, t * e, t**2 * slope


def correction(shots: int, bins: int, parameters: float) -> float:
    """Return the factor by which a covariance measured with `shots` widens to be used as known.

    Hartlap et al., A&A 464, 399 (2007), for the mean of its inverse, and Percival et al., MNRAS
    439, 2531 (2014), for the scatter that weights add to the estimates.
    """
    hartlap = (shots - bins - 2) / (shots - 1)
    a = 2 / ((shots - bins - 1) * (shots - bins - 4))
    b = (shots - bins - 2) / ((shots - bins - 1) * (shots - bins - 4))
    return (1 + b * (bins - parameters)) / (1 + a + b * (parameters + 1)) / hartlap


def bin_traces(
    traces: Series[MeanSquaredDisplacement],
    start: Float[np.ndarray, "traces"],
    stop: Float[np.ndarray, "traces"],
    origin: Float[np.ndarray, "traces"],
    bins: int,
    *,
    samples: int = 0,
) -> GrowthData:
    """Return the windows of traces in `bins` equal parts each; times in s.

    samples: room for as many at least, so that windows of several lengths share a program.

    Raises ValueError for windows without a sample for each bin, or too few shots for as many bins.
    """
    made = [_binned(*each, bins) for each in zip(traces, start, stop, origin, strict=True)]
    longest = max(samples, *(len(one[0]) for one in made))
    time, average = (
        np.stack([np.pad(one[i], [(0, 0)] * i + [(0, longest - len(one[0]))]) for one in made])
        for i in (0, 1)
    )
    mean, offset, whiten = (np.stack([one[i] for one in made]) for i in (2, 3, 4))
    second = float(np.mean(stop - start))
    square = float(np.mean(np.abs(mean)))
    return GrowthData(
        time=jnp.asarray(time / second),
        average=jnp.asarray(average),
        mean=jnp.asarray(mean / square),
        offset=jnp.asarray(offset / square),
        whiten=jnp.asarray(whiten),
        second=jnp.asarray(second),
        square=jnp.asarray(square),
    )


def _binned(trace: MeanSquaredDisplacement, start: float, stop: float, origin: float, bins: int):
    """Return (time, average, mean, offset, whiten) of one trace."""
    time, dt = trace.time, trace.time[1] - trace.time[0]
    inside = (time + dt / 2 > start) & (time - dt / 2 < stop)
    shots = trace.each.shape[0]
    if inside.sum() < bins or start < time[0] - dt or stop > time[-1] + dt:
        raise ValueError(
            f"fit window {start * 1e6:g} to {stop * 1e6:g} us: wanted {bins} samples or more, for "
            f"{bins} bins, in a record from {time[0] * 1e6:g} to {time[-1] * 1e6:g} us, got "
            f"{int(inside.sum())}; widen the window, or lower bins"
        )
    if shots < bins + 6:
        raise ValueError(
            f"traces: wanted {bins + 6} shots or more for a covariance of {bins} bins, got "
            f"{shots}; lower bins"
        )
    edges = np.linspace(start, stop, bins + 1)
    t = time[inside]
    low = np.maximum(edges[:-1, None], t - dt / 2)
    high = np.minimum(edges[1:, None], t + dt / 2)
    average = np.maximum(high - low, 0.0)
    average /= average.sum(axis=1, keepdims=True)
    each = np.asarray(trace.each, float)[:, inside] @ average.T
    if not np.isfinite(each).all():
        raise ValueError("mean squared displacement: wanted finite numbers, got NaN or infinity")
    offset = average @ np.asarray(trace.noise_bias, float)[inside]
    mean = average @ np.asarray(trace.mean, float)[inside]
    relative = (each - each.mean(axis=0)) / (each.mean(axis=0) + offset)
    covariance = relative.T @ relative / (shots * (shots - 1)) * correction(shots, bins, 3)
    return t - origin, average, mean, offset, np.linalg.inv(np.linalg.cholesky(covariance))


def whitened(
    data: GrowthData, power: Array, d_0: Array, gain: Array, diffusion: Array
) -> tuple[Array, Array]:
    """Return residuals (traces, bins), normal if S12 holds, and their slopes along (D_0, G, b)."""
    e, p, e_g, p_g = growth_terms(data.time, gain[:, None])
    slopes = jnp.stack([e, d_0 * e_g + diffusion[:, None] * p_g, p], axis=2)
    slopes = jnp.einsum("nkt,nta->nka", data.average, slopes) / power[:, :, None]
    fit = jnp.einsum("nkt,nt->nk", data.average, d_0 * e + diffusion[:, None] * p)
    r = (fit - data.mean) / power
    return (data.whiten @ r[:, :, None])[..., 0], data.whiten @ slopes


def power_of(data: GrowthData, d_0: Array, gain: Array, diffusion: Array) -> Array:
    """Return the whole power of each bin that S12 expects, shot noise included; kept positive."""
    e, p, _, _ = growth_terms(data.time, gain[:, None])
    fit = jnp.einsum("nkt,nt->nk", data.average, d_0 * e + diffusion[:, None] * p)
    floor = 0.05 * jnp.mean(data.mean + data.offset)
    return jnp.maximum(fit + data.offset, floor)


def _arrow(slopes: Array, r: Array, damping: Array):
    """Return the step of (D_0, (G, b) of each trace) by Gauss and Newton, and what its errors need.

    Normal equations are an arrow: D_0 meets all, traces meet D_0 alone.
    """
    normal = jnp.einsum("nka,nkb->nab", slopes, slopes)
    pull = jnp.einsum("nka,nk->na", slopes, r)
    own = normal[:, 1:, 1:] * (1 + damping * jnp.eye(2)[None])
    own = own + 1e-12 * jnp.trace(own, axis1=1, axis2=2)[:, None, None] * jnp.eye(2)[None]
    inverse = jnp.linalg.inv(own)
    tie = normal[:, 0, 1:]
    along = jnp.einsum("nab,nb->na", inverse, tie)
    stiff = jnp.sum(normal[:, 0, 0] * (1 + damping)) - jnp.sum(along * tie)
    first = -(jnp.sum(pull[:, 0]) - jnp.sum(along * pull[:, 1:])) / stiff
    rest = -jnp.einsum("nab,nb->na", inverse, pull[:, 1:]) - along * first
    return first, rest, inverse, along, stiff


@functools.partial(jax.jit, static_argnames=("rounds",))
def minimise(data: GrowthData, rounds: int = ROUNDS) -> Minimum:
    """Return the minimum of chi^2 over D_0 and every trace's (G, b), by Levenberg and Marquardt."""
    power = jnp.maximum(data.mean + data.offset, 0.05 * jnp.mean(data.mean + data.offset))

    def again(_, carry):
        power, x, _ = carry
        x, converged = _descend(data, power, x)
        return power_of(data, *x), x, converged

    start = power, _start(data, power), jnp.asarray(False)
    power, x, _ = jax.lax.fori_loop(0, rounds, again, start)
    x, converged = _descend(data, power, x)
    r, slopes = whitened(data, power, *x)
    _, _, inverse, along, stiff = _arrow(slopes, r, jnp.asarray(0.0))
    covariance = inverse + along[:, :, None] * along[:, None] / stiff
    return Minimum(
        D_0=x[0],
        gain=x[1],
        diffusion=x[2],
        power=power,
        chi2=jnp.sum(r**2, axis=1),
        covariance=covariance,
        D_0_variance=1 / stiff,
        converged=converged,
    )


# The same for fits along a leading axis, of traces that share nothing.
minimise_each = jax.jit(jax.vmap(minimise))


def _start(data: GrowthData, power: Array) -> tuple[Array, Array, Array]:
    """Return a start: each trace's best gain of a few, D_0 and b by linear least squares."""
    zero, n = jnp.zeros(()), data.mean.shape[0]

    def of(gain):
        r, slopes = whitened(data, power, zero, jnp.full(n, gain), jnp.zeros(n))
        linear = slopes[:, :, ::2]
        normal = jnp.einsum("nka,nkb->nab", linear, linear)
        normal = (
            normal + 1e-9 * jnp.trace(normal, axis1=1, axis2=2)[:, None, None] * jnp.eye(2)[None]
        )
        x = -jnp.linalg.solve(normal, jnp.einsum("nka,nk->na", linear, r)[..., None])[..., 0]
        left = r + jnp.einsum("nka,na->nk", linear, x)
        return jnp.sum(left**2, axis=1), x

    tried = jnp.array([-1.0, 0.3, 1.0, 2.0, 3.0, 4.5, 6.0])
    chi2, x = jax.vmap(of)(tried)
    best = jnp.argmin(chi2, axis=0)
    chosen = jnp.take_along_axis(x, best[None, :, None], axis=0)[0]
    return jnp.median(chosen[:, 0]), tried[best], chosen[:, 1]


def _descend(data: GrowthData, power: Array, x):
    def chi2(x):
        return jnp.sum(whitened(data, power, *x)[0] ** 2)

    def body(carry):
        x, now, damping, _, count = carry
        r, slopes = whitened(data, power, *x)
        first, rest, *_ = _arrow(slopes, r, damping)
        moved = (
            x[0] + first,
            jnp.clip(x[1] + jnp.clip(rest[:, 0], -1.0, 1.0), -STEEPEST, STEEPEST),
            x[2] + rest[:, 1],
        )
        after = chi2(moved)
        better = after <= now
        small = better & (now - after < 1e-8 * (1 + now))
        x = jax.tree.map(lambda a, b: jnp.where(better, a, b), moved, x)
        damping = jnp.where(better, damping / 5, damping * 4)
        return x, jnp.where(better, after, now), damping, small, count + 1

    def go(carry):
        *_, damping, small, count = carry
        return ~small & (count < STEPS) & (damping < 1e12)

    start = x, chi2(x), jnp.asarray(1e-3), jnp.asarray(False), 0
    x, _, damping, small, _ = jax.lax.while_loop(go, body, start)
    # Where no step of any length helps, the minimum is reached to rounding.
    return x, small | (damping >= 1e12)

"""What the estimates of gain and state cost, and iminuit on the same gains.

    python bench/estimate_costs.py

Least of three times each, after a first call that compiles; CPU seconds are of all threads.
"""

import time

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from estimates import (  # noqa: E402
    DETECTOR,
    ORIGIN,
    PARAMS,
    PULSES,
    SEQUENCE,
    SHOTS,
    WINDOW,
    trace,
)
from iminuit import Minuit  # noqa: E402

import jaxsde as js  # noqa: E402
from jaxsde.analysis.contours import profile_contours  # noqa: E402
from jaxsde.analysis.growth import bin_traces, minimise_each  # noqa: E402
from jaxsde.analysis.systematics import record_moments, systematic_moments  # noqa: E402
from jaxsde.physics.params import TWO_PI  # noqa: E402


def best_of(f, repeats: int = 3) -> tuple[float, float]:
    """Return the least wall and CPU seconds of a call."""
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(f())
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(t for t, _ in times), min(t for _, t in times)


def told(what: str, f) -> None:
    """Print what a call costs."""
    f()
    wall, cpu = best_of(f)
    print(f"{what}: {wall:.2f} s wall, {cpu:.2f} s CPU", flush=True)


def costs() -> None:
    """Print what the parts cost, and iminuit on the same gains."""
    shots = js.simulate(jax.random.key(1), PARAMS, SEQUENCE, DETECTOR, 10_000, dtype=jnp.float32)
    bank = js.matched_filter(PARAMS, SEQUENCE, DETECTOR)
    p = PARAMS
    spread = dict(
        g_m=0.02 * p.g_m, g_s=0.02 * abs(p.g_s), omega_m=TWO_PI * 100, omega_s=TWO_PI * 50,
        gamma_m=0.1 * p.gamma_m, sigma_m=0.1 * p.sigma_m, sigma_s=0.1 * p.sigma_s,
        B_s=0.1 * p.B_s, n_bath=0.2, nbar=0.1, kappa=0.01 * p.kappa,
    ) | {"detector.efficiency": 0.003}  # fmt: skip
    products = record_moments(shots.record, bank)

    def systematic():
        return systematic_moments(
            jax.random.key(2), record_moments(shots.record, bank), p, SEQUENCE, DETECTOR, spread
        ).C

    told("second moments of 10,000 records", lambda: record_moments(shots.record, bank))
    told("1,000 filter sets on them, mixing and biases of each included", systematic)
    assert products.shape[0] == 1000
    few = shots.record[:200]

    def whole():
        trace = js.mean_squared_displacement(few, p, SEQUENCE, DETECTOR)
        fit = js.fit_gain([trace], start=70e-6 + 12e-6, stop=70e-6 + 54e-6, origin=70e-6)
        return fit.gain, js.estimate_moments(few, bank, p, SEQUENCE, DETECTOR).C

    told("<D^2>, gain and C of 200 shots", whole)
    gains()


def gains(sets: int = 60) -> None:
    """Print the cost of joint fits and contours of many traces, and of iminuit on some of them."""
    made = []
    for i, sequence in enumerate(PULSES):
        shots = js.simulate(
            jax.random.key(3 + i), PARAMS, sequence, DETECTOR, sets * SHOTS, dtype=jnp.float32
        )
        record = shots.record.reshape(sets, SHOTS, -1, 2)
        made.append([trace(r, sequence) for r in record])
    five = np.ones(5)
    window = five * WINDOW["start"], five * WINDOW["stop"], five * ORIGIN
    held = [bin_traces([traces[i] for traces in made], *window, 8) for i in range(sets)]
    data = jax.tree.map(lambda *x: jnp.stack(x), *held)

    def fit():
        best = minimise_each(data)
        return best, profile_contours(data, best)

    told(f"{5 * sets} traces in fits of 5, minima and contours of 48 points", fit)
    best, contours = fit()
    seconds, minima, ranges, tried = 0.0, [], [], range(4)
    for i in tried:
        one, least = (jax.tree.map(lambda x, i=i: np.asarray(x[i]), y) for y in (data, best))
        own = np.array([least.D_0, *np.stack([least.gain, least.diffusion], 1).ravel()])
        begun = time.process_time()
        minuit = Minuit(chi_squared(one, least), 1.1 * own + 0.02)
        minuit.migrad(ncall=20000)
        points = [
            np.array(
                minuit.mncontour(f"x{1 + 2 * j}", f"x{2 + 2 * j}", cl=1 - np.exp(-0.5), size=48)
            )
            for j in range(5)
        ]
        seconds += time.process_time() - begun
        span = np.asarray(contours.high[i] - contours.low[i])
        off = (np.array(minuit.values) - own)[1:].reshape(5, 2)
        minima.append(np.abs(off / span).max())
        ranges += [
            np.abs(np.ptp(p, axis=0) / s - 1).max()
            for p, s in zip(points, span, strict=True)
            if len(p) > 40
        ]
    print(
        f"iminuit, chi^2 in NumPy: {seconds / len(tried) / 5:.2f} s CPU a trace; of {len(tried)} "
        f"fits minima differ by at most {max(minima):.2g} of a contour's range; it finishes "
        f"{len(ranges)} of {5 * len(tried)} contours, whose ranges differ by at most "
        f"{max(ranges):.2g} (median {np.median(ranges):.1g})"
    )


def chi_squared(data, best):
    """Return chi^2 of five traces at (D_0, G_1, b_1, G_2, ...), for iminuit."""

    def chi2(x):
        g, b = x[1::2, None], x[2::2, None]
        g = np.where(np.abs(g) > 1e-6, g, 1e-6)
        grown = np.clip(g * data.time, -300, 300)
        f = x[0] * np.exp(grown) + b / g * np.expm1(grown)
        r = (np.einsum("nkt,nt->nk", data.average, f) - data.mean) / best.power
        return float(np.sum(np.einsum("njk,nk->nj", data.whiten, r) ** 2))

    return chi2


if __name__ == "__main__":
    costs()

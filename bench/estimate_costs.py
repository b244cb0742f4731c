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
from jaxsde.analysis.growth import bin_traces, minimise, minimise_each  # noqa: E402
from jaxsde.analysis.joint_gain import apart  # noqa: E402
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


def gains(count: int = 300) -> None:
    """Print the cost of fits and contours of many traces, and of iminuit on some of them."""
    record = js.simulate(
        jax.random.key(3), PARAMS, PULSES[2], DETECTOR, count * SHOTS, dtype=jnp.float32
    ).record.reshape(count, SHOTS, -1, 2)
    traces = [trace(r, PULSES[2]) for r in record]
    one = np.ones(count)
    data = bin_traces(traces, one * WINDOW["start"], one * WINDOW["stop"], one * ORIGIN, 8)
    for name, held in (("a D_0 of their own", apart(data)), ("a common D_0", data)):
        least = minimise if held.mean.ndim == 2 else minimise_each

        def fit(held=held, least=least):
            best = least(held)
            return best, profile_contours(held, best)

        told(f"{count} traces with {name}, minimum and contour of 48 points", fit)
    best = minimise_each(apart(data))
    contours = profile_contours(apart(data), best)
    seconds, ranges, minima, tried = 0.0, [], [], range(20)
    single = apart(data)
    for i in tried:
        own = np.array([best.D_0[i], best.gain[i, 0], best.diffusion[i, 0]])
        begun = time.process_time()
        minuit = Minuit(chi_squared(single, best, i), *(1.1 * own + 0.02), name=("d", "g", "b"))
        minuit.migrad()
        points = np.array(minuit.mncontour("g", "b", cl=1 - np.exp(-0.5), size=48))
        seconds += time.process_time() - begun
        span = np.asarray(contours.high[i, 0] - contours.low[i, 0])
        minima.append(np.abs((np.array(minuit.values) - own)[1:] / span).max())
        if len(points) > 40:
            ranges.append(np.abs(np.ptp(points, axis=0) / span - 1).max())
    print(f"iminuit, chi^2 in NumPy: {seconds / len(tried):.3f} s CPU a trace; of {len(tried)} "
          f"traces minima differ by at most {max(minima):.2g} of a contour's range (median "
          f"{np.median(minima):.1g}); it finishes {len(ranges)} contours, whose ranges differ by at "
          f"most {max(ranges):.2g} (median {np.median(ranges):.1g})")  # fmt: skip


def chi_squared(data, best, i: int):
    """Return chi^2 of trace i at (D_0, G, b), for iminuit."""
    white, average = np.asarray(data.whiten[i, 0]), np.asarray(data.average[i, 0])
    t, mean = np.asarray(data.time[i, 0]), np.asarray(data.mean[i, 0])
    power = np.asarray(best.power[i, 0])

    def chi2(d, g, b):
        g = g if abs(g) > 1e-6 else 1e-6
        x = np.clip(g * t, -300, 300)
        f = d * np.exp(x) + b / g * np.expm1(x)
        return float(np.sum((white @ ((average @ f - mean) / power)) ** 2))

    return chi2


if __name__ == "__main__":
    costs()

"""How far off are the moments, by which method, at what cost? Makes docs/accuracy.md's tables.

Moments are exact covariance arithmetic, without sampling; references are SciPy's (the matrix
exponential of the moments' equation, DOP853) and mpmath's, through the oracles of tests/.
Everything but the timings is deterministic.
"""

import itertools
import pathlib
import statistics
import sys
import time

import accuracy_figures as figures
import accuracy_ramps as ramps
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

import jaxsde
from jaxsde.engine.plan import segments, transitions
from jaxsde.engine.propagate import augment, augment_diffusion, exact, repeat
from jaxsde.engine.resolution import METHODS, Resolution
from jaxsde.engine.step import Transition, make_step
from jaxsde.physics.model import diffusion, drift, measured
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Sequence, Stage

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))
import oracles  # noqa: E402
import oracles_quantum  # noqa: E402

QUIET = jaxsde.Params.kohler2018(sigma_m=0.0, sigma_s=0.0, B_s=2.3e4)
PULSE = Controls(nbar=10.0, delta_pc=TWO_PI * -2.0e6, omega_m=TWO_PI * 125.5e3, B_s=0.0)
MEASUREMENT = Controls(nbar=4.0)
THERMAL = np.diag([3.0, 3.0, 3.0, 3.0, 0.5, 0.5])
NS = 1e-9
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4)
LONGEST = dict(exact=1e4, interaction_euler=500, euler_maruyama=50)  # ns
SHORTEST = dict(exact=1, interaction_euler=0.2, euler_maruyama=0.01)  # ns, then rounding shows

Table = list[list[str]]


def plain(value: float) -> str:
    """Return a number to two digits, without an exponent from 0.01 to 9,999."""
    rounded = float(f"{value:.2g}")
    if rounded == 0 or 0.01 <= abs(rounded) < 1e4:
        return f"{rounded:g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


# --- moments against the step -------------------------------------------------------------------


def one_stage(controls: Controls, dt: float, n_samples: int = 1) -> Sequence:
    """Return a sequence of one stage."""
    return Sequence(
        stages=(Stage(name="stage", n_samples=n_samples, controls=controls),), sample_interval=dt
    )


def one_step(controls: Controls, dt: float, method: str = "exact") -> Transition:
    """Return the map of one step of dt (s) of x and the integral of D, without jitter."""
    resolution = Resolution(method=method, doublings=14)
    (segment,) = segments(QUIET, one_stage(controls, dt), resolution)
    made = transitions(QUIET, segment, jnp.zeros((1, 2)), dt, resolution)
    return jax.tree.map(lambda leaf: leaf[0], made)


def after(step: Transition, start: np.ndarray, count: int) -> np.ndarray:
    """Return the covariance after count steps."""
    many = repeat(Transition(A=step.A[:6, :6], Q=step.Q[:6, :6]), count)
    return np.asarray(many.A @ start @ many.A.T + many.Q)


def reference(controls: Controls, start: np.ndarray, duration: float) -> np.ndarray:
    """Return the covariance after a duration (s), by the exponential of P' = M P + P M^T + D."""
    m, d, one = np.array(drift(QUIET, controls)), np.array(diffusion(QUIET, controls)), np.eye(6)
    flow = np.zeros((37, 37))
    flow[:36, :36], flow[:36, 36] = np.kron(m, one) + np.kron(one, m), d.ravel()
    end = scipy.linalg.expm(flow * duration)
    return (end[:36, :36] @ start.ravel() + end[:36, 36]).reshape(6, 6)


# Name: controls, state at its beginning, duration (s).
STAGES = {
    "measurement": (MEASUREMENT, reference(PULSE, THERMAL, 60e-6), 200e-6),
    "pulse": (PULSE, THERMAL, 60e-6),
}


def moments(p: np.ndarray) -> np.ndarray:
    """Return n_m, n_s and |<a b>|."""
    n_m, n_s, ab, _ = oracles.two_modes(p)
    return np.array([n_m, n_s, abs(ab)])


def errors(stage: str, method: str, dt: float) -> np.ndarray:
    """Return the relative errors of n_m, n_s and |<a b>| after a stage taken in steps of dt (s)."""
    controls, start, duration = STAGES[stage]
    got = after(one_step(controls, dt, method), start, round(duration / dt))
    return moments(got) / moments(reference(controls, start, duration)) - 1


def worst(stage: str, method: str, dt: float) -> float:
    """Return the largest of `errors`."""
    return float(np.abs(errors(stage, method, dt)).max())


def curve(stage: str, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (steps in s, worst errors) of a method."""
    steps = [s * NS for s in STEPS if SHORTEST[method] <= s <= LONGEST[method]]
    return np.array(steps), np.array([worst(stage, method, dt) for dt in steps])


def step_for(stage: str, method: str, error: float) -> float:
    """Return the step (s) at which the worst moment is off by error, between those computed."""
    steps, found = curve(stage, method)
    return float(np.exp(np.interp(np.log(error), np.log(found), np.log(steps))))


def spurious_gain(dt: float) -> float:
    """Return the gain that Euler-Maruyama gives a free spin, in units of omega^2 dt."""
    many = repeat(one_step(Controls(nbar=0.0), dt, "euler_maruyama"), 1000)
    growth = np.log(np.linalg.det(np.asarray(many.A)[2:4, 2:4])) / (1000 * dt)
    return float(growth / (QUIET.omega_s**2 * dt))


def bias_table() -> Table:
    """Relative errors of n_m, n_s, |<a b>| at some steps."""
    rows = [["stage", "method", "step", "n_m", "n_s", "`abs(<a b>)`"]]
    for stage in STAGES:
        for method, steps in (
            ("euler_maruyama", (0.1, 1, 2, 5, 10)),
            ("interaction_euler", (1, 10, 100)),
        ):
            for s in steps:
                cells = [
                    ("+" if e > 0 else "") + plain(100 * e) + " %"
                    for e in errors(stage, method, s * NS)
                ]
                rows.append([stage, method, f"{s:g} ns", *cells])
    return rows


# --- cost ---------------------------------------------------------------------------------------

SHOTS, TIME = 1000, 200e-6


def shot_step_seconds(shots: int = 2048, samples: int = 1000, rounds: int = 5) -> dict[str, float]:
    """Return the time of one shot's sample by `simulate` (float32, I and Q kept), by method.

    Medians, interleaved, compiled programs warm; samples of a step usual for the method, and
    "composed": samples of 500 ns of 5,000 Euler-Maruyama steps each.
    """
    usual = dict(exact=500 * NS, interaction_euler=10 * NS, euler_maruyama=1 * NS)
    jobs = {method: (method, dt, 1) for method, dt in usual.items()}
    jobs["composed"] = ("euler_maruyama", 500 * NS, 5000)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, (method, dt, substeps) in jobs.items():
            start = time.perf_counter()
            made = jaxsde.simulate(
                jax.random.key(number), QUIET, one_stage(MEASUREMENT, dt, samples),
                jaxsde.Detector(sample_interval=dt), shots, method=method, substeps=substeps,
                dtype=jnp.float32,
            )  # fmt: skip
            jax.block_until_ready(made.record)
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) / (shots * samples) for name, t in times.items()}


def cost_table(seconds: dict[str, float]) -> Table:
    """Time of 1,000 shots of 200 us at a stated error of the moments."""
    rows = [["method", "ns/shot-step", "s/shot-second", "stage", "error", "step", "steps", "time"]]
    for method in METHODS:
        for stage in STAGES:
            for error in (1e-2, 1e-3):
                dt = 500 * NS if method == "exact" else step_for(stage, method, error)
                total = SHOTS * TIME / dt * seconds[method]
                each = [plain(seconds[method] / NS), plain(seconds[method] / dt)]
                shown = "1e-12" if method == "exact" else f"{100 * error:g} %"
                cost = [f"{plain(dt / NS)} ns", plain(TIME / dt), f"{plain(total)} s"]
                rows.append([method, *each, stage, shown, *cost])
            if method == "exact":
                rows.pop()
    each, off = seconds["composed"], worst("measurement", "euler_maruyama", 0.1 * NS)
    total = SHOTS * TIME / (500 * NS) * each
    row = ["euler_maruyama, 5,000 composed", plain(each / NS), plain(each / (500 * NS))]
    cost = ["0.1 ns", "400", f"{plain(total)} s"]
    rows.append([*row, "measurement", f"{plain(100 * off)} %", *cost])
    return rows


# --- float32 ------------------------------------------------------------------------------------


def rounded(dt: float, duration: float) -> float:
    """Return the worst error of the moments when the Steps' coefficients alone are float32."""
    _, start, _ = STAGES["measurement"]
    step = one_step(MEASUREMENT, dt)
    made = make_step(
        step.A[:, :6, None],
        step.Q[..., None],
        jnp.ones((1, 1)),
        jnp.asarray(0.0),
        dt,
        jnp.dtype("float32"),
    )
    a, root = (np.asarray(leaf[..., 0], float) for leaf in (made.A, made.L))
    got = after(
        Transition(A=jnp.asarray(a), Q=jnp.asarray(root @ root.T)), start, round(duration / dt)
    )
    return float(np.abs(moments(got) / moments(reference(MEASUREMENT, start, duration)) - 1).max())


def drift_apart(dt: float, samples: int, shots: int) -> tuple[np.ndarray, ...]:
    """Return (steps, rms difference of D, bias of <D^2>) of float32 shots against float64 ones.

    The difference in units of D's own rms; the bias in units of the Monte Carlo error of <D^2>
    from so many shots. Both over windows of a quarter octave of steps.
    """
    sequence, detector = one_stage(MEASUREMENT, dt, samples), jaxsde.Detector.ideal(dt)
    narrow, wide = (
        np.asarray(
            jaxsde.simulate(jax.random.key(5), QUIET, sequence, detector, shots, dtype=t).record,
            float,
        )[..., 0]
        for t in (jnp.float32, jnp.float64)
    )
    edges = np.unique(np.geomspace(1, samples, 4 * int(np.log2(samples))).astype(int))
    steps, apart, bias = [], [], []
    for first, last in itertools.pairwise(edges):
        a, b = narrow[:, first:last], wide[:, first:last]
        steps.append(np.sqrt(first * last))
        apart.append(np.sqrt(((a - b) ** 2).mean() / (b**2).mean()))
        scatter = (b**2).mean(axis=1).std() / np.sqrt(shots)
        bias.append(abs((a**2 - b**2).mean()) / scatter)
    return np.array(steps), np.array(apart), np.array(bias)


def float32_table(runs: dict[float, tuple[np.ndarray, ...]], shots: dict[float, int]) -> Table:
    """Differences between float32 and float64 at the end of a run."""
    rows = [
        ["step", "steps", "rms difference", "bias of `<D^2>`", "bias from rounded coefficients"]
    ]
    for dt, (steps, apart, bias) in runs.items():
        for k in (np.searchsorted(steps, 100), len(steps) - 1):
            biased = f"{bias[k]:.0e} standard errors of {shots[dt]:,} shots"
            shift = f"{rounded(dt, round(steps[k]) * dt):.0e}"
            rows.append([f"{dt / NS:g} ns", plain(steps[k]), f"{apart[k]:.0e}", biased, shift])
    return rows


# --- propagator -----------------------------------------------------------------------------------


def propagator_table() -> Table:
    """Errors of one exact map of (x, integral of D) against mpmath with 50 digits."""
    rows = [["kappa h", "A, measurement", "Q, measurement", "A, pulse", "Q, pulse"]]
    for kappa_h in (0.01, 1.0, 11.0, 34.0, 1000.0):
        row = [f"{kappa_h:g}"]
        for controls in (MEASUREMENT, PULSE):
            m = augment(drift(QUIET, controls), measured(QUIET)[None])
            d = augment_diffusion(diffusion(QUIET, controls), jnp.zeros((6, 1)), jnp.zeros((1, 1)))
            h = kappa_h / QUIET.kappa
            a, q = oracles_quantum.mp_interval_map(np.asarray(m), np.asarray(d), h)
            rate = float(np.abs(np.asarray(m)[:6]).sum(axis=1).max())
            doublings = max(1, int(np.ceil(np.log2(max(2 * rate * h / 0.05, 1.0)))))
            step, s = exact(m, d, h, doublings), np.sqrt(np.diag(q))
            off_a = np.abs(np.asarray(step.A)[:6, :6] - a[:6, :6]).max() / np.abs(a[:6, :6]).max()
            off_q = (np.abs(np.asarray(step.Q) - q) / np.outer(s, s)).max()
            row += [f"{x:.0e}" if x > 2e-16 else "below 2e-16" for x in (off_a, off_q)]
        rows.append(row)
    return rows


def show(title: str, rows: Table) -> None:
    """Print a table as Markdown, under its name on the page."""
    print(f"\n<!-- {title} -->")
    for i, row in enumerate(rows):
        print("| " + " | ".join(row) + " |")
        if i == 0:
            print("|" + " --- |" * len(row))


def main() -> None:
    """Print every table and draw every figure."""
    jax.config.update("jax_enable_x64", True)
    seconds = shot_step_seconds()
    curves = {s: {m: curve(s, m) for m in METHODS} for s in STAGES}
    shots = {0.5e-6: 2048, 5e-9: 512}
    runs = {dt: drift_apart(dt, n, shots[dt]) for dt, n in ((0.5e-6, 4000), (5e-9, 40_000))}
    counts = (1, 2, 4, 8, 16)
    moved = {name: ramps.curves(name, counts, ramps.TOLERANCES) for name in ramps.CASES}
    show("bias", bias_table())
    print(f"\n<!-- gain -->{spurious_gain(NS):.5f} omega^2 dt")
    show("cost", cost_table(seconds))
    show("float32", float32_table(runs, shots))
    show("ramps", ramps.table(moved))
    show("propagator", propagator_table())
    folder = ROOT / "docs" / "img"
    figures.draw_steps(curves, QUIET.omega_s, folder)
    figures.draw_cost(curves, seconds, SHOTS, TIME, folder)
    figures.draw_float32(runs, shots, folder)
    figures.draw_ramps(moved, folder)


if __name__ == "__main__":
    main()

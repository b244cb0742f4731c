"""Compare the engine with other libraries and with a program written by hand.

    python bench/engines.py [--rounds 5] [--out bench/results]

It needs jaxsde and matplotlib, and for the rivals that are there diffrax, torchsde (PyTorch), numba
and a C++ compiler; those that are missing are named and left out.  Everything is timed in turn,
round after round, in one process, each after an untimed run of its own; medians and ranges are of
the rounds, ratios of medians.
Compilation is apart, and all second moments are held against exact covariance arithmetic first.

E: Euler-Maruyama at 1 ns, the last states kept (1,000 shots x 40,000 steps; slow rivals fewer).
X: exact steps of 0.5 us, the record of I and Q kept (10,000 x 1,000).
F: the same, four filter outputs kept instead.
"""

import argparse
import dataclasses
import json
import pathlib
import platform
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import rivals
from rivals import Case

import jaxsde
from jaxsde.engine import backends
from jaxsde.engine.blocks import cut, may_thread, run_blocks
from jaxsde.engine.detect import independent_noise, readout
from jaxsde.engine.noise import seed_words
from jaxsde.engine.outputs import Asked
from jaxsde.engine.plan import segments, transitions
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.step import make_step
from jaxsde.physics.model import initial_covariance
from jaxsde.physics.sequence import Controls, Sequence, Stage

PARAMS = jaxsde.Params.kohler2018(sigma_m=0.0, sigma_s=0.0)
RINGDOWN = Controls(nbar=4.0)
LAST, RECORD, NOTHING = (
    Asked(record=False),
    Asked(states=False),
    Asked(record=False, states=False),
)
SIZES = {"E": (1000, 40_000), "X": (10_000, 1000), "F": (10_000, 1000)}
OMEGA = (float(PARAMS.omega_m) * 1e-9, -float(PARAMS.omega_s) * 1e-9)  # rad/ns
TURNING = "diffrax, rotating frame"
# Vector instructions of a shot-step, counted in the source: for each pair of normals Threefry (47)
# and Box-Muller (52), products of the map, filters or the record's tile; and bytes that leave.
COUNTS = {
    "E": (3 * (47 + 52) + 48, 0),
    "X": (4 * (47 + 52) + 92 + 12, 8),
    "F": (4 * (47 + 52) + 100, 0),
}
# Steps of E for those that would take minutes.
FEWER = 2000


def sequence_of(steps: int, dt: float) -> Sequence:
    """Return a measurement stage."""
    stage = Stage(name="ringdown", n_samples=steps, controls=RINGDOWN)
    return Sequence(stages=(stage,), sample_interval=dt)


def case_of(workload: str, shots: int, steps: int) -> tuple[Case, Sequence, jaxsde.Detector, str]:
    """Return a workload for the rivals and for jaxsde."""
    dt = 1e-9 if workload == "E" else 0.5e-6
    method = "euler_maruyama" if workload == "E" else "exact"
    detector = jaxsde.Detector.ideal(dt) if workload == "E" else jaxsde.Detector()
    sequence = sequence_of(steps, dt)
    resolution = choose_resolution(PARAMS, sequence, method=method)
    (part,) = segments(PARAMS, sequence, resolution)
    at = transitions(PARAMS, part, jnp.zeros((1, 2)), dt, resolution)
    gains = readout(PARAMS, RINGDOWN, detector, 1.0)
    a, q = at.A[0, :, :6], at.Q[0]
    step = make_step(a, q, gains, independent_noise(detector), dt, jnp.dtype("float64"))
    weights = None
    if workload == "F":
        bank = jaxsde.matched_filter(PARAMS, sequence, detector)
        weights = np.moveaxis(np.asarray(bank.weights), 0, -1)
    noise = np.asarray(jaxsde.diffusion(PARAMS, RINGDOWN))
    made = Case(
        A=np.asarray(step.A), R=np.asarray(step.L), C=np.asarray(step.C), S=np.asarray(step.N),
        M=np.asarray(jaxsde.drift(PARAMS, RINGDOWN)) * 1e-9, B=np.sqrt(noise * 1e-9), dt=dt * 1e9,
        shots=shots, steps=steps, weights=weights, record=workload == "X",
    )  # fmt: skip
    return made, sequence, detector, method


def expected_square(case: Case, start: np.ndarray) -> np.ndarray:
    """Return E[v^2] of the last states, the last samples, or the filter outputs.

    start: E[x x^T] at the start.  The filters q' = q + w y are states like x.
    """
    if case.record:
        p = start
        for _ in range(case.steps - 1):
            p = case.A @ p @ case.A.T + case.R @ case.R.T
        return np.diag(case.C @ p @ case.C.T + case.S @ case.S.T)
    if case.weights is None:
        p = start
        for _ in range(case.steps):
            p = case.A @ p @ case.A.T + case.R @ case.R.T
        return np.diag(p)
    p = np.zeros((10, 10))
    p[:6, :6] = start
    for w in case.weights:
        a, r = np.eye(10), np.zeros((10, case.R.shape[1]))
        a[:6, :6], a[6:, :6], r[:6], r[6:] = case.A, w.T @ case.C, case.R, w.T @ case.S
        p = a @ p @ a.T + r @ r.T
    return np.diag(p)[6:]


def largest_z(values: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest |z| of mean squares over shots, (variables, shots)."""
    squares = np.asarray(values, float) ** 2
    error = squares.std(axis=1) / np.sqrt(squares.shape[1])
    return float(np.abs((squares.mean(axis=1) - expected) / error).max())


def engine_run(backend: str, workload: str, shots: int, steps: int, dtype="float32"):
    """Return a function of the round's number that runs one backend of jaxsde."""
    made, sequence, detector, method = case_of(workload, shots, steps)
    resolution = choose_resolution(PARAMS, sequence, method=method)
    chosen = backends.choose_backend(backend, resolution, dtype)
    prepared = backends.prepare(chosen, PARAMS, sequence, detector, resolution)
    weights = None if made.weights is None else jnp.moveaxis(jnp.asarray(made.weights), -1, 0)
    asked = {"E": LAST, "X": RECORD, "F": NOTHING}[workload]
    seed = seed_words(jax.random.key(0))

    native = chosen.build is not None

    def run(number):
        def work(first, size):
            ids = jnp.uint32(number * shots + first) + jnp.arange(size, dtype=jnp.uint32)
            out = backends.run(
                chosen, prepared, seed, PARAMS, sequence, detector, ids, resolution, dtype,
                asked=asked, weights=weights,
            )  # fmt: skip
            return {"E": out.states, "X": out.record, "F": out.filters}[workload]

        blocks = cut(shots, None, native=native, told=False)
        threads = not native and may_thread(PARAMS)
        return jax.block_until_ready(run_blocks(work, blocks, shots, threads=threads))

    return run, made


def last_values(workload: str, out, name: str) -> np.ndarray:
    """Return the variables whose squares are checked, (variables, shots)."""
    out = np.asarray(out)
    if name.startswith("jaxsde"):
        return {"E": lambda: out[:, -1].T, "X": lambda: out[:, -1].T, "F": lambda: out.T}[
            workload
        ]()
    if workload == "X" and out.ndim == 4:  # by hand: blocks of 16 shots
        return np.moveaxis(out[:, -1], 1, 0).reshape(2, -1)
    return out


def rotated_back(u: np.ndarray, case: Case) -> np.ndarray:
    """Return x = R(t) u at the end."""
    _, rotation = rivals.turning(case, OMEGA)
    return rotation(np.float64(case.dt * case.steps)) @ np.asarray(u, float)


def exact_map(case: Case) -> np.ndarray:
    """Return the rotating-frame Euler step's map of x, frozen at one angle: exact to M1^2 dt^2."""
    coupling, rotation = rivals.turning(case, OMEGA)
    return rotation(np.float64(case.dt)) @ (np.eye(6) + coupling * case.dt)


def turning_error(case: Case, dt: float, start: np.ndarray, length: float = 200e-6) -> float:
    """Return the worst relative error of both occupations by rotating-frame Euler at dt (s)."""
    coupling, rotation = rivals.turning(case, OMEGA)
    step = dt * 1e9
    a = rotation(np.float64(step)) @ (np.eye(6) + coupling * step)
    b = rotation(np.float64(step)) @ case.B * np.sqrt(step)
    p = start
    for _ in range(round(length / dt)):
        p = a @ p @ a.T + b @ b.T
    got = (np.diag(p)[0:4:2] + np.diag(p)[1:4:2]) / 4 - 0.5
    return float(np.abs(got / after("exact", 0.5e-6, start, length) - 1).max())


def contestants(workload: str) -> dict:
    """Return {name: (run, case)} of everything that can run a workload here."""
    shots, steps = SIZES[workload]
    found, on_cpu = {}, jax.default_backend() == "cpu"
    for backend in ("fused", "scan"):
        few = FEWER if backend == "scan" and workload == "E" else steps
        found[f"jaxsde, {backend}"] = engine_run(backend, workload, shots, few)
    if not on_cpu and workload == "F":
        found["jaxsde, fused, a million shots"] = engine_run("fused", "F", 1_000_000, steps)
    case = found["jaxsde, fused"][1]
    fewer = case_of(workload, shots, FEWER)[0] if workload == "E" else case
    makers = [("NumPy", rivals.numpy_steps, fewer)]
    if on_cpu:
        makers += [
            ("C++ by hand", rivals.hand_written, case), ("Numba", rivals.numba_steps, case)
        ]  # fmt: skip
    if workload == "E":
        makers += [
            ("torchsde", rivals.torchsde_steps, fewer),
            ("diffrax, vmapped", rivals.diffrax_vmapped, fewer),
            ("diffrax, one batched solve", rivals.diffrax_batched, fewer),
            (TURNING, lambda case: rivals.diffrax_turning(case, OMEGA), fewer),
        ]
    for name, make, given in makers:
        try:
            found[name] = make(given), given
        except (ImportError, OSError) as error:
            print(f"{workload}: {name} left out: {error}")
    return found


def measure(workload: str, rounds: int) -> dict[str, dict]:
    """Check, then time everything in turn; return rates by name."""
    found, first, times, z = contestants(workload), {}, {}, {}
    for name, (run, case) in found.items():
        start = time.perf_counter()
        out = run(0)
        first[name] = time.perf_counter() - start
        own = name.startswith("jaxsde")
        p = np.asarray(initial_covariance(PARAMS)) if own else np.ones((6, 6))
        values = last_values(workload, out, name)
        if name == TURNING:  # its Euler step is another; the frame leaves occupations as they are
            values, case = rotated_back(values, case), dataclasses.replace(case, A=exact_map(case))
        z[name] = largest_z(values, expected_square(case, p))
        times[name] = []
    for number in range(1, rounds + 1):
        for name, (run, _) in found.items():
            run(number)  # untimed: the threads of its predecessor still spin, its memory is cold
            start = time.perf_counter()
            run(number + rounds)
            times[name].append(time.perf_counter() - start)
    made = {}
    for name, (_, case) in found.items():
        rates = sorted(case.shot_steps / t for t in times[name])
        made[name] = dict(
            rate=statistics.median(rates), low=rates[0], high=rates[-1],
            first_call_s=first[name], largest_z=z[name], steps=case.steps,
        )  # fmt: skip
    return made


# --- equal accuracy -------------------------------------------------------------------------------


def after(method: str, step: float, start: np.ndarray, length: float) -> np.ndarray:
    """Return both occupations after `length` (s) of ringdown by steps of one method."""
    sequence, count = sequence_of(1, step), round(length / step)
    resolution = choose_resolution(PARAMS, sequence, method=method)
    (part,) = segments(PARAMS, sequence, resolution)
    at = transitions(PARAMS, part, jnp.zeros((1, 2)), step, resolution)
    a, q, p = np.asarray(at.A)[0, :6, :6], np.asarray(at.Q)[0, :6, :6], start
    while count:  # by binary powers
        if count % 2:
            p = a @ p @ a.T + q
        a, q, count = a @ a, a @ q @ a.T + q, count // 2
    return (np.diag(p)[0:4:2] + np.diag(p)[1:4:2]) / 4 - 0.5


def worst_error(method: str, dt: float, start: np.ndarray, length: float = 200e-6) -> float:
    """Return the worst relative error of both occupations after `length` of ringdown."""
    exact = after("exact", 0.5e-6, start, length)
    return float(np.abs(after(method, dt, start, length) / exact - 1).max())


def step_for(method: str, error: float, start: np.ndarray) -> float:
    """Return the largest Euler step (s) whose occupations are right to `error`."""
    low, high = 1e-12, 1e-7
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if worst_error(method, middle, start) < error else (low, middle)
    return low


def equal_accuracy(rates: dict) -> dict:
    """Return shot-seconds per second at 1 % of the occupations, after the pulse's own state."""
    pulse = jaxsde.Sequence.kohler2018(t_preparation=10e-6)
    stages = dataclasses.replace(pulse, stages=pulse.stages[:3])
    start = np.asarray(jaxsde.covariance(PARAMS, stages))[-1]
    lab, turning = (step_for(m, 0.01, start) for m in ("euler_maruyama", "interaction_euler"))
    case = case_of("E", 16, 2)[0]
    frame = max(
        (
            dt
            for dt in (2e-9, 5e-9, 1e-8, 2e-8, 3e-8, 4e-8, 6e-8)
            if turning_error(case, dt, start) < 0.01
        ),
        default=0.0,
    )
    made = {"jaxsde, fused, exact steps": rates["X"]["jaxsde, fused"]["rate"] * 0.5e-6}
    for name in ("diffrax, one batched solve", "diffrax, vmapped", "torchsde", "NumPy"):
        if name in rates["E"]:
            made[f"{name}, laboratory Euler at {lab * 1e9:.3f} ns"] = rates["E"][name]["rate"] * lab
    if TURNING in rates["E"]:
        made[f"{TURNING} at {frame * 1e9:.0f} ns"] = rates["E"][TURNING]["rate"] * frame
    made[f"jaxsde, fused, laboratory Euler at {lab * 1e9:.3f} ns"] = (
        rates["E"]["jaxsde, fused"]["rate"] * lab
    )
    made[f"jaxsde, fused, interaction-picture Euler at {turning * 1e9:.1f} ns"] = (
        rates["X"]["jaxsde, fused"]["rate"] * turning
    )
    made["jaxsde, fused, interaction-picture Euler at 20 ns"] = (
        rates["X"]["jaxsde, fused"]["rate"] * 20e-9
    )
    return made


# --- what is told ---------------------------------------------------------------------------------


def tell(rates: dict, accuracy: dict, peak: float) -> str:
    """Return the tables, in Markdown."""
    lines = []
    for workload, made in rates.items():
        best = made["jaxsde, fused"]["rate"]
        lines += [f"\n| {workload} | shot-steps/s | range | fused is faster by | largest z |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for name, one in sorted(made.items(), key=lambda item: -item[1]["rate"]):
            lines.append(
                f"| {name} | {one['rate']:.2e} | {one['low']:.2e} to {one['high']:.2e} | "
                f"{best / one['rate']:.3g} | {one['largest_z']:.1f} |"
            )
    if peak:
        lines += [
            "\n| fused | instructions, bytes of a shot-step | share of the peak |",
            "| --- | --- | --- |",
        ]
        for workload, (instructions, written) in COUNTS.items():
            share = rates[workload]["jaxsde, fused"]["rate"] * instructions / 16 / peak
            lines.append(f"| {workload} | {instructions}/16, {written} | {100 * share:.0f} % |")
        lines.append(
            f"\nPeak: {peak:.3g} vector instructions per second (fused products, all cores)."
        )
    best = accuracy["jaxsde, fused, exact steps"]
    lines += [
        "\n| at 1 % of the occupations | shot-seconds per second | ratio |",
        "| --- | --- | --- |",
    ]
    for name, value in sorted(accuracy.items(), key=lambda item: -item[1]):
        lines.append(f"| {name} | {value:.3g} | {best / value:.3g} |")
    return "\n".join(lines)


def draw(rates: dict, path: pathlib.Path) -> None:
    """Draw the rates as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    for axes, (workload, made) in zip(
        figure.subplots(3, 1, sharex=True), rates.items(), strict=True
    ):
        ordered = sorted(made.items(), key=lambda item: item[1]["rate"])
        values = [one["rate"] for _, one in ordered]
        spread = [
            [o["rate"] - o["low"] for _, o in ordered],
            [o["high"] - o["rate"] for _, o in ordered],
        ]
        axes.barh([name for name, _ in ordered], values, xerr=spread, color="0.6", ecolor="k")
        axes.set_xscale("log")
        axes.set_title(f"workload {workload}", loc="left", fontsize=10)
    axes.set_xlabel("shot-steps per second")
    figure.savefig(path)


def main() -> None:
    """Measure, check, print, and write what was found."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--out", type=pathlib.Path, default=pathlib.Path("bench/results"))
    given = arguments.parse_args()
    jax.config.update("jax_enable_x64", True)
    device = jax.devices()[0]
    rates = {workload: measure(workload, given.rounds) for workload in SIZES}
    accuracy = equal_accuracy(rates)
    print(
        f"{device.device_kind}, {platform.processor() or platform.machine()}, JAX {jax.__version__}"
    )
    peak = rivals.peak() if device.platform == "cpu" else 0.0
    print(tell(rates, accuracy, peak))
    given.out.mkdir(parents=True, exist_ok=True)
    name = f"engines-{device.platform}"
    text = json.dumps(dict(device=device.device_kind, jax=jax.__version__, rates=rates,
                           shot_seconds_per_second=accuracy), indent=2)  # fmt: skip
    (given.out / f"{name}.json").write_text(text + "\n")
    draw(rates, given.out / f"{name}.png")


if __name__ == "__main__":
    main()

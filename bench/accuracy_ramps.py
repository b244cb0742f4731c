"""Errors of ramps and of a switched probe against the sub-steps taken; used by accuracy.py.

An error is the largest of the covariance's and of the responses' (twice), in units of the
variables' standard deviations: what `choose_resolution` estimates, here against DOP853.
"""

import dataclasses
import functools
import pathlib
import sys

import jax.numpy as jnp
import numpy as np

import jaxsde
from jaxsde.engine.plan import segments, transitions
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.physics.meanfield import amplitude, frame_turn
from jaxsde.physics.model import diffusion
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Sequence, Stage, Switching

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "tests"))
import oracles
import oracles_light

WARM = jaxsde.Params.kohler2018(sigma_m=0.0, sigma_s=0.0, n_m0=10.0, n_s0=10.0)
THERMAL = np.diag([21.0, 21.0, 21.0, 21.0, 0.5, 0.5])
DT, RISE = 0.5e-6, 0.5e-6
RED, HIGH = TWO_PI * -2.0e6, TWO_PI * 125.5e3
BEFORE = Controls(nbar=4.0)
SWITCHED = "probe switched in 0.5 µs"
CASES = {
    "omega_m, 125.5 to 95 kHz": Controls(nbar=4.0, omega_m=(HIGH, TWO_PI * 95e3)),
    "nbar, 1 to 10": Controls(nbar=(1.0, 10.0), delta_pc=RED, omega_m=HIGH),
    "delta_pc, -2.0 to 0 MHz": Controls(nbar=10.0, delta_pc=(RED, 0.0), omega_m=HIGH),
    SWITCHED: Controls(nbar=10.0, delta_pc=RED, omega_m=HIGH),
}
# Samples that move: a ramp of 10 us, and 2.5 us after the switch.
LENGTH = {name: 5 if name == SWITCHED else 20 for name in CASES}

Map = tuple[np.ndarray, np.ndarray]


def sequence_of(name: str) -> Sequence:
    """Return the sequence of a case: a ramp alone, or a switch after 1 us of measurement."""
    last = Stage(name="moving", n_samples=LENGTH[name], controls=CASES[name])
    if name != SWITCHED:
        return Sequence(stages=(last,), sample_interval=DT)
    first = Stage(name="before", n_samples=2, controls=BEFORE)
    switching = Switching(rise_time=RISE)
    return Sequence(stages=(first, last), sample_interval=DT, switching=switching)


def package_map(name: str, resolution: Resolution) -> Map:
    """Return (A, Q) of what moves, from the Transitions that the shots are made with."""
    part = segments(WARM, sequence_of(name), resolution)[-1]
    assert part.moves and part.n_samples == LENGTH[name]
    made = transitions(WARM, part, jnp.zeros((1, 2)), DT, resolution)
    # From the stage's own reference of phase, in which the estimate is made too.
    a, q = np.linalg.inv(_turn(name)), np.zeros((6, 6))
    for step, noise in zip(
        np.asarray(made.A)[:, 0, :6, :6], np.asarray(made.Q)[:, 0, :6, :6], strict=True
    ):
        a, q = step @ a, step @ q @ step.T + noise
    return a, q


def _turn(name: str) -> np.ndarray:
    """Return the rotation of the state into the moving stage's reference of phase."""
    turn = np.eye(6)
    if name == SWITCHED:
        turn[4:, 4:] = np.asarray(frame_turn(WARM, BEFORE, CASES[name]))
    return turn


@functools.cache
def reference(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (covariance before, A, Q) of what moves, by DOP853."""
    names = ("omega_s", "epsilon", "kappa", "g_m", "g_s", "g_sm", "gamma_m")
    system = {n: getattr(WARM, n) for n in names}
    c, d, duration = CASES[name], np.array(diffusion(WARM, CASES[name])), LENGTH[name] * DT

    def at(value, f):
        return value[0] + (value[1] - value[0]) * f if isinstance(value, tuple) else value

    def ramp(f):
        controls = {n: at(getattr(c, n), f) for n in ("nbar", "delta_pc", "omega_m")}
        return oracles.hamiltonian_drift(**system, **controls)

    if name != SWITCHED:
        return THERMAL, *oracles.joint_map(duration, ramp, d, 6)
    # The drive is real throughout, so that the reference of phase stays; turned in the end.
    before = oracles.hamiltonian_drift(**system, nbar=4.0, delta_pc=0.0, omega_m=WARM.omega_m)
    old, new = (float(amplitude(WARM, x, 1.0)) for x in (BEFORE, c))
    field, _ = oracles_light.mean_field(
        duration, kappa=WARM.kappa, delta_pc=c.delta_pc, before=old, after=new, rise=RISE, start=2.0
    )

    def switched(t):
        alpha = field(t / duration)
        return oracles.hamiltonian_drift(
            **system, nbar=abs(alpha) ** 2, phase=np.angle(alpha), delta_pc=c.delta_pc, omega_m=HIGH
        )

    (start,) = oracles.moment_ode([(2 * DT, lambda _: before, d)], THERMAL)
    rest = duration - RISE
    a1, q1 = oracles.joint_map(RISE, lambda f: switched(f * RISE), d, 6)
    a2, q2 = oracles.joint_map(rest, lambda f: switched(RISE + f * rest), d, 6)
    turn = _turn(name)
    q = a2 @ q1 @ a2.T + q2
    return turn @ start @ turn.T, turn @ a2 @ a1 @ turn.T, turn @ q @ turn.T


def true_error(name: str, resolution: Resolution) -> float:
    """Return the error of a case; see the module."""
    (a1, q1), (start, a2, q2) = package_map(name, resolution), reference(name)
    p1, p2 = a1 @ start @ a1.T + q1, a2 @ start @ a2.T + q2
    before, after = np.sqrt(np.diag(start)), np.sqrt(np.diag(p2))
    response = 2 * np.abs(a1 - a2) * before[None] / after[:, None]
    return float(max((np.abs(p1 - p2) / np.outer(after, after)).max(), response.max()))


def chosen(name: str, tolerance: float) -> tuple[int, float, float]:
    """Return (sub-steps, estimate, true error) that a tolerance gives a case."""
    made = choose_resolution(WARM, sequence_of(name), tolerance=tolerance)
    count = made.switch_substeps if name == SWITCHED else made.ramp_substeps
    return count, made.ramp_error, true_error(name, made)


def curves(name: str, counts: tuple[int, ...], tolerances: tuple[float, ...]):
    """Return [(sub-steps, true error)] and [(sub-steps, estimate, true error)] of a case."""
    base = choose_resolution(WARM, sequence_of(name))
    made = (dataclasses.replace(base, ramp_substeps=k, switch_substeps=k) for k in counts)
    found = [(k, true_error(name, r)) for k, r in zip(counts, made, strict=True)]
    return found, [chosen(name, tolerance) for tolerance in tolerances]


def table(moved: dict) -> list[list[str]]:
    """Return measured orders, and errors at the tolerance that is the default."""
    rows = [["what moves", "order", "tolerance", "sub-steps", "estimate", "true error"]]
    for name, (found, made) in moved.items():
        (k1, e1), (k2, e2) = [(k, e) for k, e in found if e > 1e-9][-2:]
        order = np.log(e1 / e2) / np.log(k2 / k1)
        for i, (tolerance, (k, estimate, true)) in enumerate(zip(TOLERANCES, made, strict=True)):
            first = ["", ""] if i else [name, f"{order:.1f}"]
            rows.append([*first, f"{tolerance:.0e}", f"{k}", f"{estimate:.1e}", f"{true:.1e}"])
    return rows


TOLERANCES = (1e-4, 1e-6, 1e-8)

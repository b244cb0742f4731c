"""The same workloads written for other libraries and by hand, for bench/engines.py.

Each takes a Case (maps of one sample, drift and noise of one Euler step) and returns a function
that runs it once and returns final states or filter outputs, whose moments the caller checks.
"""

import ctypes
import dataclasses
import functools
import os
import pathlib
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsde.engine import native


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Hold one workload: x' = A x + R xi, y = C x + S xi, and the continuous M and B, in 1/ns.

    weights: (steps, 2, 4) of the filters, or None.  record: whether y is kept.
    """

    A: np.ndarray
    R: np.ndarray
    C: np.ndarray
    S: np.ndarray
    M: np.ndarray
    B: np.ndarray
    dt: float
    shots: int
    steps: int
    weights: np.ndarray | None = None
    record: bool = False

    @property
    def shot_steps(self) -> int:
        """Steps of all shots."""
        return self.shots * self.steps


Run = Callable[[int], Any]


def numpy_steps(case: Case) -> Run:
    """Return NumPy's: all shots at once, one step after another."""
    a, r, c, s = (np.asarray(m, np.float32) for m in (case.A, case.R, case.C, case.S))

    def run(seed):
        rng = np.random.default_rng(seed)
        x = np.ones((6, case.shots), np.float32)
        y = np.empty((case.steps, len(c), case.shots), np.float32) if case.record else None
        q = np.zeros((4, case.shots), np.float32)
        for t in range(case.steps):
            xi = rng.standard_normal((r.shape[1], case.shots), np.float32)
            if case.record or case.weights is not None:
                now = c @ x + s @ xi
                if y is not None:
                    y[t] = now
                if case.weights is not None:
                    q += case.weights[t].T @ now
            x = a @ x + r @ xi
        if y is not None:
            return y[-1]
        return q if case.weights is not None else x

    return run


def numba_steps(case: Case) -> Run:
    """Return Numba's: a compiled loop over shots, on all cores, NumPy's generator in the loop."""
    import numba

    a, r, c, s = (np.asarray(m, np.float32) for m in (case.A, case.R, case.C, case.S))
    weights = np.zeros((case.steps, 2, 4), np.float32)
    if case.weights is not None:
        weights = np.asarray(case.weights, np.float32)
    record, filtered, outputs = case.record, case.weights is not None, len(c)

    @numba.njit(parallel=True, fastmath=True)
    def all_shots(n, steps, y, q, last):
        for shot in numba.prange(n):
            x, after = np.ones(6, np.float32), np.empty(6, np.float32)
            xi = np.empty(r.shape[1], np.float32)
            for t in range(steps):
                for j in range(xi.size):
                    xi[j] = np.random.standard_normal()  # noqa: NPY002
                if record or filtered:
                    for k in range(outputs):
                        now = np.float32(0)
                        for j in range(6):
                            now += c[k, j] * x[j]
                        for j in range(xi.size):
                            now += s[k, j] * xi[j]
                        if record:
                            y[shot, t, k] = now
                        if filtered:
                            for f in range(4):
                                q[shot, f] += weights[t, k, f] * now
                for i in range(6):
                    total = np.float32(0)
                    for j in range(6):
                        total += a[i, j] * x[j]
                    for j in range(xi.size):
                        total += r[i, j] * xi[j]
                    after[i] = total
                x[:] = after
            last[shot] = x

    def run(seed):
        y = np.empty((case.shots, case.steps, outputs) if record else (1, 1, 1), np.float32)
        q = np.zeros((case.shots, 4), np.float32)
        last = np.empty((case.shots, 6), np.float32)
        all_shots(case.shots, case.steps, y, q, last)
        if record:
            return y[:, -1].T
        return q.T if filtered else last.T

    return run


def hand_written(case: Case) -> Run:
    """Return the C++ of bench/hand.cc: threads, sixteen shots side by side, one map for all."""
    loaded = _library()
    matrices = [np.ascontiguousarray(m, np.float32) for m in (case.A, case.R, case.C, case.S)]
    n = 16 * (case.shots // 16)
    weights = None if case.weights is None else np.ascontiguousarray(case.weights, np.float32)

    def pointer(array):
        return array.ctypes.data_as(ctypes.c_void_p)

    def run(_):
        size = (n // 16, 4, 16) if weights is not None else (n // 16, 6, 16)
        out = np.empty(size, np.float32)
        common = [*map(pointer, matrices), ctypes.c_int64(n), ctypes.c_int64(case.steps)]
        if case.record:
            record = np.empty(n * case.steps * 2, np.float32)
            loaded.hand_x(*common, pointer(record))
            return record.reshape(n // 16, case.steps, 2, 16)
        if weights is not None:
            loaded.hand_f(*common, pointer(weights), pointer(out))
        else:
            loaded.hand_e(*common, pointer(out))
        return np.moveaxis(out, 1, 0).reshape(size[1], n)

    return run


def peak() -> float:
    """Return the vector instructions per second of all cores, sixteen numbers each."""
    n = 1 << 28
    library = _library()
    library.hand_peak(ctypes.c_int64(n // 8))
    start = time.perf_counter()
    library.hand_peak(ctypes.c_int64(n))
    return (os.cpu_count() or 1) * n / (time.perf_counter() - start)


@functools.cache
def _library() -> ctypes.CDLL:
    """Return bench/hand.cc, compiled as the kernel is."""
    source = pathlib.Path(__file__).with_name("hand.cc")
    made = pathlib.Path(tempfile.mkdtemp()) / "hand.so"
    flags = (*native.CPU_FLAGS, "-pthread", f"-I{native.source_folder()}")
    subprocess.run(
        [*shlex.split(native.compilers("cpu")[0]), *flags, str(source), "-o", str(made)], check=True
    )
    return ctypes.CDLL(str(made))


def torchsde_steps(case: Case) -> Run:
    """Return torchsde's Euler with diagonal noise, all shots as one batch."""
    import torch
    import torchsde

    m, b = (torch.tensor(v, dtype=torch.float32) for v in (case.M.T, np.diag(case.B)))

    class System(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t, x):
            return x @ m

        def g(self, t, x):
            return b.expand_as(x)

    system, end = System(), case.dt * case.steps
    times = torch.tensor([0.0, end])

    def run(seed):
        torch.manual_seed(seed)
        with torch.no_grad():
            path = torchsde.BrownianInterval(0.0, end, size=(case.shots, 6), entropy=seed)
            start = torch.ones(case.shots, 6)
            out = torchsde.sdeint(system, start, times, bm=path, dt=case.dt, method="euler")
        return out[-1].numpy().T

    return run


def _solve(case: Case, width: int | None):
    """Return diffrax's Euler solve of one shot, or of `width` shots as one state."""
    import diffrax
    import lineax

    m, b = jnp.asarray(case.M, jnp.float32), jnp.asarray(np.diag(case.B), jnp.float32)
    shape = (6,) if width is None else (6, width)

    def one(key):
        spread = b if width is None else b[:, None]
        noise = diffrax.UnsafeBrownianPath(jax.ShapeDtypeStruct(shape, jnp.float32), key)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, x, _: m @ x),
            diffrax.ControlTerm(
                lambda t, x, _: lineax.DiagonalLinearOperator(jnp.broadcast_to(spread, shape)),
                noise,
            ),
        )
        return diffrax.diffeqsolve(
            terms, diffrax.Euler(), 0.0, case.dt * case.steps, case.dt,
            jnp.ones(shape, jnp.float32), saveat=diffrax.SaveAt(t1=True),
            adjoint=diffrax.DirectAdjoint(), max_steps=case.steps + 8, throw=False,
        ).ys[0]  # fmt: skip

    return one


def diffrax_vmapped(case: Case) -> Run:
    """Return diffrax's usual form: vmap over the solve of one shot."""
    solve = jax.jit(jax.vmap(_solve(case, None)))

    def run(seed):
        keys = jax.random.split(jax.random.key(seed), case.shots)
        return jax.block_until_ready(solve(keys)).T

    return run


def diffrax_batched(case: Case) -> Run:
    """Return diffrax's fastest form: all shots are one state of one solve."""
    solve = jax.jit(_solve(case, case.shots))

    def run(seed):
        return jax.block_until_ready(solve(jax.random.key(seed)))

    return run


def turning(case: Case, omega: tuple[float, float]) -> tuple[np.ndarray, Callable]:
    """Return (M1, R): M less the rotations at omega (rad/ns), and R(t), the rotation by them.

    In the frame u = R(-t) x:  du = R(-t) M1 R(t) u dt + R(-t) B dW.
    """
    free = np.zeros((6, 6))
    for i, w in ((0, omega[0]), (2, omega[1])):
        free[i, i + 1], free[i + 1, i] = w, -w

    def rotation(t, xp=np):
        (a, b), (c, d) = ((xp.cos(w * t), xp.sin(w * t)) for w in omega)
        zero, one = xp.zeros_like(a), xp.ones_like(a)
        rows = [
            [a, b, zero, zero, zero, zero],
            [-b, a, zero, zero, zero, zero],
            [zero, zero, c, d, zero, zero],
            [zero, zero, -d, c, zero, zero],
            [zero, zero, zero, zero, one, zero],
            [zero, zero, zero, zero, zero, one],
        ]
        return xp.stack([xp.stack(row) for row in rows])

    return case.M - free, rotation


def diffrax_turning(case: Case, omega: tuple[float, float]) -> Run:
    """Return diffrax's Euler in the rotating frame, all shots as one state of one solve."""
    import diffrax
    import lineax

    coupling, rotation = turning(case, omega)
    m, b = jnp.asarray(coupling, jnp.float32), jnp.asarray(case.B, jnp.float32)
    shape = (6, case.shots)

    def at(t):
        return rotation(jnp.asarray(t, jnp.float32), jnp)

    def spread(t):
        turned = at(-t) @ b
        sizes = jax.ShapeDtypeStruct(shape, jnp.float32)
        return lineax.FunctionLinearOperator(lambda dw: turned @ dw, sizes)

    @jax.jit
    def solve(key):
        noise = diffrax.UnsafeBrownianPath(jax.ShapeDtypeStruct(shape, jnp.float32), key)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, u, _: at(-t) @ (m @ (at(t) @ u))),
            diffrax.ControlTerm(lambda t, u, _: spread(t), noise),
        )
        return diffrax.diffeqsolve(
            terms, diffrax.Euler(), 0.0, case.dt * case.steps, case.dt,
            jnp.ones(shape, jnp.float32), saveat=diffrax.SaveAt(t1=True),
            adjoint=diffrax.DirectAdjoint(), max_steps=case.steps + 8, throw=False,
        ).ys[0]  # fmt: skip

    return lambda seed: jax.block_until_ready(solve(jax.random.key(seed)))

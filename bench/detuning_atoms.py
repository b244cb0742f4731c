"""Beyond the linear model: truncated-Wigner shots of S1, of one collective atom or of all 3,000.

Driver of detuning_atoms.cc, which it compiles with the system's C++ compiler.  NOT the engine of
jaxsde: a model of its own for bench/detuning.py, with the cavity's response to D in full, the spins
as vectors, and on demand the sin^2 of trap and probe and every atom by itself.
"""

import ctypes
import dataclasses
import functools
import math
import pathlib
import shutil
import subprocess
import tempfile

import jax.numpy as jnp
import numpy as np
from detuning_chain import (
    DETECTOR,
    DT,
    KHZ,
    TWO_PI,
    US,
    Setting,
    parameters,
    sequence,
)
from detuning_peak import fit_peak, from_pulse, peak_of, redrawn

import jaxsde as js
from jaxsde.analysis.displacement import MeanSquaredDisplacement
from jaxsde.engine.detect import independent_noise, quadrature_gains
from jaxsde.physics.meanfield import amplitude
from jaxsde.physics.params import HBAR, RB87_MASS

H = 25e-9  # s, a step
PER = round(DT / H)
TRAP, PROBE = 842e-9, 780e-9  # wavelengths, m
ATOMS = 3000


class Model(ctypes.Structure):
    """Mirror of Model in detuning_atoms.cc."""

    _fields_ = [
        *(
            (name, ctypes.c_int32)
            for name in ("atoms", "flat", "softens", "harmonic", "n_samples", "per")
        ),
        *(
            (name, ctypes.c_double)
            for name in (
                "h w_ref eta eta_t G0 G1 omega_s kappa sigma_m sigma_s gamma n_bath "
                "n_atom n_m0 n_s0 length mean_u"
            ).split()
        ),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    """Compile detuning_atoms.cc and load it.  Raises RuntimeError without a C++ compiler."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise RuntimeError("detuning_atoms: wanted g++ or clang++ on the PATH, got neither")
    source = pathlib.Path(__file__).with_suffix(".cc")
    made = pathlib.Path(tempfile.mkdtemp()) / "atoms.so"
    flags = "-O3 -march=native -mprefer-vector-width=512 -ffast-math -fopenmp -shared -fPIC".split()
    subprocess.run([compiler, *flags, str(source), "-o", str(made)], check=True)
    return ctypes.CDLL(str(made))


def length(w: float) -> float:
    """Return z_HO (m) of an atom in a trap of w (rad/s)."""
    return math.sqrt(HBAR / (2 * RB87_MASS * w))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """Hold which model.

    atoms: 1 is the collective motion with one spin of length F = 6,000.
    probe: "flat", linear in Z, or "sine".
    trap: "harmonic"; "softens", as the cloud gets hotter, by exp(-4 (k z_HO)^2 (n - n_atom)) of
        omega^2, which is <cos 2 k z> of a normal cloud; or "sine".
    n_atom: occupation of an atom's own motion at the start.
    """

    atoms: int = 1
    probe: str = "flat"
    trap: str = "harmonic"
    n_atom: float = 1.0


def model(kind: Kind, setting: Setting, w: float, n_samples: int) -> Model:
    """Return the constants; couplings are the setting's g_m, g_s, g_sm at the trap's w (rad/s).

    Those are of the cloud as it is: g_m and g_sm hold <cos 2 k z>, which sin^2 lowers.
    """
    p, n = setting.params, kind.atoms
    spin = 2.0 * ATOMS / n
    if n == 1:
        eta = -p.g_sm / (2 * p.g_s)
    else:
        eta = TWO_PI / PROBE * length(w)
    # sin 2 eta Z of a normal cloud acts as its slope times exp(-2 eta^2 Var Z).
    seen = eta
    if kind.probe == "sine" and n > 1:
        seen = eta * math.exp(-2 * eta**2 * (2 * kind.n_atom + 1))
    return Model(
        atoms=n, flat=kind.probe == "flat", softens=kind.trap == "softens",
        harmonic=kind.trap != "sine", n_samples=n_samples, per=PER, h=H, w_ref=w, eta=eta,
        eta_t=eta * PROBE / TRAP, G0=-p.g_m / (seen * math.sqrt(n)),
        G1=2 * p.g_s / math.sqrt(n * spin / 2), omega_s=p.omega_s, kappa=p.kappa,
        sigma_m=p.sigma_m, sigma_s=p.sigma_s, gamma=p.gamma_m, n_bath=p.n_bath,
        n_atom=p.n_m0 if n == 1 else kind.n_atom, n_m0=p.n_m0, n_s0=p.n_s0, length=spin, mean_u=0.5,
    )  # fmt: skip


def softening(kind: Kind, w: float) -> float:
    """Return w of the trap's bottom over that of the cloud's oscillation, for one at w (rad/s).

    <cos 2 k_t z> of a normal cloud: what a small oscillation of all atoms feels.
    """
    if kind.atoms == 1 or kind.trap != "sine":
        return 1.0
    return math.exp((TWO_PI / TRAP * length(w)) ** 2 * (2 * kind.n_atom + 1))


def schedule(setting: Setting, delta: float, kind: Kind):
    """Return (trap, drive, detuning) of every step, rad/s and 1/s, and its sequence."""
    s, p = sequence(setting, delta), setting.params
    w, drive, detuning, old = [], [], [], None
    for stage in s.stages:
        n, now = stage.n_samples * PER, stage.controls
        at = (np.arange(n) + 0.5) / n
        ends = now.omega_m if isinstance(now.omega_m, tuple) else (now.omega_m, now.omega_m)
        ends = [float(e) * softening(kind, float(e)) for e in ends]
        w.append(ends[0] + (ends[1] - ends[0]) * at)
        e = float(amplitude(p, now, 1.0))
        t = (np.arange(n) + 0.5) * H
        risen = np.ones(n)
        if setting.rise > 0:
            risen = (1 - np.cos(np.pi * np.clip(t / setting.rise, 0, 1))) / 2
        drive.append((e if old is None else old) + (e - (e if old is None else old)) * risen)
        old = e
        detuning.append(np.full(n, float(now.delta_pc)))
    return *(np.concatenate(x) for x in (w, drive, detuning)), s


def simulate_atoms(
    setting: Setting, delta: float, kind: Kind, shots: int, seed: int
) -> tuple[np.ndarray, js.Sequence]:
    """Return what `shots` of detuning_atoms.cc writes, (shots, 8, samples), and the sequence."""
    w, drive, detuning, s = schedule(setting, delta, kind)
    up = float(setting.params.omega_s + delta)
    made = model(kind, setting, up, s.n_samples)
    out = np.empty((shots, 8, s.n_samples), np.float32)
    pointer = [x.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for x in (w, drive, detuning)]
    library().shots(
        ctypes.byref(made), *pointer, ctypes.c_int64(0), ctypes.c_int32(shots),
        ctypes.c_uint64(seed), out.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
    )  # fmt: skip
    return out, s


def detected(out: np.ndarray, setting: Setting, delta: float, rng) -> MeanSquaredDisplacement:
    """Return <D^2>_cyc of shots as the receiver of S10 would see them; time from the pulse."""
    p, s = parameters(setting, delta), sequence(setting, delta)
    gains = np.concatenate(
        [
            np.broadcast_to(quadrature_gains(p, part.controls, DETECTOR), (part.n_samples, 2))
            for part in s.stages
        ]
    )
    d = out[:, 0]
    noise = math.sqrt(float(independent_noise(DETECTOR))) * rng.standard_normal((*d.shape, 2))
    seen = js.mean_squared_displacement(
        jnp.asarray(d[..., None] * gains[None] + noise), p, s, DETECTOR
    )
    return from_pulse(seen, s)


def pair(out: np.ndarray, sample: int, kind: Kind) -> np.ndarray:
    """Return a b of every shot at a sample, symmetrised order."""
    z_m, p_m, y, z = out[:, 4:, sample].T.astype(float)
    root = 1.0 if kind.atoms > 1 else math.sqrt(ATOMS)
    z_s, p_s = z / root, -y / root
    return (z_m * z_s - p_m * p_s + 1j * (z_m * p_s + p_m * z_s)) / 4


def measured_atoms(setting: Setting, delta: np.ndarray, kind: Kind, shots: int, draws: int = 400):
    """Return the fitted gains, their peak and that of |<a b>| at 60 us.

    Errors: of the first by drawing the gains again with their errors, of the second by bootstrap.
    """
    rng, traces, pairs, states = np.random.default_rng(7), [], [], []
    for i, d in enumerate(delta):
        out, s = simulate_atoms(setting, float(d), kind, shots, i + 1)
        traces.append(detected(out, setting, float(d), rng))
        at, end = (s.span("pulse").start + round(t * US / DT) for t in (60, 99))
        pairs.append(pair(out, at, kind))
        states.append(out[:, 1:4, end].mean(axis=0))
    top, fit = fit_peak(delta, traces)
    places, heights = redrawn(delta, fit.gain, fit.gain_stat, draws)
    every = np.stack(pairs)
    ab = np.abs(every.mean(axis=1))
    chosen = (rng.integers(0, shots, every.shape) for _ in range(draws // 4))
    drawn = (np.abs(np.take_along_axis(every, c, axis=1).mean(axis=1)) for c in chosen)
    tops = [peak_of(delta, x).at for x in drawn]
    polarisation = [float(s[1]) * kind.atoms / (2.0 * ATOMS) for s in states]
    return dict(
        at=top.at / KHZ, at_error=_half(places / KHZ),
        height=top.height / 1e3, height_error=_half(heights / 1e3),
        correlation=peak_of(delta, ab).at / KHZ, correlation_error=_half(np.array(tops) / KHZ),
        delta=(delta / KHZ).tolist(), gain=(fit.gain / 1e3).tolist(),
        error=(fit.gain_stat / 1e3).tolist(), ab=ab.tolist(), polarisation=polarisation,
        quanta=[float(s[2]) - 0.5 for s in states], shots=shots,
    )  # fmt: skip


def _half(values: np.ndarray) -> float:
    """Return half of the central 68 %."""
    low, high = np.quantile(values, [0.159, 0.841])
    return float(high - low) / 2

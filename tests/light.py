"""What tests of the detected field share: stable systems, and each receiver worked out by hand."""

import dataclasses
import functools

import numpy as np

import oracles
import oracles_light
from jaxsde.engine.detect import Detector
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Sequence, Stage, Switching, at_fraction

STILL = Params.kohler2018(sigma_m=0.0, sigma_s=0.0)

# Both damped by light red of a narrow cavity: half widths of 4.8 kHz (spin) and 8.2 kHz (motion).
NARROW = dataclasses.replace(
    STILL,
    kappa=TWO_PI * 0.4e6,
    g_m=TWO_PI * 30e3,
    g_s=TWO_PI * -30e3,
    gamma_m=TWO_PI * 10e3,
    epsilon=1.0,
)
COOLING = Controls(nbar=4.0, delta_pc=TWO_PI * -0.3e6, omega_m=TWO_PI * 170e3)


def at_detuning(delta_mhz):
    """Return a stable system at a detuning in MHz: a mass of the sign that the light damps.

    At Delta = 0 a strong static spring ties the spin to the damped motion.
    """
    params = dataclasses.replace(
        STILL,
        epsilon=-1.0 if delta_mhz > 0 else 1.0,
        gamma_m=TWO_PI * 10e3,
        g_sm=TWO_PI * (120.0 if delta_mhz else 5e3),
    )
    omega_m = {-1: 95e3, 0: 115e3, 1: 150e3}[int(np.sign(delta_mhz))]
    return params, Controls(nbar=10.0, delta_pc=TWO_PI * delta_mhz * 1e6, omega_m=TWO_PI * omega_m)


def stage(controls, n_samples, name="stage"):
    return Stage(name=name, n_samples=n_samples, controls=controls)


def settled(controls, n_samples, burn_in, dt):
    """Return a sequence whose second stage begins after burn_in samples."""
    stages = (stage(controls, burn_in, "burn_in"), stage(controls, n_samples, "record"))
    return Sequence(stages=stages, sample_interval=dt)


def _constant(controls):
    """Return controls as ramps that stand still: one structure, one compiled program for all."""
    pairs = {n: getattr(controls, n) for n in ("nbar", "delta_pc", "omega_m")}
    return dataclasses.replace(
        controls, **{n: v if isinstance(v, tuple) else (v, v) for n, v in pairs.items()}
    )


# In the dark, up a ramp of nbar and omega_m, a pulse, down one of delta_pc and omega_m, a ringdown.
MIXED = Sequence(
    stages=(
        stage(Controls(nbar=0.0), 2, "dark"),
        stage(Controls(nbar=(1.0, 6.0), omega_m=(6e5, 7.8e5)), 3, "up"),
        stage(Controls(nbar=10.0, delta_pc=TWO_PI * -2e6, omega_m=7.8e5), 4, "pulse"),
        stage(Controls(nbar=4.0, delta_pc=(TWO_PI * -2e6, 0.0), omega_m=(7.8e5, 6e5)), 3, "down"),
        stage(Controls(nbar=4.0, B_s=1e5), 6, "ringdown"),
    ),
    sample_interval=0.5e-6,
)

_AT = dict(omega_m=TWO_PI * 170e3)
RAMPS = Sequence(
    stages=(
        stage(COOLING, 8, "hold"),
        stage(_constant(Controls(nbar=(1.0, 8.0), delta_pc=TWO_PI * -0.3e6, **_AT)), 8, "light"),
        stage(
            _constant(Controls(nbar=6.0, delta_pc=(TWO_PI * -0.6e6, TWO_PI * 0.4e6), **_AT)),
            8,
            "tuning",
        ),
    ),
    sample_interval=0.5e-6,
)
SWITCHED = Sequence(
    stages=(
        stage(COOLING, 8, "hold"),
        stage(Controls(nbar=8.0, delta_pc=TWO_PI * 0.5e6, **_AT), 24, "strong"),
    ),
    sample_interval=0.5e-6,
    switching=Switching(rise_time=1.2e-6),
)


# --- a receiver by hand -----------------------------------------------------------------------


def system(params, controls, at=0.0):
    """Return the keywords of the oracles for a stage at a fraction of it."""
    names = ("omega_s", "epsilon", "kappa", "g_m", "g_s", "g_sm", "gamma_m")
    omega_m = params.omega_m if controls.omega_m is None else controls.omega_m
    return {name: float(getattr(params, name)) for name in names} | dict(
        omega_m=float(at_fraction(omega_m, at)),
        nbar=float(at_fraction(controls.nbar, at)),
        delta_pc=float(at_fraction(controls.delta_pc, at)),
    )


def baths(params, controls):
    """Return (n_bath, B_s) of a stage."""
    n_bath = params.n_bath if controls.n_bath is None else controls.n_bath
    return float(n_bath), float(params.B_s if controls.B_s is None else controls.B_s)


def gains(params, controls, detector, at=0.0):
    """Return (G, noise): currents = G signals + white noise of the density `noise` in each, W^2/Hz.

    Signals: (o_AM, o_PM) of density 1/4 each, or D for the adiabatic model.
    """
    eta = detector.collection * detector.efficiency
    homodyne = detector.quadratures == ("homodyne",)
    if detector.model == "input_output":
        if homodyne:
            rows = [[np.cos(detector.angle), np.sin(detector.angle)]]
            return 2 * np.sqrt(eta * detector.S_SN) * np.array(rows), (1 - eta) * detector.S_SN
        rows = np.eye(2)[["IQ".index(q) for q in detector.quadratures]]
        return np.sqrt(eta * detector.S_SN) * rows, detector.S_SN * ((1 - eta) / 4 + 1 / 4)
    now = system(params, controls, at)
    kappa, delta = now["kappa"], now["delta_pc"]
    gain = np.sqrt(2 * eta * detector.S_SN * now["nbar"] * kappa / (kappa**2 + delta**2))
    phi = np.arctan2(kappa, delta)
    if homodyne:
        return 2 * gain * np.cos(detector.angle - phi) * np.ones((1, 1)), detector.S_SN
    parts = {"I": np.cos(phi), "Q": np.sin(phi)}
    return gain * np.array([[parts[q]] for q in detector.quadratures]), detector.S_SN / 2


def density(params, controls, detector, frequency):
    """Return (spectral density (f, k, k), its white part), by amplitudes of the ladder basis."""
    n_bath, b_s = baths(params, controls)
    out, d = oracles_light.spectra(
        TWO_PI * np.asarray(frequency), n_bath=n_bath, b_s=b_s, **system(params, controls)
    )
    g, white = gains(params, controls, detector)
    signals = out if detector.model == "input_output" else d[:, None, None]
    made = np.einsum("ks,fst,lt->fkl", g, signals, g) + white * np.eye(len(g))
    # Far from every resonance the output field is vacuum, and D is still.
    rest = g @ g.T / 4 if detector.model == "input_output" else 0.0 * g @ g.T
    return made, rest + white * np.eye(len(g))


def generator(params, controls, at, model):
    """Return the generator of (x, integrals of the model's signals) at a fraction of a stage."""
    m = oracles_light.drift(**system(params, controls, at))
    if model == "input_output":
        return m
    row = np.array([[params.g_m, 0.0, params.g_s, 0.0, 0.0, 0.0, 0.0]])
    return np.vstack([m[:6, :7] * [1, 1, 1, 1, 1, 1, 0], row])


def diffusion(params, controls, model, **options):
    """Return the diffusion of (x, integrals)."""
    n_bath, b_s = baths(params, controls)
    d, _ = oracles_light.noise(
        gamma_m=params.gamma_m, n_bath=n_bath, b_s=b_s, kappa=params.kappa, **options
    )
    if model == "input_output":
        return d
    return np.block([[d[:6, :6], np.zeros((6, 1))], [np.zeros((1, 7))]])


@functools.lru_cache(maxsize=200)
def sample_map(params, controls, first, last, dt, model):
    span = last - first
    return oracles.joint_map(
        dt,
        lambda f: generator(params, controls, first + span * f, model),
        diffusion(params, controls, model),
        6,
    )


def dense_maps(params, sequence, detector):
    """Return every sample's (a, c, noise_x, noise_y), by integrating its moment equations."""
    maps, dt = [], sequence.sample_interval
    for part in sequence.stages:
        n, ramp = part.n_samples, part.controls.is_ramp
        for k in range(n):
            first, last = (k / n, (k + 1) / n) if ramp else (0.0, 0.0)
            a, q = sample_map(params, part.controls, first, last, dt, detector.model)
            g, white = gains(params, part.controls, detector, (first + last) / 2)
            maps.append(oracles.receiver_map(a, q, g, white / dt, dt))
    return maps


def start(params):
    """Return the covariance of the state that a shot starts in."""
    m, s = 2 * params.n_m0 + 1, 2 * params.n_s0 + 1
    return np.diag([m, m, s, s, 0.5, 0.5])


def dense_record(params, sequence, detector):
    """Return the covariance of a record (samples, k, samples, k), without jitter."""
    maps = dense_maps(params, sequence, detector)
    n, k = len(maps), len(detector.quadratures)
    flat = oracles.sequence_record_covariance(maps, start(params))
    return flat.reshape(n, k, n, k)


# --- receivers ---------------------------------------------------------------------------------


def receivers(**fields):
    """Return {name: detector} of every kind that records light, fields of all of them alike."""
    homodyne = dict(quadratures=("homodyne",))
    return {
        "adiabatic heterodyne": Detector(**fields),
        "adiabatic homodyne": Detector(**fields, **homodyne, angle=0.9),
        "heterodyne": Detector(**fields, model="input_output"),
        "I alone": Detector(**fields, model="input_output", quadratures=("I",)),
        "amplitude": Detector.homodyne(0.0, **fields),
        "phase": Detector.homodyne(**fields),
        "homodyne": Detector.homodyne(-0.6, **fields),
    }

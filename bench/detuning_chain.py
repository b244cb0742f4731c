"""Expected <D^2>_cyc against delta without sampling noise: sequence, mean field, S11's filters.

What bench/detuning.py varies.  A `Setting` is one way to run the experiment; `expect` returns what
its records have on average, exactly: their covariance by theory, and the deterministic motion that
the mean radiation pressure adds.  bench/detuning_peak.py fits S12 to it.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxsde as js
from jaxsde.analysis.displacement import BAND, CYCLE_AVERAGE, MeanSquaredDisplacement, Scatter
from jaxsde.analysis.filters import band_pass, filter_matrix, low_pass
from jaxsde.analysis.moments import pair_correlation
from jaxsde.engine.covariance import conditional_covariance, gauss_hermite
from jaxsde.engine.detect import independent_noise, quadrature_gains
from jaxsde.engine.records import signal_covariance
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.physics.meanfield import amplitude
from jaxsde.physics.model import coupling_drift, free_drift, measured
from jaxsde.physics.params import TWO_PI

KHZ, MHZ, US = TWO_PI * 1e3, TWO_PI * 1e6, 1e-6
DT = 0.5 * US
STEP = 20e-9  # s, of the mean field's Runge and Kutta
DETECTOR = js.Detector()
PAPER = js.Params.kohler2018()
STILL = dataclasses.replace(PAPER, sigma_m=0.0, sigma_s=0.0)
SHOTS = 30  # of a trace in Fig. 3
THIN = slice(None, None, 4)  # samples that are fitted: <D^2>_cyc hardly changes within 2 us

_static = dict(static=True)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """Hold one way to run the sequence; the defaults are the bare pulse.

    params: of the atoms and the cavity.  nbar, delta_pc (rad/s): of the pulse.
    nbar_before: of what comes before it.  rise: of the drive, s, where the field follows.
    pulse_B_s: anomalous diffusion before the ringdown, quanta/s.  late: s by which the probe's
        frequency steps after the pulse has begun.
    ramp: the trap comes from rest in 10 us and goes back so.  follows: the mean field obeys the
        cavity; else it is there at once.  pushed: the mean radiation pressure moves the atoms.
    filtered: the band-pass of S11; else the cycle average alone.
    scaled: g_m and g_sm go as omega_m^-1/2, and are the paper's at 110 kHz.  t_c: s.
    """

    params: js.Params = STILL
    nbar: float = 10.0
    delta_pc: float = -2.0 * MHZ
    nbar_before: float = 0.0
    rise: float = 0.0
    pulse_B_s: float = 0.0
    late: float = dataclasses.field(default=0.0, metadata=_static)
    ramp: bool = dataclasses.field(default=False, metadata=_static)
    follows: bool = dataclasses.field(default=False, metadata=_static)
    pushed: bool = dataclasses.field(default=False, metadata=_static)
    filtered: bool = dataclasses.field(default=False, metadata=_static)
    scaled: bool = dataclasses.field(default=False, metadata=_static)
    t_c: float = dataclasses.field(default=150 * US, metadata=_static)


def parameters(setting: Setting, delta) -> js.Params:
    """Return the parameters of a setting at delta (rad/s)."""
    p = setting.params
    if setting.scaled:
        soft = jnp.sqrt(110 * KHZ / (p.omega_s + delta))
        p = dataclasses.replace(p, g_m=p.g_m * soft, g_sm=p.g_sm * soft)
    return p


def sequence(setting: Setting, delta) -> js.Sequence:
    """Return the stages of a setting at delta (rad/s): preparation, ramp, pulse, ramp, ringdown."""
    s, p = setting, parameters(setting, delta)
    up = p.omega_s + delta
    rest = p.omega_m if s.ramp else up
    b_s, late = s.pulse_B_s, s.late

    def stage(name, duration, **controls):
        made = js.Controls(**controls)
        return js.Stage(name=name, n_samples=round(duration / DT), controls=made)

    into, back = ((rest, up), (up, rest)) if s.ramp else (up, up)
    before, light = dict(nbar=s.nbar_before, B_s=b_s), dict(omega_m=up, B_s=b_s)
    # The drive goes to its last value at once: on resonance that is more photons.
    more = s.nbar * (1 + (s.delta_pc / p.kappa) ** 2)
    stages = [
        stage("preparation", 60 * US, omega_m=rest, **before),
        stage("ramp_up", 10 * US, omega_m=into, **before),
        stage("resonant", late, nbar=more, **light) if late else None,
        stage("pulse", s.t_c - late, nbar=s.nbar, delta_pc=s.delta_pc, **light),
        stage("ramp_down", 10 * US, nbar=4.0, omega_m=back),
        stage("ringdown", 40 * US, nbar=4.0, omega_m=rest),
    ]
    return js.Sequence(
        stages=tuple(part for part in stages if part is not None),
        sample_interval=DT,
        switching=js.Switching(rise_time=s.rise) if s.follows else None,
    )


def mean_motion(setting: Setting, delta, z) -> tuple[jax.Array, jax.Array]:
    """Return the means of D over each sample (k, samples) and of x after each stage (stages, k, 6).

    x' = M(t) x + f(t) with f = (0, -2 |alpha|^2 g_m, 0, -2 |alpha|^2 g_s, 0, 0), the part of S5
    that is linear in Z, from the equilibrium of the preparation.  Runge and Kutta's fourth order.
    z: standardised offsets of the frequencies, (2, k).
    """
    p, s = parameters(setting, delta), sequence(setting, delta)
    first = s.stages[0].controls
    x = jnp.zeros((z.shape[1], 6))
    x = x.at[:, 0].set(-2 * first.nbar * p.g_m / (first.omega_m + p.sigma_m * z[0]))
    x = x.at[:, 2].set(-2 * p.epsilon * first.nbar * p.g_s / (p.omega_s + p.sigma_s * z[1]))
    alpha = jnp.stack([jnp.sqrt(jnp.asarray(first.nbar, float)), jnp.zeros(())])
    rise = setting.rise if setting.follows else None
    state, old, seen, ends = (x, alpha), amplitude(p, first, 1.0), [], []
    for stage in s.stages:
        slope = functools.partial(_slope, p, stage, rise, old, z)
        state, d = _through(slope, state, measured(p), stage.n_samples)
        seen.append(d)
        ends.append(state[0])
        old = amplitude(p, stage.controls, 1.0)
    return jnp.concatenate(seen).T, jnp.stack(ends)


def _slope(p, stage, rise, old, z, t, state):
    """Return the derivatives of (x, alpha) at t (s after the stage began); old: |E| before, 1/s."""
    x, alpha = state
    now, at = stage.controls, t / (stage.n_samples * DT)
    if rise is None:
        field = jnp.stack([jnp.sqrt(jnp.asarray(now.nbar, float)), jnp.zeros(())])
        turned = jnp.zeros(2)
    else:
        share = jnp.clip(t / jnp.where(rise == 0, 1.0, rise), 0.0, 1.0)
        risen = jnp.where(rise == 0, 1.0, (1 - jnp.cos(jnp.pi * share)) / 2)
        e = old + (amplitude(p, now, at) - old) * risen
        field, (re, im) = alpha, (alpha[0], alpha[1])
        turned = jnp.stack(
            [-p.kappa * re - now.delta_pc * im + e, -p.kappa * im + now.delta_pc * re]
        )
    m = free_drift(p, now, at) + coupling_drift(p, now, at, (field[0], field[1]))
    o = jnp.zeros(())
    row = jnp.stack([o, jnp.asarray(p.g_m) + o, o, jnp.asarray(p.g_s) + o, o, o])
    push = -2 * jnp.sum(field**2) * row
    w_m, w_s = p.sigma_m * z[0], p.epsilon * p.sigma_s * z[1]
    none = jnp.zeros_like(w_m)
    jitter = [w_m * x[:, 1], -w_m * x[:, 0], w_s * x[:, 3], -w_s * x[:, 2], none, none]
    return x @ m.T + push[None] + jnp.stack(jitter, axis=1), turned


def _through(slope, state, row, n_samples: int):
    """Return (x, alpha) after n_samples, and the mean of D over each, (samples, k)."""
    h, per = STEP, round(DT / STEP)

    def ahead(state, k, by):
        return jax.tree.map(lambda s, d: s + by * d, state, k)

    def step(state, t):
        k1 = slope(t, state)
        k2 = slope(t + h / 2, ahead(state, k1, h / 2))
        k3 = slope(t + h / 2, ahead(state, k2, h / 2))
        k4 = slope(t + h, ahead(state, k3, h))
        total = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4)
        after = ahead(state, total, h)
        return after, (state[0] @ row + after[0] @ row) / 2

    state, seen = jax.lax.scan(step, state, jnp.arange(n_samples * per, dtype=float) * h)
    return state, seen.reshape(n_samples, per, -1).mean(axis=1)


@functools.lru_cache(maxsize=8)
def filters(n: int, filtered: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrices of the band-pass, average over samples undone, and the cycle average."""
    second = np.diag(np.full(n, -2.0)) + np.eye(n, k=1) + np.eye(n, k=-1)
    second[0, 0] += 1
    second[-1, -1] += 1
    band = filter_matrix(band_pass(BAND, DT), n) if filtered else np.eye(n)
    return band @ (np.eye(n) - second / 24), filter_matrix(low_pass(CYCLE_AVERAGE, DT), n)


def _directions(p: js.Params, s: js.Sequence) -> tuple[jax.Array, jax.Array]:
    """Return (cos phi_q, sin phi_q) and 1/A of each sample; a dark one has zeros."""
    rows = [(quadrature_gains(p, part.controls, DETECTOR), part.n_samples) for part in s.stages]
    gain = jnp.concatenate([jnp.broadcast_to(g, (n, 2)) for g, n in rows])
    a = jnp.sqrt(jnp.sum(gain**2, axis=1))
    inverse = jnp.where(a == 0, 0.0, 1 / jnp.where(a == 0, 1.0, a))
    return gain * inverse[:, None], inverse


@functools.partial(jax.jit, static_argnames=("resolution", "nodes"))
def _expected(setting: Setting, delta, resolution, nodes):
    """Return <D^2>_cyc, the shot noise in it and its covariance over shots."""
    p, s = parameters(setting, delta), sequence(setting, delta)
    z, w = gauss_hermite(nodes)
    r = signal_covariance(p, s, resolution, "adiabatic", nodes)[0][:, 0, :, 0]
    tones = jnp.zeros((z.shape[1], s.n_samples))
    if setting.pushed:
        tones, _ = mean_motion(setting, delta, z)
    band, cycle = (jnp.asarray(f) for f in filters(s.n_samples, setting.filtered))
    along, inverse = _directions(p, s)
    scaled = band * inverse[None]
    shot = scaled @ scaled.T * independent_noise(DETECTOR)
    seen = [band * along[None, :, q] for q in range(2)]
    tone = [tones @ f.T for f in seen]
    power, spread = jnp.zeros(s.n_samples), jnp.zeros_like(r)
    for k in range(2):
        power = power + jnp.sum((seen[k] @ r) * seen[k], axis=1) + w @ tone[k] ** 2
        for q in range(2):
            c = seen[k] @ r @ seen[q].T + (shot if k == q else 0.0)
            spread = spread + 2 * c**2 + 4 * c * ((tone[k] * w[:, None]).T @ tone[q])
    return cycle @ power, 2 * cycle @ jnp.diag(shot), cycle @ spread @ cycle.T


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expectation:
    """Hold a setting's expectations: time (s from the pulse), <D^2>_cyc and its scatter by shot.

    delta: rad/s.  power, bias: (deltas, samples), (rad/s)^2.  spread: (deltas, samples, samples).
    """

    delta: np.ndarray
    time: np.ndarray
    power: np.ndarray
    bias: np.ndarray
    spread: np.ndarray

    def traces(self, shots: int = SHOTS) -> list[MeanSquaredDisplacement]:
        """Return <D^2>_cyc as that many shots have it on average, with the scatter they have."""
        time = self.time[THIN]
        return [
            MeanSquaredDisplacement(
                time=time,
                mean=jnp.asarray(power[THIN]),
                stderr=jnp.asarray(np.sqrt(np.diag(spread)[THIN] / shots)),
                each=jnp.zeros((0, time.size)),
                noise_bias=jnp.asarray(bias[THIN]),
                scatter=Scatter(products=spread[THIN, THIN] * (shots - 1), n_shots=shots, first=0),
            )
            for power, bias, spread in zip(self.power, self.bias, self.spread, strict=True)
        ]


def resolved(settings: list[Setting], delta: np.ndarray) -> Resolution:
    """Return a Resolution that is enough for every setting, so that they share programs."""
    extreme = float(delta[np.argmax(np.abs(delta))])
    made = [
        choose_resolution(parameters(s, extreme), sequence(s, extreme), tolerance=1e-5)
        for s in settings
    ]
    counts = ("ramp_substeps", "switch_substeps", "settling", "doublings", "jitter_nodes")
    most = {name: max(getattr(r, name) for r in made) for name in counts}
    return dataclasses.replace(made[0], **most)


def _nodes(p: js.Params) -> tuple[int, int]:
    return (5, 5) if float(p.sigma_m) > 0 or float(p.sigma_s) > 0 else (1, 1)


def expect(
    setting: Setting, delta: np.ndarray, resolution: Resolution | None = None
) -> Expectation:
    """Return the exact expectations of a setting at every delta (rad/s)."""
    s, nodes = sequence(setting, float(delta[0])), _nodes(setting.params)
    resolution = resolved([setting], delta) if resolution is None else resolution
    made = [_expected(setting, d, resolution, nodes) for d in jnp.asarray(delta)]
    power, bias, spread = (np.stack([np.asarray(m[i]) for m in made]) for i in range(3))
    start = s.span("pulse").start * DT - setting.late
    return Expectation(delta=delta, time=s.time - start, power=power, bias=bias, spread=spread)


@functools.partial(jax.jit, static_argnames=("resolution", "nodes"))
def _correlation(setting: Setting, delta, resolution, nodes):
    p, s = parameters(setting, delta), sequence(setting, delta)
    z, w = gauss_hermite(nodes)
    last = [part.name for part in s.stages].index("pulse")
    state = jnp.einsum("k,kij->ij", w, conditional_covariance(p, s, z, resolution)[:, last])
    if setting.pushed:
        end = mean_motion(setting, delta, z)[1][last]
        state = state + jnp.einsum("k,ki,kj->ij", w, end, end)
    return jnp.abs(pair_correlation(state[:4, :4]))


def correlation(
    setting: Setting,
    delta: np.ndarray,
    resolution: Resolution | None = None,
    t_c: float = 60 * US,
) -> np.ndarray:
    """Return |<a b>| after a pulse of t_c (s) at every delta (rad/s), as Fig. 4b."""
    setting = dataclasses.replace(setting, t_c=t_c)
    resolution = resolved([setting], delta) if resolution is None else resolution
    nodes = _nodes(setting.params)
    return np.array([_correlation(setting, d, resolution, nodes) for d in jnp.asarray(delta)])


@jax.jit
def _steady(setting: Setting, delta):
    def one(d):
        stage = next(part for part in sequence(setting, d).stages if part.name == "pulse")
        return js.instability_gain(parameters(setting, d), stage.controls)

    return jax.vmap(one)(delta)


def steady_gain(setting: Setting, delta: np.ndarray) -> np.ndarray:
    """Return the steady-state gain of the pulse (1/s) at every delta (rad/s), by eigenvalues."""
    return np.asarray(_steady(setting, jnp.asarray(delta)))

"""Derivatives of propagators, steps and covariances in every parameter, control and rise time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
from jaxsde.engine.plan import segments, transitions
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.step import make_step
from jaxsde.physics.model import SIGNALS
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Switching
from transients import DT, RED, REST, UP, sequence_of

PARAMS = Params.kohler2018()
BASE = dict(nbar=8.0, delta_pc=RED, omega_m=UP, B_s=2e4, n_bath=1.5)
RAMPS = dict(nbar=(1.0, 10.0), delta_pc=(TWO_PI * -0.5e6, RED), omega_m=(REST, UP))
PULSE, ALL = Controls(**BASE), Controls(**BASE | RAMPS)
KINDS = {
    "still": sequence_of((3, PULSE)),
    "ramp": sequence_of((2, ALL)),
    # Still, a switch cut short, a ramp before its field has settled.
    # 0.313 us: as it moves a little it crosses no point at which the drive is looked at.
    "switched": sequence_of(
        (1, Controls(nbar=1.0)), (1, PULSE), (2, ALL), switching=Switching(rise_time=0.313e-6)
    ),
}


def ramp_of(**moving):
    """Return the changes that leave of the ramp of all three controls those in `moving`."""
    ends = {name: (BASE[name], BASE[name]) for name in RAMPS} | moving
    return {f".{name}[{i}]": value for name, v in ends.items() for i, value in enumerate(v)}


RESONANT = {".delta_pc": 0.0, ".omega_m": PARAMS.omega_s, ".epsilon": 1.0}
QUIET = {name: 0.0 for name in (".sigma_m", ".sigma_s", ".B_s", ".gamma_m", ".g_sm", ".n_bath")}
# What changes, by the names' endings or by parts of them.
PLACES = {
    ("still", "pulse"): {},
    ("still", "resonant, two positive masses"): RESONANT,
    ("still", "quiet"): QUIET,
    **{("ramp", name): ramp_of(**{name: ends}) for name, ends in RAMPS.items()},
    ("ramp", "of all"): {},
    ("ramp", "resonant, two positive masses"): RESONANT,
    ("switched", "of all"): {},
    ("switched", "resonant, two positive masses"): RESONANT,
}
OUTPUTS = ("covariance", *SIGNALS)


def outputs(kind):
    """Return what is differentiated: of switched stages no more than time allows to compile."""
    return OUTPUTS if kind != "switched" else OUTPUTS[:1]


def leaves_of(kind):
    """Return the leaves of (params, sequence), their tree and their names."""
    paths, tree = jax.tree.flatten_with_path((PARAMS, KINDS[kind]))
    return np.array([v for _, v in paths], float), tree, [jax.tree_util.keystr(p) for p, _ in paths]


@functools.cache
def functions(kind):
    """Return (value, jvp, vjp) of three numbers that see ends, steps and records of a kind."""
    _, tree, _ = leaves_of(kind)
    resolution = choose_resolution(PARAMS, KINDS[kind], tolerance=1e-4)
    rng = np.random.default_rng(0)
    weight = jnp.asarray(rng.normal(size=(9, 9)))
    # Records of order one: D is some 1e5 rad/s, an output field sampled at 2 MHz some 1e3.
    unit = dict(adiabatic=1e-5, input_output=1e-3)
    gains = {m: jnp.asarray(unit[m] * rng.normal(size=(2, len(s)))) for m, s in SIGNALS.items()}

    def seen(matrix):
        rows, columns = matrix.shape[:2]
        return jnp.einsum("ij...,ij->", matrix, weight[:rows, :columns])

    def steps(params, sequence, model):
        """Return what is seen of the first and the last Step of every segment."""
        maps = []
        for part in segments(params, sequence, resolution):
            offset = jnp.array([[2e3, -1e3]])
            made = transitions(params, part, offset, DT, resolution, model)
            maps += [jax.tree.map(lambda leaf, k=k: leaf[k], made) for k in (0, -1)] if (
                part.moves) else [made]  # fmt: skip
        a, q = (
            jnp.moveaxis(jnp.concatenate(m), 0, -1)
            for m in ([one.A[..., :6] for one in maps], [one.Q for one in maps])
        )
        step = make_step(a, q, gains[model], jnp.asarray(0.3), DT, jnp.dtype(float))
        return sum(seen(m) for m in (step.A, step.L, step.C, step.N))

    def probe(x):
        params, sequence = jax.tree.unflatten(tree, list(x))
        ends = jaxsde.covariance(params, sequence, resolution=resolution, nodes=(2, 2))
        made = {"covariance": seen(jnp.moveaxis(ends, 0, -1))}
        made |= {m: steps(params, sequence, m) for m in outputs(kind) if m in SIGNALS}
        return jnp.stack([made[name] for name in outputs(kind)])

    return (
        jax.jit(probe),
        jax.jit(lambda x, v: jax.jvp(probe, (x,), (v,))[1]),
        jax.jit(lambda x, w: jax.vjp(probe, x)[1](w)[0]),
    )


def moved(kind, place):
    """Return the leaves of a kind at a place, and the scale of each."""
    values, _, names = leaves_of(kind)
    scale = np.where(values == 0, 1.0, np.abs(values))
    for part, value in PLACES[kind, place].items():
        for i, name in enumerate(names):
            if part in name:
                values[i] = value
                scale[i] = max(abs(value), TWO_PI * 1e6 if "delta" in name else scale[i])
    return values, scale, names


@pytest.mark.parametrize("kind, place", PLACES)
def test_derivatives_forward_and_reverse_are_those_of_differences(kind, place):
    value, forward, reverse = functions(kind)
    x, scale, names = moved(kind, place)
    directions = scale[:, None] * np.eye(len(x))
    ahead = np.array([forward(x, direction) for direction in directions]).T
    back = np.array([reverse(x, w) for w in np.eye(len(ahead))]) * scale
    assert np.isfinite(ahead).all() and np.isfinite(back).all()
    size, h = np.abs(ahead).max(axis=1), 1e-3
    for i in range(len(ahead)):
        np.testing.assert_allclose(
            back[i], ahead[i], rtol=1e-8, atol=1e-11 * size[i], err_msg=OUTPUTS[i]
        )
    slopes = []
    for v in h * directions:
        one, two = (np.asarray(value(x + k * v) - value(x - k * v)) for k in (1, 2))
        slopes.append((8 * one - two) / (12 * h))  # fourth order
    if place == "quiet":
        # Noise that vanishes with gamma_m or B_s: its root has a steep slope, and no differences.
        ahead, size, slopes = ahead[:1], size[:1], np.array(slopes)[:, :1]
    error = np.abs(ahead.T - slopes)
    bound = 1e-6 * np.abs(ahead.T) + 1e-8 * size
    assert (error < bound).all(), {
        (names[i], k): (ahead[k, i], slopes[i][k]) for i, k in np.argwhere(error >= bound)
    }

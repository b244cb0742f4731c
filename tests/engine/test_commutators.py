"""What quantum mechanics asks of the engine's maps: commutators are kept, records commute.

[x_i, x_j] = i S_ij.  Commutators are carried by the engine's own A; what the noise adds to them is
made in NumPy, from [xi, xi^dag] = 1.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
import light
import oracles
import oracles_light
from jaxsde.engine.covariance import segment_transition
from jaxsde.engine.detect import Detector, independent_noise, readout
from jaxsde.engine.plan import segments
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Sequence

DT, SINGLE = 0.5e-6, jnp.zeros((2, 1))
S = oracles_light.state_commutators()
J = np.array([[0.0, 1.0], [-1.0, 0.0]])
STAGES = {
    "stable": (light.NARROW, light.COOLING),
    "unstable": (
        light.STILL,
        Controls(nbar=10.0, delta_pc=TWO_PI * -2e6, omega_m=TWO_PI * 125.5e3),
    ),
    "on resonance": (light.STILL, Controls(nbar=4.0)),
    "ramp": (
        light.NARROW,
        Controls(nbar=(1.0, 9.0), delta_pc=(TWO_PI * -0.6e6, TWO_PI * 0.9e6), omega_m=1e6),
    ),
}


def maps_of(params, controls, n):
    """Return the engine's (A, Q) of n samples, z = (x, integrals of o_AM and o_PM)."""
    sequence = Sequence(stages=(light.stage(controls, n),), sample_interval=DT)
    resolution = choose_resolution(params, sequence)
    (part,) = segments(params, sequence, resolution)
    step = segment_transition(params, part, SINGLE, DT, resolution, "input_output")
    a, q = np.asarray(step.A), np.asarray(step.Q)
    if controls.is_ramp:
        return [(a[k, 0], q[k, 0]) for k in range(n)]
    return [(a[0], q[0])] * n


def noise_commutators(params, controls, n, reflected=1.0):
    """Return what the noise adds to the commutators of z over each of n samples."""
    n_bath, b_s = light.baths(params, controls)
    _, commutators = oracles_light.noise(
        gamma_m=params.gamma_m, n_bath=n_bath, b_s=b_s, kappa=params.kappa, reflected=reflected
    )
    made = []
    for k in range(n if controls.is_ramp else 1):

        def generator(f, k=k):
            return light.generator(params, controls, (k + f) / n, "input_output")

        made.append(oracles.joint_map(DT, generator, commutators, 6)[1])
    return made if controls.is_ramp else made * n


def record_commutators(maps, noise, signals):
    """Return [y_t, y_s]/i of the samples of `signals` (k, 2) of the output, (n, k, n, k).

    By K_s = A S C^T + noise of (x, y), and C A ... A K_s for later samples.
    """
    n, k = len(maps), len(signals)
    made, ahead, state = np.zeros((n, k, n, k)), np.zeros((6, 0)), S
    for t, ((a, _), extra) in enumerate(zip(maps, noise, strict=True)):
        rows = signals @ a[6:]
        made[t, :, :t] = (rows @ ahead).reshape(k, t, k)
        made[:t, :, t] = -np.transpose(made[t, :, :t], (1, 2, 0))
        made[t, :, t] = rows @ state @ rows.T + signals @ extra[6:, 6:] @ signals.T
        shared = a[:6] @ state @ rows.T + extra[:6, 6:] @ signals.T
        ahead = np.hstack([a[:6] @ ahead, shared])
        state = a[:6] @ state @ a[:6].T + extra[:6, :6]
    return made


@pytest.mark.parametrize("name", STAGES)
def test_maps_keep_the_commutators_of_state_and_field(name):
    """A S A^T + noise is S again; the field that left commutes with what stays, and is a field."""
    params, controls = STAGES[name]
    maps, noise = (f(params, controls, 6) for f in (maps_of, noise_commutators))
    for (a, _), extra in zip(maps, noise, strict=True):
        carried = a @ S @ a.T
        got = carried + extra
        np.testing.assert_allclose(got[:6, :6], S, atol=2e-8)  # ramps are held to 1e-8
        assert np.abs(got[:6, 6:]).max() < 1e-7 * np.abs(carried[:6, 6:]).max()
        np.testing.assert_allclose(got[6:, 6:], -J * DT / 2, atol=1e-8 * DT)


@pytest.mark.parametrize("name", STAGES)
def test_records_commute_with_themselves(name):
    """[P(t), P(t')] = 0 of every homodyne record, though the oscillators are in between."""
    params, controls = STAGES[name]
    n = 12
    maps, noise = (f(params, controls, n) for f in (maps_of, noise_commutators))
    without = noise_commutators(params, controls, n, reflected=0.0)
    for angle in (0.0, 0.7, np.pi / 2):
        detector = Detector.homodyne(angle, efficiency=1.0, collection=1.0, S_SN=1.0)
        signals = np.asarray(readout(params, controls, detector))
        unit = 4 * DT / 2  # of the two quadratures of one sample
        kept = record_commutators(maps, noise, signals)
        assert np.abs(kept).max() < 1e-8 * unit
        lost = record_commutators(maps, without, signals)
        if not (name == "on resonance" and angle == 0.0):
            assert np.abs(lost).max() > 1e-3 * unit
    both = record_commutators(maps, noise, np.eye(2)) / (DT / 2)
    expected = -np.einsum("ts,ij->tisj", np.eye(n), J)
    np.testing.assert_allclose(both, expected, atol=1e-8)  # o_AM and o_PM, of one sample alone


@pytest.mark.parametrize("eta", [1.0, 0.6, 0.045])
def test_the_image_band_is_what_lets_i_and_q_commute(eta):
    """[I, Q] = -i/2 (eta + 1 - eta) + i/2, and so much commutator needs a vacuum of 1/4."""
    detector = Detector(efficiency=eta, collection=1.0, S_SN=1.0, model="input_output")
    signals = np.asarray(readout(*STAGES["stable"], detector))
    params, controls = STAGES["stable"]
    maps, noise = (f(params, controls, 4) for f in (maps_of, noise_commutators))
    output = record_commutators(maps, noise, signals) / DT
    lossy = -(1 - eta) / 2 * J  # the vacuum that losses admit, a field like the other
    image = J / 2
    for t in range(4):
        np.testing.assert_allclose(output[t, :, t] + lossy + image, 0 * J, atol=1e-8)
    # The least noise w of both quadratures with that commutator: w + i [..]/2 >= 0.
    white = float(independent_noise(detector)) * detector.sample_interval
    of_image = white - (1 - eta) / 4
    assert np.linalg.eigvalsh(of_image * np.eye(2) + 0.5j * image).min() == pytest.approx(0.0)
    assert of_image == pytest.approx(1 / 4)


# --- uncertainty ----------------------------------------------------------------------------------


def smallest(covariance, commutators):
    """Return the smallest eigenvalue of P + i S/2 in units of the standard deviations."""
    unit = np.sqrt(np.diag(covariance))
    return np.linalg.eigvalsh((covariance + 0.5j * commutators) / np.outer(unit, unit)).min()


def random_system(rng):
    """Return parameters and controls of any stability, half of them without baths."""
    quiet = float(rng.integers(2))
    params = Params.kohler2018(
        kappa=TWO_PI * rng.uniform(0.2e6, 2e6),
        g_m=TWO_PI * rng.uniform(5e3, 60e3),
        g_s=TWO_PI * rng.uniform(-60e3, -5e3),
        g_sm=TWO_PI * rng.uniform(-3e3, 3e3),
        gamma_m=TWO_PI * rng.uniform(0.0, 5e3) * quiet,
        n_bath=rng.uniform(0.0, 3.0) * float(rng.integers(2)),
        B_s=rng.uniform(0.0, 3e4) * quiet,
        epsilon=float(rng.choice([-1.0, 1.0])),
        n_m0=rng.uniform(0.0, 2.0) * quiet,
        n_s0=rng.uniform(0.0, 2.0) * quiet,
        sigma_m=0.0,
        sigma_s=0.0,
    )
    controls = [
        Controls(
            nbar=rng.uniform(0.0, 10.0),
            delta_pc=TWO_PI * rng.uniform(-2e6, 2e6),
            omega_m=TWO_PI * rng.uniform(80e3, 200e3),
        )
        for _ in range(2)
    ]
    return params, controls


def test_no_state_beats_the_uncertainty_relation():
    """P + i S/2 >= 0 after two random stages, for 60 systems; those without baths stay pure."""
    rng = np.random.default_rng(2)
    resolution = Resolution(doublings=12, jitter_nodes=1)
    growing = pure = 0
    for _ in range(60):
        params, controls = random_system(rng)
        sequence = Sequence(stages=tuple(light.stage(c, 40) for c in controls), sample_interval=DT)
        ends = jaxsde.covariance(params, sequence, resolution=resolution, nodes=(1, 1))
        for p, c in zip(np.asarray(ends), controls, strict=True):
            assert smallest(p, S) > -1e-9
            growing += float(jaxsde.instability_gain(params, c)) > 1e3
            # Half a vacuum too little, in any one variable, would show in most of them.
            pure += smallest(p - 1e-3 * np.diag(np.diag(p)), S) < -1e-9
    assert 20 < growing < 100 and pure > 60


@pytest.mark.parametrize("seed", range(6))
def test_no_state_with_its_record_beats_the_uncertainty_relation(seed):
    """State and three samples of the output together: reading the record is no way around it."""
    rng = np.random.default_rng(10 + seed)
    params, (controls, _) = random_system(rng)
    if seed % 2:
        params = dataclasses.replace(params, gamma_m=0.0, B_s=0.0, n_m0=0.0, n_s0=0.0)
    maps = maps_of(params, controls, 3)
    p, s = light.start(params), S
    for a, q in maps:
        size = len(p) + 2
        move = np.zeros((size, len(p)))
        move[:6, :6], move[6:8, :6], move[8:, 6:] = a[:6], a[6:], np.eye(len(p) - 6)
        p = move @ p @ move.T
        p[:8, :8] += q
        whole = np.zeros((size, size))
        whole[8:, 8:], whole[:6, :6] = s[6:, 6:], S
        whole[6:8, 6:8] = -J * DT / 2
        s = whole
    assert smallest(p, s) > -1e-9
    if seed % 2:  # all but pure: averages leave out what is faster than a sample
        assert smallest(p, s) < 1e-5
        p[:, 6:] *= 1 - 1e-3  # a record that knew a little more
        p[6:, :] *= 1 - 1e-3
        assert smallest(p, s) < -1e-5

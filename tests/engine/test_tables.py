"""A table's polynomials against the maps of single shots: the same A, the same law of the noise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
from jaxsde.engine.detect import independent_noise
from jaxsde.engine.plan import jitter_basis, segment_readout, segments, sigmas, transitions
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.step import output_maps
from jaxsde.engine.tables import StepTable, step_table
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Sequence, Stage

PULSE = Controls(nbar=10.0, delta_pc=TWO_PI * -2e6, omega_m=TWO_PI * 125.5e3)
RAMP = Controls(nbar=(1.0, 10.0), delta_pc=(0.0, TWO_PI * -2e6), omega_m=(6e5, 7.8e5))
STRONG = dict(sigma_m=TWO_PI * 2e4, sigma_s=TWO_PI * 1e4)
SILENT = dict(B_s=0.0, gamma_m=0.0)


def made(params, controls, dt, detector, samples=1):
    detector = dataclasses.replace(detector, sample_interval=dt)
    stage = Stage(name="stage", n_samples=samples, controls=controls)
    sequence = Sequence(stages=(stage,), sample_interval=dt)
    resolution = choose_resolution(params, sequence)
    (part,) = segments(params, sequence, resolution)
    readout, noise = segment_readout(params, part, detector), independent_noise(detector)
    table = step_table(params, (part,), (readout,), noise, dt, resolution, detector.model)
    return table, part, readout, noise, resolution, detector.model


def unpack(table: StepTable, number, z):
    """Return (rows of A and C, root) of one map at standardised offsets (2, shots)."""
    basis = np.asarray(jitter_basis(z, table.nodes))
    packed = np.einsum("te,ts->se", np.asarray(table.maps[number]), basis)
    m = table.n + table.k
    a, root, at = np.zeros((len(packed), m, table.n)), np.zeros((len(packed), m, m)), 0
    for i in range(m):
        assert (packed[:, at] == 0).all()  # no offset
        a[:, i] = packed[:, at + 1 : at + 1 + table.n]
        at += 1 + table.n
        root[:, i, : i + 1] = packed[:, at : at + i + 1]
        at += i + 1
    assert at == packed.shape[1]
    return a, root


@pytest.mark.parametrize(
    "changes, dt, law",
    [
        ({}, 1e-9, 1e-10),
        ({}, 0.5e-6, 1e-11),
        (STRONG, 0.5e-6, 1e-8),
        (SILENT, 0.5e-6, 1e-10),
        # Every direction driven by one noise alone: of their own they have 1e-9 of the variance.
        (SILENT, 2e-8, 2e-7),
        (SILENT | dict(g_m=0.0, g_s=0.0, g_sm=0.0), 0.5e-6, 1e-11),
    ],
)
@pytest.mark.parametrize(
    "detector",
    [jaxsde.Detector(), jaxsde.Detector.ideal(), jaxsde.Detector.homodyne(0.4, collection=1.0)],
    ids=["I Q", "D", "homodyne"],
)
def test_shots_have_their_own_maps(changes, dt, law, detector):
    params = Params.kohler2018(**changes)
    table, part, readout, noise, resolution, model = made(params, PULSE, dt, detector)
    z = np.random.default_rng(0).normal(size=(2, 50))
    z[:, 0], z[:, 1] = 6.7, (-6.7, 6.7)  # as far as the generator goes
    a, root = unpack(table, 0, jnp.asarray(z))
    offsets = (sigmas(params)[:, None] * z).T
    direct = transitions(params, part, offsets, dt, resolution, model)
    state, c, joint = jax.vmap(lambda a, q: output_maps(a, q, readout, noise, dt))(
        direct.A[..., :6], direct.Q
    )
    rows = np.concatenate([state, c], axis=1)
    scale = np.abs(rows).max(axis=(0, 2), keepdims=True) + 1e-300
    assert (np.abs(a - rows) / scale).max() < 1e-10
    q = np.asarray(joint)
    spread = np.sqrt(np.einsum("sii->si", q))
    spread[spread == 0] = 1.0
    off = np.abs(root @ root.transpose(0, 2, 1) - q) / (spread[:, :, None] * spread[:, None])
    assert off.max() < law


def test_every_sample_of_a_ramp_has_its_map():
    params = Params.kohler2018()
    detector = jaxsde.Detector()
    table, part, readout, noise, resolution, _ = made(params, RAMP, 0.5e-6, detector, 3)
    assert table.program == ((0, 3, 0, True, True),) and table.maps.shape[0] == 3
    z = jnp.asarray(np.random.default_rng(1).normal(size=(2, 7)))
    direct = transitions(params, part, (sigmas(params)[:, None] * z).T, 0.5e-6, resolution)
    for i in range(3):
        a, root = unpack(table, i, z)
        q = np.asarray(direct.Q)[i]
        np.testing.assert_allclose(a[:, :6], np.asarray(direct.A)[i, :, :6, :6], atol=1e-10)
        own = root @ root.transpose(0, 2, 1)
        np.testing.assert_allclose(own[:, :6, :6], q[:, :6, :6], atol=1e-11 * q.max())
        gain = np.asarray(readout)[i] / 0.5e-6
        np.testing.assert_allclose(
            own[:, 6:, 6:],
            gain @ q[:, 6:, 6:] @ gain.T + float(noise) * np.eye(2),
            rtol=1e-10,
        )


def test_a_program_tells_samples_and_stages():
    sequence = jaxsde.Sequence.kohler2018()
    params, detector = Params.kohler2018(), jaxsde.Detector()
    resolution = choose_resolution(params, sequence)
    parts = segments(params, sequence, resolution)
    readouts = tuple(segment_readout(params, part, detector) for part in parts)
    noise = independent_noise(detector)
    table = step_table(params, parts, readouts, noise, sequence.sample_interval, resolution)
    assert [line[:3] for line in table.program] == [
        (0, 120, 0), (120, 20, 1), (140, 120, 21), (260, 20, 22), (280, 1000, 42),
    ]  # fmt: skip
    assert (table.n_samples, table.n_stages, table.n, table.k) == (1280, 5, 6, 2)
    assert table.maps.shape == (43, 15, 92)

"""Shots on many devices: to the last bit those of one, by either engine."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import streams
from jaxsde.engine.sharding import SHOTS, over_shots, place, shot_mesh

ROOT = pathlib.Path(__file__).parents[2]


def child(*args, **environment):
    """Return what a process with its own devices prints, as JSON."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "streams.py"), *args],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def alone():
    return {
        "records": streams.digests(streams.text(), "records", 8192),
        "moments": streams.digests(streams.text(), "moments", 4096),
        "scan": streams.digests(streams.text(shots=1500), "estimates", 1024, backend="scan"),
    }


@pytest.mark.slow
def test_two_and_eight_devices_make_the_bits_of_one(alone):
    found = child("digests", "2", "8")
    assert found["2"] == alone["records"] and found["8"] == alone["records"]
    assert found["moments"] == alone["moments"]
    assert found["scan"] == alone["scan"]


@pytest.mark.slow
def test_a_machine_with_another_number_of_cores_makes_the_same_bits(alone):
    """XLA adds in an order that depends on its threads; `ordered_sum` does not leave it to XLA."""
    found = child("digests", "1", NPROC=str(max(1, (os.cpu_count() or 2) // 2)))
    assert found["1"] == alone["records"] and found["scan"] == alone["scan"]


def test_each_device_is_given_its_own_part_and_the_rest_whole():
    mesh = shot_mesh()
    assert mesh.axis_names == (SHOTS,) and mesh.size == len(jax.local_devices())

    def function(whole, part):
        return whole[None] * part, jnp.moveaxis(part, 0, 1)[None]

    x = np.arange(6.0 * mesh.size).reshape(-1, 2)
    made = over_shots(function, mesh, (None, 0), (0, 2))(jnp.array([2.0, 3.0]), jnp.asarray(x))
    np.testing.assert_array_equal(made[0], x * [2, 3])
    np.testing.assert_array_equal(made[1][0], x.T)
    placed = place(mesh, x, 0)
    assert placed.sharding.spec == PartitionSpec(SHOTS)
    np.testing.assert_array_equal(placed, x)

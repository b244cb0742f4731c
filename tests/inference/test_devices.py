"""The likelihood on many devices and in two processes: to rounding that of one device."""

import functools
import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsde.engine.sharding import shot_mesh
from jaxsde.inference.devices import on_devices
from jaxsde.inference.evidence import arrange

ROOT = pathlib.Path(__file__).parents[2]


def processes(*commands):
    """Return what processes that run at the same time print, as JSON."""
    started = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "shared_likelihood.py"), *map(str, command)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    out = [process.communicate(timeout=300) for process in started]
    for process, (_, errors) in zip(started, out, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(printed.splitlines()[-1]) for printed, _ in out]


@functools.cache
def alone():
    return processes((1,))[0]


def same(found, devices):
    assert found.pop("devices") == devices
    for name in found:
        np.testing.assert_allclose(found[name], alone()[name], rtol=1e-9, err_msg=name)


@pytest.mark.slow
def test_eight_devices_find_what_one_finds():
    same(processes((8,))[0], 8)


@pytest.mark.slow
def test_two_processes_on_one_network_find_what_one_finds():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first, second = processes((2, 2, 0, port), (2, 2, 1, port))
    assert first == second  # to the last bit, or the two would part ways
    assert {"values", "stderr"} <= first.keys()
    same(first, 4)


@pytest.mark.parametrize("mesh", [None, shot_mesh()])
def test_every_shot_comes_back_in_its_place(mesh):
    record = np.arange(5.0 * 3).reshape(5, 3, 1)
    (part,) = arrange(record)

    def function(scale, evidence, dt):
        y = jnp.sum(evidence.record, axis=(0, 1)) * scale * dt
        return y, jnp.stack([y, 2 * y])

    one, two = on_devices(function, mesh, (1, 2), (jnp.array(2.0),), part, 0.5)
    wanted = record.sum(axis=(1, 2))[None]
    np.testing.assert_array_equal(one, wanted)
    np.testing.assert_array_equal(two, np.stack([wanted, 2 * wanted]))
    assert len(jax.local_devices()) >= 1

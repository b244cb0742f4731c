"""A process that evaluates and maximises a likelihood: alone, on many devices, or one of several.

    shared_likelihood.py DEVICES [PROCESSES NUMBER PORT]

It prints what it found as JSON.
"""

import dataclasses
import json
import sys

import jax
import numpy as np

import jaxsde
from jaxsde.engine.sharding import shot_mesh
from jaxsde.inference.point import likelihood_point, make_likelihood
from jaxsde.inference.problem import make_problem
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Sequence, Stage

SEQUENCE = Sequence(
    stages=(Stage(name="ringdown", n_samples=40, controls=Controls(nbar=4.0)),),
    sample_interval=1e-6,
)
DETECTOR = jaxsde.Detector(efficiency=0.5, sample_interval=1e-6)
FREE = ("g_m", "n_m0")


def main():
    jax.config.update("jax_enable_x64", True)
    devices = int(sys.argv[1])
    jax.config.update("jax_num_cpu_devices", devices)
    if len(sys.argv) > 2:
        processes, number, port = map(int, sys.argv[2:])
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, number)
    params = jaxsde.Params.kohler2018(sigma_m=0.0, sigma_s=0.0)
    # 19 shots, one with a gap: neither is a multiple of the devices.
    key = jax.random.key(5)
    record = np.array(jaxsde.simulate(key, params, SEQUENCE, DETECTOR, 19, backend="scan").record)
    record[3, 7:9] = np.nan
    shared = None if devices == 1 and len(sys.argv) == 2 else jax.devices()
    problem = make_problem(
        params,
        record,
        FREE,
        sequence=SEQUENCE,
        detector=DETECTOR,
        mesh=None if shared is None else shot_mesh(shared),
    )
    point = likelihood_point(make_likelihood(problem), np.array([0.1, -0.2]), 0)
    found = dict(
        devices=len(jax.devices()),
        loss=point.loss,
        gradient=point.gradient.tolist(),
        information=point.information.tolist(),
    )
    if devices < 8:
        fit = jaxsde.calibrate(
            dataclasses.replace(params, g_m=TWO_PI * 23e3),
            record,
            FREE,
            sequence=SEQUENCE,
            detector=DETECTOR,
            devices=shared,
        )
        found |= dict(values=fit.values.tolist(), stderr=fit.stderr.tolist())
    print(json.dumps(found))


main()

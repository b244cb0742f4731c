"""What tests of streamed ensembles share: a small experiment, and digests of all that it yields.

streams.py digests DEVICES...     prints the digests of every array for meshes of these sizes
streams.py lives FOLDER KEEP BLOCK_SHOTS SHOTS
    for every line it reads, a process that makes the blocks of a run, or what is missing of it.
    It is forked before JAX has started a thread, so that imports are paid for once.
"""

import hashlib
import json
import os
import pathlib
import sys

import jax
import numpy as np

from jaxsde.analysis.sums import tree_sum
from jaxsde.lab.blocks import make_block
from jaxsde.lab.config import dump_experiment, parse_experiment
from jaxsde.lab.lock import locked
from jaxsde.lab.parts import blocks_of, open_experiment
from jaxsde.lab.setup import configure
from jaxsde.lab.stream import ThisProcess, stream

SMALL = """
title = "small"
[params]
omega_m = "2pi * 95 kHz"
omega_s = "2pi * 120 kHz"
kappa = "2pi * 1.82 MHz"
g_m = "2pi * 26 kHz"
g_s = "2pi * -18 kHz"
g_sm = "2pi * 120 Hz"
gamma_m = "2pi * 2 kHz"
n_bath = 1.0
B_s = "3e4 quanta/s"
epsilon = -1
sigma_m = "2pi * 500 Hz"
sigma_s = "2pi * 0 Hz"
n_m0 = 1.0
n_s0 = 1.0
[detector]
efficiency = 0.09
sample_interval = "1 us"
lo_power = "1 mW"
wavelength = "780 nm"
[sequence]
delta = "2pi * 5.5 kHz"
[[sequence.stages]]
name = "pulse"
duration = "40 us"
nbar = 10.0
delta_pc = "2pi * -2.0 MHz"
omega_m = "coupled"
[[sequence.stages]]
name = "ringdown"
duration = "50 us"
nbar = 4.0
delta_pc = "2pi * 0 MHz"
omega_m = "rest"
[simulation]
shots = 9001
seed = 3
dtype = "float64"
[analysis]
pulse = "pulse"
ringdown = "ringdown"
band = ["85 kHz", "150 kHz"]
cycle_average = "120 kHz"
fit_window = ["8 us", "32 us"]
"""


def experiment(**changes):
    """Return the small experiment; shots=... and the like replace the file's lines."""
    text = SMALL
    for name, value in changes.items():
        lines = [line for line in text.splitlines() if line.split(" = ")[0] == name]
        text = text.replace(f"\n{lines[0]}\n", f"\n{name} = {value}\n")
    return parse_experiment(text, "small.toml")


def text(**changes):
    """Return the text of an experiment that processes exchange."""
    return dump_experiment(experiment(**changes))


def digests(toml, keep, block_shots, devices=1, backend="auto", names=("main",)):
    """Return {part/array: SHA-256} of a whole run: sums added over blocks, shots joined."""
    _, parts = open_experiment(toml)
    out = {}
    for name in names:
        made = [
            make_block(toml, block, keep, devices=devices, backend=backend)
            for block in blocks_of(parts[name], block_shots)
        ]
        assert not any(outcome.why for outcome in made)
        for array in made[0].arrays:
            values = [outcome.arrays[array] for outcome in made]
            total = tree_sum(values) if array in ("sums", "moments") else np.concatenate(values)
            out[f"{name}/{array}"] = hashlib.sha256(total.tobytes()).hexdigest()
    return out


def main():
    if sys.argv[1] == "digests":
        configure()
        sizes = [int(size) for size in sys.argv[2:]]
        jax.config.update("jax_num_cpu_devices", max(sizes))
        found = {size: digests(text(), "records", 8192, size) for size in sizes}
        few, first = text(shots=1500), sizes[0]
        found["moments"] = digests(text(), "moments", 4096, first)
        found["scan"] = digests(few, "estimates", 1024, first, "scan")
        print(json.dumps(found))
        return
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            run(*sys.argv[2:])
            os._exit(0)
        print("pid", child, flush=True)
        print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def run(folder, keep, block_shots, shots):
    configure()
    jax.config.update("jax_num_cpu_devices", 1)
    with locked(pathlib.Path(folder)):
        stream(
            experiment(shots=shots),
            pathlib.Path(folder),
            keep,
            workers=ThisProcess(),
            block_shots=int(block_shots),
            resume=True,
            command=["test"],
            tell=lambda task, done, total: print(task, done, total, flush=True),
        )


if __name__ == "__main__":
    main()

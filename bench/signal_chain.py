"""Speed of the signal chain, and memory that 100,000 shots take.

python bench/signal_chain.py filters|chain|stream   (stream writes 0.9 GB, into --scratch)
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal

from jaxsde.analysis import filters
from jaxsde.engine.simulate import simulate
from jaxsde.lab.chain import analyse_chain, chain_rows
from jaxsde.lab.config import load_experiment
from jaxsde.lab.export import header_of
from jaxsde.lab.hdf5 import new_file
from jaxsde.lab.matching import experiment_of
from jaxsde.lab.records import open_records
from jaxsde.lab.spec import build_sequence

jax.config.update("jax_enable_x64", True)

PAPER = Path(__file__).resolve().parents[1] / "examples" / "kohler2018.toml"
ROUNDS = 7


def timed(call) -> tuple[float, float]:
    """Return the least wall time and CPU time of ROUNDS calls, s, after one that compiles."""
    call()
    best = (np.inf, np.inf)
    for _ in range(ROUNDS):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        best = min(best, (time.perf_counter() - wall, time.process_time() - cpu))
    return best


def time_filters() -> None:
    """Print the times of 10,000 records x 1,000 samples through the band-pass of S11."""
    sos = filters.band_pass((85e3, 150e3), 0.5e-6)
    x = np.random.default_rng(0).normal(size=(10_000, 1_000))
    on_device = jnp.asarray(x)
    for name in ("sosfilt", "sosfiltfilt"):
        ours, theirs = getattr(filters, name), getattr(scipy.signal, name)
        run = jax.jit(lambda x, f=ours: f(sos, x))
        wall, cpu = timed(lambda run=run: run(on_device).block_until_ready())
        expected = theirs(sos, x)
        error = np.abs(np.asarray(run(on_device)) - expected).max() / np.abs(expected).max()
        scipy_wall, _ = timed(lambda f=theirs: f(sos, x))
        print(
            f"{name}: {wall:.3f} s (CPU {cpu:.3f} s), SciPy {scipy_wall:.3f} s, error {error:.1e}"
        )


def write_shots(path: Path, n_shots: int, block: int = 2_000) -> None:
    """Simulate shots of the paper's experiment into an HDF5 file, in single precision."""
    experiment = load_experiment(PAPER)
    sequence, key = build_sequence(experiment), jax.random.key(experiment.seed)
    with new_file(path, header_of(experiment), n_shots, dtype="f4") as file:
        for i, first in enumerate(range(0, n_shots, block)):
            shots = simulate(
                jax.random.fold_in(key, i),
                experiment.params,
                sequence,
                experiment.detector,
                min(block, n_shots - first),
            )
            file["samples"][first : first + block] = np.asarray(shots.record)


def analyse(path: Path, rounds: int) -> None:
    """Print times and the largest memory of this process, as JSON."""
    source = open_records(path)
    experiment = experiment_of(source, None)
    assert experiment is not None
    walls, cpus, chain = [], [], None
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        chain = analyse_chain(experiment, source)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    assert chain is not None
    z = {row.name: row.z for row in chain_rows(chain)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(dict(shots=source.n_shots, wall=walls, cpu=cpus, peak_GiB=peak, z=z)))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("filters", "chain", "stream", "child"))
    parser.add_argument("--shots", type=int)
    parser.add_argument("--scratch", type=Path)
    asked = parser.parse_args()
    if asked.what == "filters":
        time_filters()
        return
    if asked.what == "child":
        analyse(asked.scratch, asked.shots)
        return
    shots, rounds = (200, ROUNDS) if asked.what == "chain" else (asked.shots or 100_000, 1)
    with tempfile.TemporaryDirectory(dir=asked.scratch) as folder:
        path = Path(folder) / "shots.h5"
        write_shots(path, shots)
        # A process of its own, whose memory is that of the analysis alone.
        args = [sys.executable, __file__, "child", "--scratch", str(path), "--shots", str(rounds)]
        subprocess.run(args, check=True)


if __name__ == "__main__":
    main()

"""A small experiment and its shots as laboratory records, shared by tests of what reads them."""

import dataclasses
import functools
import pathlib

import h5py
import jax
import numpy as np

from jaxsde.engine.detect import noise_variance
from jaxsde.engine.simulate import simulate
from jaxsde.lab.config import load_experiment
from jaxsde.lab.export import header_of
from jaxsde.lab.hdf5 import new_file
from jaxsde.lab.spec import Experiment, build_sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]
REAL = ROOT / "tests" / "data" / "levitated-particle.h5"
# Without the ramps: everything here compiles once for every kind of stage.
DURATIONS = dict(preparation=20e-6, pulse=60e-6, ringdown=120e-6)
N = 200
SHOTS = 64


@functools.cache
def experiment() -> Experiment:
    """Return kohler2018.toml with short stages, 1 us samples, and no scan."""
    e = load_experiment(ROOT / "examples" / "kohler2018.toml")
    return dataclasses.replace(
        e,
        shots=SHOTS,
        gain_scan=None,
        detector=dataclasses.replace(e.detector, sample_interval=1e-6),
        stages=tuple(
            dataclasses.replace(s, duration=DURATIONS[s.name])
            for s in e.stages
            if s.name in DURATIONS
        ),
    )


@functools.cache
def record() -> np.ndarray:
    """Return the record of SHOTS shots, W."""
    e = experiment()
    shots = simulate(jax.random.key(5), e.params, build_sequence(e), e.detector, SHOTS)
    return np.asarray(shots.record)


@functools.cache
def noise() -> np.ndarray:
    """Return the record of an empty cavity, W: quicker than shots, where any samples will do."""
    e = experiment()
    shape = (SHOTS, build_sequence(e).n_samples, 2)
    sigma = np.sqrt(float(np.asarray(noise_variance(e.detector))))
    return sigma * np.random.default_rng(6).normal(size=shape)


def write(path, samples=None, *, header=None, **attributes):
    """Write samples (all shots unless given) as one HDF5 file; None as an attribute deletes it."""
    samples = record() if samples is None else samples
    with new_file(path, header or header_of(experiment()), len(samples)) as file:
        file["samples"][:] = samples
        change(file["samples"].attrs, attributes)
    return path


def change(attrs, values):
    """Set attributes; None deletes one."""
    for name, value in values.items():
        if value is None:
            del attrs[name]
        else:
            attrs[name] = value


def write_each(folder, n=6, **attributes):
    """Write n shots of noise as one file each, axes time and channel, and return their paths."""
    folder.mkdir(exist_ok=True)
    paths = []
    for i in range(n):
        path = folder / f"shot_{i:03d}.h5"
        write(path, noise()[i : i + 1], **attributes)
        with h5py.File(path, "r+") as file:
            held, attrs = file["samples"][0], dict(file["samples"].attrs)
            del file["samples"]
            file["samples"] = held
            file["samples"].attrs.update(attrs | dict(axes="time,channel"))
        paths.append(path)
    return paths

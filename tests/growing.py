"""Traces of <D^2> whose shots scatter as the power of noise in a band does: by S12, and quickly."""

import functools

import jax.numpy as jnp
import numpy as np
import scipy.signal

import oracles
from jaxsde.analysis.displacement import MeanSquaredDisplacement

TIME = (np.arange(220) + 0.5) * 0.5e-6
MEMORY = 15e-6  # s, over which the field keeps its phase


def rows(rng, d_0, gain, diffusion, shots):
    """Return <D^2> of shots (shots, samples), exponentially distributed, correlated in time."""
    mean = oracles.growth(TIME, d_0, gain, diffusion)
    decay = np.exp(-0.5e-6 / MEMORY)
    white = rng.normal(size=(2, shots, len(TIME))) * np.sqrt(1 - decay**2)
    white[..., 0] /= np.sqrt(1 - decay**2)
    field = scipy.signal.lfilter([1.0], [1.0, -decay], white)
    return mean * (field**2).mean(axis=0)


def trace_of(each, time=TIME):
    """Return the trace of shots (shots, samples)."""
    return MeanSquaredDisplacement(
        time=time,
        mean=jnp.asarray(each.mean(axis=0)),
        stderr=jnp.asarray(each.std(axis=0, ddof=1) / np.sqrt(len(each))),
        each=jnp.asarray(each),
        noise_bias=jnp.zeros(len(time)),
    )


@functools.cache
def _traces(d_0, gain, diffusion, shots, seed):
    rng = np.random.default_rng(seed)
    pairs = zip(gain, diffusion, strict=True)
    return tuple(trace_of(rows(rng, d_0, g, b, shots)) for g, b in pairs)


def traces(D_0, gain, diffusion, shots, seed=1):
    """Return a trace for each gain (1/s) and diffusion, which share D_0."""
    return list(_traces(D_0, tuple(gain), tuple(diffusion), shots, seed))

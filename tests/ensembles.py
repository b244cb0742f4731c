"""Simulations that several test files share, each run once in a session."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

import jaxsde
from jaxsde.engine.records import signal_covariance

PARAMS = jaxsde.Params.kohler2018()
SEQUENCE = jaxsde.Sequence.kohler2018()
DETECTOR = jaxsde.Detector()


@functools.cache
def paper(n_shots: int = 20_000, seed: int = 1) -> jaxsde.Shots:
    """Return shots of the paper's sequence."""
    return jaxsde.simulate(
        jax.random.key(seed), PARAMS, SEQUENCE, DETECTOR, n_shots, dtype=jnp.float32
    )


def displacement_covariance(params, sequence, resolution):
    """Return the covariance of the box-averaged D (samples, samples), and <D^2> at their ends."""
    r, squares = signal_covariance(params, sequence, resolution)
    return r[:, 0, :, 0], squares


def z_of_products(x: ArrayLike, expected: ArrayLike) -> np.ndarray:
    """Return (sample mean of x_i x_j - expected)/its standard error, for the upper triangle.

    x: (shots, variables).  The error is the scatter of the products themselves, which makes no
    assumption on their law.
    """
    values = np.asarray(x, float)
    rows, columns = np.triu_indices(values.shape[1])
    products = values[:, rows] * values[:, columns]
    error = products.std(axis=0, ddof=1) / np.sqrt(len(values))
    return (products.mean(axis=0) - np.asarray(expected)[rows, columns]) / error


@functools.cache
def paper_displacement(n_shots: int = 20_000, seed: int = 1) -> jaxsde.MeanSquaredDisplacement:
    """Return <D^2>_cyc of `paper`."""
    return jaxsde.mean_squared_displacement(paper(n_shots, seed).record, PARAMS, SEQUENCE, DETECTOR)


@functools.cache
def expected_displacement() -> np.ndarray:
    """Return the exact expectation of `paper_displacement`."""
    return np.asarray(jaxsde.expected_displacement(PARAMS, SEQUENCE, DETECTOR))

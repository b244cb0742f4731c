"""The written-out adjoint against automatic reverse mode through the plain filter, its twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pulse_and_ringdown as tiny
from jaxsde.engine.covariance import gauss_hermite
from jaxsde.engine.plan import jitter_basis
from jaxsde.engine.resolution import choose_resolution
from jaxsde.inference.adjoint import adjoint_densities
from jaxsde.inference.evidence import arrange
from jaxsde.inference.likelihood import node_densities
from jaxsde.inference.tables import interval_of, tabulate

# 23 samples are no multiple of a block, and 9 nodes none of a part.
SEQUENCE = tiny.sequence(pulse=8, ringdown=15)


@pytest.mark.parametrize("gaps", [False, True])
def test_densities_and_gradients_are_those_of_the_plain_filter(gaps):
    record = np.array(tiny.shots().record[:4, :23])
    if gaps:
        record[:2, 5:9] = np.nan
        record[2:, 12, 1] = np.nan
    (evidence,) = arrange(record)
    assert (evidence.seen is not None) == gaps
    resolution = choose_resolution(tiny.PARAMS, SEQUENCE)
    tables = tabulate(tiny.PARAMS, SEQUENCE, tiny.DETECTOR, resolution)
    basis = jitter_basis(gauss_hermite((3, 3))[0], resolution.jitter_nodes)
    which = jnp.asarray(interval_of(SEQUENCE, resolution))
    shape = (9, *evidence.shots.shape)
    weight = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, shape))

    def both(of):
        made, back = jax.vjp(
            lambda t: of(t, basis, which, evidence, SEQUENCE.sample_interval), tables
        )
        return made, back(weight)[0]

    got, slopes = both(adjoint_densities)
    want, plain = both(node_densities)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    for a, b in zip(jax.tree.leaves(slopes), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10 * float(jnp.abs(b).max()))

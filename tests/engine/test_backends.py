"""Which backend runs, what is said of it, and that both give what is asked for."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
from jaxsde.engine import backends
from jaxsde.engine.noise import seed_words
from jaxsde.engine.outputs import Asked
from jaxsde.engine.resolution import choose_resolution
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Sequence, Stage

PARAMS, IQ = Params.kohler2018(), jaxsde.Detector()
PULSE = Controls(nbar=10.0, delta_pc=TWO_PI * -2.0e6, omega_m=TWO_PI * 125.5e3)
SHORT = Sequence(stages=(Stage(name="pulse", n_samples=3, controls=PULSE),), sample_interval=0.5e-6)
RESOLUTION = choose_resolution(PARAMS, SHORT)


def outputs(backend, asked, weights=None, shots=5):
    chosen, prepared = backends.choose_engine(
        backend, PARAMS, SHORT, IQ, RESOLUTION, "float64", 0 if weights is None else len(weights)
    )
    ids = jnp.arange(shots, dtype=jnp.uint32)
    return backends.run(
        chosen, prepared, seed_words(jax.random.key(1)), PARAMS, SHORT, IQ, ids, RESOLUTION,
        "float64", asked=asked, weights=weights,
    )  # fmt: skip


# --- what is chosen -------------------------------------------------------------------------------


def test_the_choice_is_told():
    got = jaxsde.simulate(jax.random.key(0), PARAMS, SHORT, IQ, 2)
    assert (got.backend, got.note) == ("fused", "")
    plain = jaxsde.simulate(jax.random.key(0), PARAMS, SHORT, IQ, 2, backend="scan")
    assert (plain.backend, plain.note) == ("scan", "")


@pytest.mark.parametrize(
    "nodes, filters, dtype, reason",
    [
        (17, 0, "float32", r"takes 17 nodes, and the kernel holds 16"),
        (5, 17, "float32", r"17 filters were given, and the kernel holds 16"),
        (5, 0, "float16", r"has no float16"),
    ],
)
def test_what_the_kernel_cannot_do_is_said(nodes, filters, dtype, reason):
    resolution = dataclasses.replace(RESOLUTION, jitter_nodes=nodes)
    auto = backends.choose_backend("auto", resolution, dtype, filters)
    assert auto.name == "scan"
    with pytest.raises(ValueError, match=rf"^backend: 'fused' cannot run: .*{reason}; take"):
        backends.choose_backend("fused", resolution, dtype, filters)
    assert re.search(reason, auto.note)


def test_noise_that_the_polynomials_do_not_resolve_goes_to_the_scan():
    """One noise drives all, and jitter of a tenth of the frequency turns what it drives."""
    params = Params.kohler2018(B_s=0.0, gamma_m=0.0, sigma_m=TWO_PI * 2e4, sigma_s=TWO_PI * 1e4)
    got = jaxsde.simulate(jax.random.key(0), params, SHORT, IQ, 2)
    assert got.backend == "scan"
    assert got.note.startswith("the noise of this system turns too fast")
    with pytest.raises(ValueError, match=r"^backend: 'fused' cannot run: the noise of this system"):
        jaxsde.simulate(jax.random.key(0), params, SHORT, IQ, 2, backend="fused")


@pytest.mark.parametrize("backend", ["scan", "fused"])
def test_what_is_asked_for_is_given(backend):
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 2)) * 1e9)
    both = outputs(backend, Asked(displacement=True), weights)
    assert both.record.shape == (5, 3, 2) and both.states.shape == (5, 1, 6)
    assert both.sums.shape == (1, 3, 2)
    expected = np.einsum("ftk,stk->sf", weights, both.record)
    np.testing.assert_allclose(both.filters, expected, rtol=1e-9, atol=1e-9 * expected.std())
    alone = outputs(backend, Asked(record=False, states=False), weights)
    np.testing.assert_allclose(alone.filters, both.filters, rtol=1e-9, atol=1e-12)
    assert alone.record.size == alone.states.size == alone.sums.size == 0
    assert outputs(backend, Asked()).filters.size == 0


@pytest.mark.parametrize("backend", ["scan", "fused"])
@pytest.mark.parametrize("shape", [(2, 4, 2), (2, 3, 1), (0, 3, 2)])
def test_weights_must_fit(backend, shape):
    with pytest.raises(ValueError, match=r"^weights: wanted shape \(filters, 3, 2\) for this seq"):
        outputs(backend, Asked(), jnp.ones(shape))


def test_float32_propagators_serve_both():
    with jax.enable_x64(False), pytest.warns(UserWarning, match="x64 mode is off"):
        made = [
            jaxsde.simulate(jax.random.key(2), PARAMS, SHORT, IQ, 9, backend=b)
            for b in ("fused", "scan")
        ]
    fused, scan = (np.asarray(m.record, float) for m in made)
    assert np.abs(fused - scan).max() < 1e-3 * scan.std()

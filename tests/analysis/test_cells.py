"""Cells: what they keep of shots is what `simulate` yields."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import streams
from jaxsde.analysis.cells import make_cells, make_moments
from jaxsde.analysis.matched import apply_filters
from jaxsde.analysis.sums import CELL, tree_sum, unpack
from jaxsde.engine.outputs import GROUP, Asked
from jaxsde.engine.sharding import shot_mesh
from jaxsde.engine.simulate import simulate, simulate_outputs
from jaxsde.lab.experiment import ringdown_filters
from jaxsde.lab.parts import production

MESH = shot_mesh()


def key():
    return jax.random.fold_in(jax.random.key(3), 0)


def test_shots_are_those_of_simulate():
    made, e = production(streams.text(), "main", "records"), streams.experiment()
    found = make_cells(made, 512, 1500, mesh=MESH, cells=2)
    wanted = simulate(key(), e.params, made.sequence, e.detector, 988, first_shot=512)
    for name, value in (("record", wanted.record), ("state", wanted.states)):
        assert np.array_equal(np.asarray(found[name])[:988], np.asarray(value)), name
    for name in ("omega_m", "omega_s"):
        np.testing.assert_allclose(np.asarray(found[name])[:988], getattr(wanted, name), rtol=1e-15)
    q = apply_filters(wanted.record, ringdown_filters(e, made.sequence))
    np.testing.assert_allclose(np.asarray(found["filters"])[:988], q, rtol=0, atol=1e-9)
    sums = unpack(made.reduction, tree_sum(np.asarray(found["sums"])))
    assert sums["shots"] == 988
    assert not np.asarray(found["bad"]).any()
    assert found["sums"].shape[0] * CELL == found["record"].shape[0]


@pytest.mark.parametrize("keep, kept", [("estimates", set()), ("filters", {"filters"})])
def test_less_is_kept_on_demand(keep, kept):
    made = production(streams.text(), "main", keep)
    found = set(make_cells(made, 0, 100, mesh=MESH, cells=1))
    assert found - {"omega_m", "omega_s"} == {"sums", "bad"} | kept


def test_moments_come_by_groups_and_their_last_by_itself():
    made, e = production(streams.text(), "main", "moments"), streams.experiment()
    found = make_moments(made, 0, GROUP + 100, mesh=MESH, groups=1)
    asked = Asked(record=False, states=False, moments=True)
    wanted, _ = simulate_outputs(
        key(), e.params, made.sequence, e.detector, GROUP + 100, asked=asked
    )
    assert len(found) == 2
    assert np.array_equal(np.stack(found), np.asarray(wanted.sums))


def test_shots_that_are_not_finite_are_told_and_those_beyond_the_end_are_not():
    made = production(streams.text(), "main", "estimates")
    hot = dataclasses.replace(made.prepared, start=made.prepared.start * jnp.inf)
    found = make_cells(dataclasses.replace(made, prepared=hot), 0, 600, mesh=MESH, cells=2)
    bad = np.asarray(found["bad"])
    assert bad[:600].all() and not bad[600:].any()

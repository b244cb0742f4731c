import json

import jax
import numpy as np
import pytest

from jaxsde.lab.gallery.settings import (
    BLUE,
    DELTA_THEORY,
    SHOTS,
    Settings,
    experiment,
    facts_of,
    key_of,
    shots_of,
)
from jaxsde.lab.spec import build_sequence
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence


@pytest.mark.parametrize("t_c", [60e-6, 140e-6])
def test_the_experiment_is_the_papers_sequence(t_c):
    made = build_sequence(experiment(t_c=t_c, delta_pc=BLUE))
    wanted = Sequence.kohler2018(delta=DELTA_THEORY, t_c=t_c, delta_pc=BLUE)
    assert [s.name for s in made.stages] == [s.name for s in wanted.stages]
    assert made.n_samples == wanted.n_samples
    for a, b in zip(made.stages, wanted.stages, strict=True):
        assert a.controls.nbar == b.controls.nbar and a.controls.B_s == b.controls.B_s
        np.testing.assert_allclose(a.controls.delta_pc, b.controls.delta_pc)
        np.testing.assert_allclose(a.controls.omega_m, b.controls.omega_m)


def test_no_pulse_leaves_it_out():
    made = experiment(t_c=0.0)
    assert "pulse" not in [s.name for s in made.stages] and made.analysis.pulse is None


def test_numbers_of_shots_are_the_papers_unless_given():
    assert shots_of(Settings(), "pulse") == 200 and shots_of(Settings(), "resonance") == 30
    assert {shots_of(Settings(shots=77), name) for name in SHOTS} == {77}
    for number, why in SHOTS.values():
        assert "printed" in why or f"{number} chosen" in why


def test_no_two_ensembles_share_a_key():
    keys = [
        tuple(np.asarray(jax.random.key_data(key_of(Settings(seed=seed), name, i))))
        for seed in (0, 1)
        for name in SHOTS
        for i in range(3)
    ]
    assert len(set(keys)) == len(keys)


def test_facts_are_json_and_hold_every_parameter():
    facts = facts_of(experiment(shots=5, seed=3), window=[1e-6, 2e-6])
    assert json.loads(json.dumps(facts))["window"] == [1e-6, 2e-6]
    assert set(facts["params"]) == set(Params.__dataclass_fields__)
    assert facts["shots"] == 5 and facts["seed"] == 3 and len(facts["stages"]) == 5

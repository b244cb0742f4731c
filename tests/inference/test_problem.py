import dataclasses

import numpy as np
import pytest

import pulse_and_ringdown as tiny
from jaxsde.inference.problem import (
    DataSet,
    evidence_of,
    make_problem,
    model_at,
    prior_loss,
    prior_residuals,
    values_at,
)
from jaxsde.inference.transform import Gaussian, LogNormal
from pulse_and_ringdown import DETECTOR, FREE, PARAMS, SEQUENCE, shots


def data(**fields):
    given = dict(record=shots().record, sequence=SEQUENCE, detector=DETECTOR)
    return DataSet(**given | fields)


def problem(sets, free=FREE, **options):
    return make_problem(PARAMS, sets, free, **options)


def test_own_parameters_come_in_each_data_set_and_shared_ones_once():
    made = problem([data(own=("B_s",), name="a"), data(own=("B_s",)), data()])
    assert made.names == ("g_m", "g_s", "B_s", "B_s[a]", "B_s[1]")
    assert made.n_shots == 300
    u = np.arange(5) / 10
    for number, index in ((0, 3), (1, 4), (2, 2)):
        params = model_at(made, u, number).params
        assert float(params.B_s) == pytest.approx(PARAMS.B_s * np.exp(u[index]))
        assert float(params.g_s) == pytest.approx(PARAMS.g_s * np.exp(0.1))
    np.testing.assert_allclose(values_at(made, u)[1], PARAMS.g_s * np.exp(0.1))


def test_what_is_given_for_a_data_set_is_not_the_shared_one():
    """Unpolarised atoms: no spin in one data set, whose shots say nothing of g_s."""
    made = problem([data(given={"g_s": 0.0}), data()])
    assert made.names == FREE
    assert made.models[0].params.g_s == 0.0
    assert made.frees[1].data == (1,)
    assert float(model_at(made, np.ones(3), 0).params.g_s) == 0.0


def test_stages_that_one_data_set_lacks_may_be_free_in_another():
    ringdown = dataclasses.replace(SEQUENCE, stages=SEQUENCE.stages[1:])
    short = data(record=shots().record[:, 40:], sequence=ringdown)
    made = problem([short, data()], ("g_m", "pulse.delta_pc"))
    assert [f.data for f in made.frees] == [(0, 1), (1,)]


def test_priors_are_residuals_of_values():
    priors = {
        "g_m": Gaussian(mean=1.1 * PARAMS.g_m, stderr=0.05 * PARAMS.g_m),
        "B_s": LogNormal(median=PARAMS.B_s, spread=0.2),
    }
    made = problem(data(), priors=priors)
    u = np.array([0.0, 0.0, 0.4])
    np.testing.assert_allclose(prior_residuals(made, u), [-2.0, 2.0])
    assert float(prior_loss(made, u)) == pytest.approx(4.0)
    assert float(prior_loss(problem(data()), u)) == 0.0


def test_evidence_has_every_shot_and_sample():
    made = problem(data())
    (part,), which = evidence_of(made, 0)
    assert part.record.shape == (120, 2, 1, 100)
    np.testing.assert_array_equal(which, [0] * 40 + [1] * 80)


def test_technical_imperfections_are_no_part_of_the_model():
    from jaxsde.engine.technical import Technical

    detector = dataclasses.replace(DETECTOR, technical=Technical(adc_range=1.0))
    assert problem(data(detector=detector)).models[0].detector.technical is None


@pytest.mark.parametrize(
    "sets, options, message",
    [
        ([], {}, r"^data: wanted Shots, a record or a list of DataSet, got 0$"),
        ([3.0], {}, r"^data: wanted Shots, a record or a list of DataSet, got float$"),
        ([data(own=("kappa",))], {}, r"^data\[0\]\.own: wanted names of free parameters"),
        ([data(given={"g_x": 1.0})], {}, r"^data\[0\]\.given: wanted fields of Params, .* 'g_x'"),
        ([data(), data(record=shots().record[:, 1:])], {}, r"^data\[1\]\.record: wanted \(shots, "),
        ([data()], dict(free=("g_m", "g_m")), r"^free: wanted each name once, got 'g_m' 2 times"),
        ([data()], dict(bounds={"g_x": (0.0, 1.0)}), r"^bounds: wanted names of free parameters"),
    ],
)
def test_what_cannot_be_is_refused(sets, options, message):
    with pytest.raises(ValueError, match=message):
        problem(sets, **options)


def test_a_record_needs_its_sequence_and_detector():
    with pytest.raises(ValueError, match=r"^detector: wanted the one that the records were made"):
        problem(shots(), sequence=tiny.SEQUENCE)

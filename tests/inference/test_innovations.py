import jax
import numpy as np

import jaxsde
import pulse_and_ringdown as tiny
from jaxsde.inference.innovations import innovations
from jaxsde.inference.point import make_likelihood
from jaxsde.inference.problem import make_problem


def of(record, params=tiny.PARAMS):
    problem = make_problem(
        params, record, tiny.FREE, sequence=tiny.SEQUENCE, detector=tiny.DETECTOR
    )
    return innovations(make_likelihood(problem), np.zeros(3), 0, 1)


def test_innovations_of_the_true_model_are_white_whatever_the_jitter():
    """400 shots x 240 numbers: variance to 0.5 %, correlations of neighbours to 0.3 %."""
    record = jaxsde.simulate(
        jax.random.key(11), tiny.PARAMS, tiny.SEQUENCE, tiny.DETECTOR, 400
    ).record
    e = of(record)
    assert e.shape == (400, 120, 2)
    n = e.size
    assert abs(e.mean()) * np.sqrt(n) < 4
    assert abs(e.var() - 1) * np.sqrt(n / 2) < 4
    for lag in (1, 2, 5, 8):
        assert abs(np.mean(e[:, lag:] * e[:, :-lag])) * np.sqrt(n) < 4
    assert abs(np.mean(e[..., 0] * e[..., 1])) * np.sqrt(n / 2) < 4
    # The raw record is far from white.
    y = np.asarray(record)[..., 1] / np.asarray(record)[..., 1].std()
    assert abs(np.mean(y[:, 8:] * y[:, :-8])) * np.sqrt(n / 2) > 10


def test_missing_samples_have_none():
    record = np.array(tiny.shots().record)
    record[3, 10:20] = np.nan
    e = of(record)
    assert np.isnan(e[3, 10:20]).all()
    assert np.isfinite(e).sum() == e.size - 20
    # Before the gap nothing changes.
    np.testing.assert_allclose(e[3, :10], of(tiny.shots().record)[3, :10], rtol=1e-10)

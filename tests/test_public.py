"""The public names are a contract."""

import inspect

import pytest

import jaxsde

NAMES = (
    *("Params", "Controls", "Stage", "Sequence", "Detector"),
    *("drift", "diffusion", "instability_gain", "normal_modes", "covariance"),
    *("simulate", "Shots", "mean_squared_displacement", "fit_gain"),
    *("matched_filter", "estimate_moments", "calibrate", "Calibration"),
    *("log_likelihood", "DataSet", "Gaussian", "LogNormal", "profile", "goodness_of_fit"),
    *("fisher_information", "observed_information", "cramer_rao", "identifiability"),
    *("expected_information", "best_design"),
)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_public(name):
    assert name in jaxsde.__all__
    assert hasattr(jaxsde, name)


def test_all_lists_each_name_once_and_no_module():
    assert len(jaxsde.__all__) == len(set(jaxsde.__all__))
    assert [name for name in jaxsde.__all__ if not hasattr(jaxsde, name)] == []
    modules = [name for name in jaxsde.__all__ if inspect.ismodule(getattr(jaxsde, name))]
    assert modules == []


def test_everything_public_is_documented():
    assert inspect.getdoc(jaxsde)
    for name in jaxsde.__all__:
        value = getattr(jaxsde, name)
        if inspect.isclass(value) or callable(value):
            text = inspect.getdoc(value)
            # A dataclass without a docstring gets its signature for one.
            assert text and not text.startswith(f"{name}("), f"{name} has no docstring"

"""jaxsde: simulate and calibrate linear spin-motion-cavity experiments in JAX."""

from jaxsde.analysis.displacement import (
    MeanSquaredDisplacement,
    expected_displacement,
    mean_squared_displacement,
)
from jaxsde.analysis.gain import GainFit, fit_gain
from jaxsde.analysis.matched import FilterBank, apply_filters, matched_filter
from jaxsde.analysis.moments import Moments, derived, estimate_moments, true_moments
from jaxsde.engine.covariance import covariance
from jaxsde.engine.detect import Detector
from jaxsde.engine.simulate import Shots, simulate
from jaxsde.engine.step import Step
from jaxsde.inference.calibrate import Calibration, calibrate
from jaxsde.physics.model import diffusion, drift
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Controls, Sequence, Stage
from jaxsde.physics.theory import instability_gain, normal_modes

__version__ = "0.1.0"

__all__ = [
    "Calibration",
    "Controls",
    "Detector",
    "FilterBank",
    "GainFit",
    "MeanSquaredDisplacement",
    "Moments",
    "Params",
    "Sequence",
    "Shots",
    "Stage",
    "Step",
    "apply_filters",
    "calibrate",
    "covariance",
    "derived",
    "diffusion",
    "drift",
    "estimate_moments",
    "expected_displacement",
    "fit_gain",
    "instability_gain",
    "matched_filter",
    "mean_squared_displacement",
    "normal_modes",
    "simulate",
    "true_moments",
]

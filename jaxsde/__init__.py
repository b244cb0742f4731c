"""jaxsde: simulate and calibrate linear spin-motion-cavity experiments in JAX."""

from jaxsde.analysis.anomalous import DiffusionFit, fit_diffusion
from jaxsde.analysis.bootstrap import bootstrap_moments, central_intervals
from jaxsde.analysis.demodulate import demodulate
from jaxsde.analysis.displacement import (
    MeanSquaredDisplacement,
    expected_displacement,
    mean_squared_displacement,
)
from jaxsde.analysis.entanglement import epr_variance, log_negativity, physicality, purity
from jaxsde.analysis.gain import GainFit, fit_gain
from jaxsde.analysis.inversion import invert, noise_budget
from jaxsde.analysis.joint_gain import JointGain, choose_window, fit_gain_jointly
from jaxsde.analysis.larmor import FrequencySpread, frequency_spread
from jaxsde.analysis.lines import LineFit, fit_lines
from jaxsde.analysis.matched import FilterBank, apply_filters, matched_filter
from jaxsde.analysis.moments import (
    Moments,
    derived,
    estimate_moments,
    moments_of_outputs,
    true_moments,
)
from jaxsde.analysis.optimal import best_filter, estimate_covariance, record_model
from jaxsde.analysis.spectra import spectrogram, welch
from jaxsde.analysis.sweep import atoms_from_sweeps, fit_resonance
from jaxsde.analysis.systematics import record_moments, systematic_moments
from jaxsde.analysis.thermometry import sideband_periodograms, sideband_thermometry
from jaxsde.engine.covariance import covariance
from jaxsde.engine.detect import Detector
from jaxsde.engine.outputs import Asked, Outputs
from jaxsde.engine.records import record_covariance
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.engine.simulate import Shots, simulate, simulate_outputs
from jaxsde.engine.spectrum import sampled_density, sidebands, spectral_density
from jaxsde.engine.step import Step, decimate
from jaxsde.engine.technical import Technical
from jaxsde.inference.calibrate import Calibration, calibrate
from jaxsde.inference.design import Design, best_design, expected_information
from jaxsde.inference.goodness import GoodnessOfFit, goodness_of_fit
from jaxsde.inference.initial_state import InitialState, initial_state
from jaxsde.inference.likelihood import log_likelihood
from jaxsde.inference.problem import DataSet
from jaxsde.inference.transform import Gaussian, LogNormal
from jaxsde.inference.uncertainty import (
    Identifiability,
    Profile,
    cramer_rao,
    fisher_information,
    identifiability,
    observed_information,
    profile,
)
from jaxsde.physics.model import diffusion, drift
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Controls, Sequence, Stage, Switching
from jaxsde.physics.theory import (
    instability_gain,
    normal_modes,
    optical_coupling,
    optical_shift,
    spring_coupling,
    static_coupling,
    two_mode_frequencies,
)

__version__ = "0.1.0"

__all__ = [
    "Asked",
    "Calibration",
    "Controls",
    "DataSet",
    "Design",
    "Detector",
    "DiffusionFit",
    "FilterBank",
    "FrequencySpread",
    "GainFit",
    "Gaussian",
    "GoodnessOfFit",
    "Identifiability",
    "InitialState",
    "JointGain",
    "LineFit",
    "LogNormal",
    "MeanSquaredDisplacement",
    "Moments",
    "Outputs",
    "Params",
    "Profile",
    "Resolution",
    "Sequence",
    "Shots",
    "Stage",
    "Step",
    "Switching",
    "Technical",
    "apply_filters",
    "atoms_from_sweeps",
    "best_design",
    "best_filter",
    "bootstrap_moments",
    "calibrate",
    "central_intervals",
    "choose_resolution",
    "choose_window",
    "covariance",
    "cramer_rao",
    "decimate",
    "demodulate",
    "derived",
    "diffusion",
    "drift",
    "epr_variance",
    "estimate_covariance",
    "estimate_moments",
    "expected_displacement",
    "expected_information",
    "fisher_information",
    "fit_diffusion",
    "fit_gain",
    "fit_gain_jointly",
    "fit_lines",
    "fit_resonance",
    "frequency_spread",
    "goodness_of_fit",
    "identifiability",
    "initial_state",
    "instability_gain",
    "invert",
    "log_likelihood",
    "log_negativity",
    "matched_filter",
    "mean_squared_displacement",
    "moments_of_outputs",
    "noise_budget",
    "normal_modes",
    "observed_information",
    "optical_coupling",
    "optical_shift",
    "physicality",
    "profile",
    "purity",
    "record_covariance",
    "record_model",
    "record_moments",
    "sampled_density",
    "sideband_periodograms",
    "sideband_thermometry",
    "sidebands",
    "simulate",
    "simulate_outputs",
    "spectral_density",
    "spectrogram",
    "spring_coupling",
    "static_coupling",
    "systematic_moments",
    "true_moments",
    "two_mode_frequencies",
    "welch",
]

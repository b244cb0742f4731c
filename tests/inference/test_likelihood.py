import dataclasses
import functools

import jax
import numpy as np
import pytest
import scipy.stats

import jaxsde
from jaxsde.engine.covariance import gauss_hermite
from jaxsde.engine.records import record_covariance
from jaxsde.engine.resolution import choose_resolution
from jaxsde.inference.evidence import arrange
from jaxsde.inference.likelihood import shot_log_likelihoods
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Sequence, Stage, Switching

PARAMS = jaxsde.Params.kohler2018(sigma_m=TWO_PI * 3e3, sigma_s=TWO_PI * 2e3)
UP, REST = TWO_PI * 125.5e3, TWO_PI * 95e3
DT = 0.5e-6


def stage(name, n, nbar, delta_pc=0.0, omega_m=REST):
    controls = Controls(nbar=nbar, delta_pc=delta_pc, omega_m=omega_m)
    return Stage(name=name, n_samples=n, controls=controls)


SEQUENCE = Sequence(
    stages=(
        stage("preparation", 6, 1.0),
        stage("ramp_up", 3, (1.0, 6.0), omega_m=(REST, UP)),
        stage("pulse", 8, 10.0, TWO_PI * -2e6, UP),
        stage("ringdown", 9, 4.0),
    ),
    sample_interval=DT,
)
STEADY = dataclasses.replace(SEQUENCE, stages=(SEQUENCE.stages[2], SEQUENCE.stages[3]))
SWITCHED = dataclasses.replace(STEADY, switching=Switching(rise_time=0.3e-6))
SEQUENCES = {"ramp": SEQUENCE, "steady": STEADY, "switched": SWITCHED}
RECEIVERS = {
    "heterodyne": jaxsde.Detector(efficiency=0.5),
    "output field": jaxsde.Detector(efficiency=0.9, collection=1.0, model="input_output"),
    "homodyne": jaxsde.Detector.homodyne(0.7, efficiency=0.9, collection=1.0),
    "D": jaxsde.Detector.ideal(DT),
}


@functools.cache
def records(receiver, sequence="steady", shots=5):
    rng = jax.random.key(3)
    made = jaxsde.simulate(rng, PARAMS, SEQUENCES[sequence], RECEIVERS[receiver], shots)
    return np.asarray(made.record)


def resolution_of(sequence):
    return choose_resolution(PARAMS, sequence)


def at_node(z):
    """Return params without jitter, and what the sequence's omega_m becomes, at an offset."""
    moved = PARAMS.sigma_m * z[0]
    params = dataclasses.replace(
        PARAMS, sigma_m=0.0, sigma_s=0.0, omega_s=PARAMS.omega_s + PARAMS.sigma_s * z[1]
    )

    def shift(controls):
        ends = jax.tree.map(lambda w: w + moved, controls.omega_m)
        return dataclasses.replace(controls, omega_m=ends)

    return params, shift


def dense(params, sequence, detector, record):
    """Return log p of each shot from the joint Gaussian of all its samples that are there."""
    resolution = resolution_of(sequence)
    n = record.shape[1] * record.shape[2]
    cov = np.asarray(record_covariance(params, sequence, detector, resolution, nodes=(1, 1)))
    cov = cov.reshape(n, n)
    out = []
    for y in record.reshape(len(record), n):
        there = np.flatnonzero(np.isfinite(y))
        if detector.unit == "W":  # SciPy takes variances of 1e-17 for nothing
            y = y * 1e8
        scale = 1e16 if detector.unit == "W" else 1.0
        law = scipy.stats.multivariate_normal(cov=scale * cov[np.ix_(there, there)])
        out.append(law.logpdf(y[there]) + len(there) * np.log(scale) / 2)
    return np.array(out)


def mixture(sequence, detector, record, nodes):
    """Return log p of each shot, jitter averaged over dense Gaussians at the nodes."""
    z, w = gauss_hermite(nodes)
    found = []
    for offset in np.asarray(z).T:
        params, shift = at_node(offset)
        stages = tuple(dataclasses.replace(s, controls=shift(s.controls)) for s in sequence.stages)
        moved = dataclasses.replace(sequence, stages=stages)
        found.append(dense(params, moved, detector, record))
    return scipy.special.logsumexp(np.array(found), b=np.asarray(w)[:, None], axis=0)


def likelihoods(detector, record, sequence=STEADY, nodes=(3, 3)):
    resolution = resolution_of(sequence)
    return np.asarray(
        shot_log_likelihoods(
            PARAMS, record, sequence=sequence, detector=detector, nodes=nodes,
            resolution=resolution,
        )
    )  # fmt: skip


@pytest.mark.parametrize("receiver", list(RECEIVERS))
def test_it_is_the_joint_gaussian_of_the_whole_record(receiver):
    """At the node in the middle: the nominal frequencies."""
    sequence = "ramp" if receiver == "heterodyne" else "steady"
    detector, record = RECEIVERS[receiver], records(receiver, sequence)
    got = likelihoods(detector, record, SEQUENCES[sequence], (1, 1))
    want = mixture(SEQUENCES[sequence], detector, record, (1, 1))
    np.testing.assert_allclose(got, want, rtol=1e-9)


def test_jitter_is_averaged_over_joint_gaussians():
    detector, record = RECEIVERS["heterodyne"], records("heterodyne")
    got = likelihoods(detector, record)
    np.testing.assert_allclose(got, mixture(STEADY, detector, record, (3, 3)), rtol=1e-9)
    # And jitter of 3 and 2 kHz shows even in 8 us.
    assert np.abs(got - likelihoods(detector, record, nodes=(1, 1))).max() > 1e-5


@pytest.mark.slow
def test_through_a_switched_mean_field():
    detector, record = RECEIVERS["output field"], records("output field", "switched")
    got = likelihoods(detector, record, SWITCHED, (1, 1))
    np.testing.assert_allclose(got, mixture(SWITCHED, detector, record, (1, 1)), rtol=1e-9)


def test_samples_that_are_missing_are_left_out():
    detector, record = RECEIVERS["heterodyne"], records("heterodyne").copy()
    record[0, 4:7] = np.nan
    record[1, 4:7] = np.nan
    record[2, 11, 0] = np.nan
    record[3, 12:] = np.nan
    got = likelihoods(detector, record, nodes=(1, 1))
    np.testing.assert_allclose(got, mixture(STEADY, detector, record, (1, 1)), rtol=1e-9)
    patterns = [tuple(part.shots.shape) for part in arrange(record)]
    assert sorted(patterns) == [(1, 1), (1, 2), (2, 1)]


def test_nodes_are_added_until_they_change_nothing():
    detector, record = RECEIVERS["heterodyne"], records("heterodyne")
    got = float(jaxsde.log_likelihood(PARAMS, record, sequence=STEADY, detector=detector))
    assert got == pytest.approx(likelihoods(detector, record, nodes=(5, 5)).sum(), abs=0.01)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda y: y[:, :-1], r"^record: wanted \(shots, 17, 2\), the samples of this sequence"),
        (lambda y: y[0], r"^record: wanted \(shots, 17, 2\).* got \(17, 2\)"),
        (lambda y: y * np.nan, r"^record: wanted at least one sample, got NaN throughout$"),
        (lambda y: np.where(y > 0, np.inf, y), r"^record: wanted finite samples, .* in 5 shots$"),
    ],
)
def test_records_are_checked(change, message):
    detector, record = RECEIVERS["heterodyne"], records("heterodyne")
    with pytest.raises(ValueError, match=message):
        jaxsde.log_likelihood(PARAMS, change(record), sequence=STEADY, detector=detector)


def test_traced_params_need_nodes():
    detector, record = RECEIVERS["heterodyne"], records("heterodyne")

    def of(g_m):
        params = dataclasses.replace(PARAMS, g_m=g_m)
        return jaxsde.log_likelihood(
            params, record, sequence=STEADY, detector=detector,
            resolution=resolution_of(STEADY),
        )  # fmt: skip

    with pytest.raises(ValueError, match=r"^nodes: params are traced .* pass nodes="):
        jax.grad(of)(PARAMS.g_m)

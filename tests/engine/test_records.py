import dataclasses
import itertools

import numpy as np
import pytest

import light
import oracles
import oracles_light
from ensembles import displacement_covariance
from jaxsde.engine.detect import Detector
from jaxsde.engine.records import record_covariance, signal_covariance
from jaxsde.engine.resolution import choose_resolution
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Sequence

DT = 0.5e-6
STILL = light.STILL
RECEIVERS = light.receivers(efficiency=0.8, collection=1.0)


def in_shot_noise(got, expected, detector):
    """Return the largest difference, in units of the shot noise of a sample."""
    unit = detector.S_SN / DT
    return np.abs(np.asarray(got) - np.asarray(expected)).max() / unit


# --- against dense records ------------------------------------------------------------------------

SEQUENCE = light.MIXED


@pytest.mark.parametrize("name", RECEIVERS)
def test_record_is_that_of_the_integrated_moment_equations(name):
    detector = RECEIVERS[name]
    got = record_covariance(
        STILL, SEQUENCE, detector, choose_resolution(STILL, SEQUENCE), nodes=(1, 1)
    )
    expected = light.dense_record(STILL, SEQUENCE, detector)
    assert got.shape == expected.shape
    assert in_shot_noise(got, expected, detector) < 3e-8  # ramps are held to 1e-8
    np.testing.assert_allclose(got, np.transpose(got, (2, 3, 0, 1)), rtol=1e-12, atol=1e-26)
    # Something is there to be compared: the pulse shows in the record, and the light remembers.
    lags = np.abs(expected[8, 0, 9:, 0]) / (detector.S_SN / DT)
    assert lags.max() > (1e-6 if name == "amplitude" else 1e-3)


def test_reflected_vacuum_is_needed():
    """The dense record without -xi_in in the output differs by more than a tenth of shot noise."""
    detector = RECEIVERS["heterodyne"]
    expected = light.dense_record(STILL, SEQUENCE, detector)
    d = light.diffusion(STILL, SEQUENCE.stages[2].controls, "input_output", reflected=0.0)
    full = light.diffusion(STILL, SEQUENCE.stages[2].controls, "input_output")
    assert np.abs(d[:6, 6:]).max() == 0 and np.abs(full[:6, 6:]).max() > 0
    step = oracles.joint_map(
        DT, lambda _: light.generator(STILL, SEQUENCE.stages[2].controls, 0.0, "input_output"), d, 6
    )
    g, white = light.gains(STILL, SEQUENCE.stages[2].controls, detector)
    a, c, noise_x, noise_y = oracles.receiver_map(*step, g, white / DT, DT)
    maps = light.dense_maps(STILL, SEQUENCE, detector)
    maps[5:9] = [(a, c, noise_x, noise_y)] * 4
    wrong = oracles.sequence_record_covariance(maps, light.start(STILL)).reshape(expected.shape)
    assert in_shot_noise(wrong, expected, detector) > 0.1


@pytest.mark.parametrize("model", ["adiabatic", "input_output"])
def test_records_can_begin_with_any_stage(model):
    resolution = choose_resolution(STILL, SEQUENCE)
    whole, squares = signal_covariance(STILL, SEQUENCE, resolution, model, (1, 1))
    late, late_squares = signal_covariance(STILL, SEQUENCE, resolution, model, (1, 1), 2)
    scale = float(np.abs(whole).max())
    np.testing.assert_allclose(late, whole[5:, :, 5:], rtol=1e-9, atol=1e-12 * scale)
    np.testing.assert_allclose(late_squares, squares[5:], rtol=1e-9)
    detector = RECEIVERS["adiabatic heterodyne" if model == "adiabatic" else "heterodyne"]
    args = STILL, SEQUENCE, detector, resolution
    some = record_covariance(*args, nodes=(1, 1), first_stage=2)
    every = record_covariance(*args, nodes=(1, 1))
    assert in_shot_noise(some, every[5:, :, 5:], detector) < 1e-11


def test_displacement_covariance_is_that_of_the_dense_record():
    detector = Detector.ideal(DT)
    got, squares = displacement_covariance(STILL, SEQUENCE, choose_resolution(STILL, SEQUENCE))
    maps = []
    for part in SEQUENCE.stages:
        n, ramp = part.n_samples, part.controls.is_ramp
        for k in range(n):
            first, last = (k / n, (k + 1) / n) if ramp else (0.0, 0.0)
            a, q = light.sample_map(STILL, part.controls, first, last, DT, "adiabatic")
            maps.append(oracles.receiver_map(a, q, [1.0], 0.0, DT))
    expected = oracles.sequence_record_covariance(maps, light.start(STILL))
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())
    ideal = record_covariance(
        STILL, SEQUENCE, detector, choose_resolution(STILL, SEQUENCE), nodes=(1, 1)
    )
    np.testing.assert_allclose(ideal[:, 0, :, 0], got, rtol=1e-12)
    p, ends = light.start(STILL), []
    for a, _, noise_x, _ in maps:
        p = a @ p @ a.T + noise_x @ noise_x.T
        ends.append(STILL.g_m**2 * p[0, 0] + STILL.g_s**2 * p[2, 2]
                    + 2 * STILL.g_m * STILL.g_s * p[0, 2])  # fmt: skip
    np.testing.assert_allclose(squares, ends, rtol=1e-7)


# --- jitter ---------------------------------------------------------------------------------------

JITTERY = dataclasses.replace(STILL, sigma_m=TWO_PI * 20e3, sigma_s=TWO_PI * 8e3)


@pytest.mark.parametrize("name", ["adiabatic heterodyne", "homodyne"])
def test_records_are_averaged_over_jitter(name):
    """Two nodes in each frequency, at +-sigma, against four dense records."""
    detector, params = RECEIVERS[name], JITTERY
    controls = Controls(nbar=10.0, delta_pc=TWO_PI * -1.4e6)
    sequence = Sequence(stages=(light.stage(controls, 8),), sample_interval=DT)
    got = record_covariance(
        params, sequence, detector, choose_resolution(params, sequence), nodes=(2, 2)
    )
    expected = 0.0
    for z_m, z_s in itertools.product((-1, 1), repeat=2):
        omega_m = params.omega_m + params.sigma_m * z_m
        moved = dataclasses.replace(
            params, omega_m=omega_m, omega_s=params.omega_s + params.sigma_s * z_s
        )
        expected = expected + light.dense_record(moved, sequence, detector) / 4
    assert in_shot_noise(got, expected, detector) < 1e-9
    still = light.dense_record(params, sequence, detector)
    assert in_shot_noise(still, expected, detector) > 1e-4  # the jitter shows


def test_displacement_covariance_averages_over_jitter():
    # In the dark the phase of each free oscillator alone shows the average.
    params = dataclasses.replace(JITTERY, gamma_m=0.0, B_s=0.0)
    sequence = Sequence(stages=(light.stage(Controls(nbar=0.0), 6),), sample_interval=DT)
    got, _ = displacement_covariance(params, sequence, choose_resolution(params, sequence))
    lag = (np.arange(6) * DT)[:, None] - np.arange(6) * DT
    expected = 0.0
    for g, omega, sigma in (
        (params.g_m, params.omega_m, params.sigma_m),
        (params.g_s, params.omega_s, params.sigma_s),
    ):

        def of(offset, g=g, omega=omega):
            box = np.sinc((omega + offset) * DT / TWO_PI) ** 2
            return 3.0 * g**2 * box * np.cos((omega + offset) * lag)

        expected = expected + oracles.normal_average(of, sigma)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


# --- a switched mean field ------------------------------------------------------------------------


def test_switched_record_is_that_of_the_moving_field():
    """In one phase reference, the drive's, with alpha from its own differential equation.

    The receiver follows the intracavity mean field that each stage tends to.
    """
    params, sequence = light.NARROW, light.SWITCHED
    detector = RECEIVERS["heterodyne"]
    g, white = light.gains(params, light.COOLING, detector)
    maps, end, before = [], None, None
    for part in sequence.stages:
        now = light.system(params, part.controls)
        target = params.kappa - 1j * now["delta_pc"]
        drive = np.sqrt(now["nbar"]) * abs(target)
        alpha, end = oracles_light.mean_field(
            part.n_samples * DT,
            kappa=params.kappa,
            delta_pc=now["delta_pc"],
            before=drive if before is None else before,
            after=drive,
            rise=1.2e-6,
            start=drive / target if end is None else end,
        )
        before = drive
        turn = np.angle(1 / target)
        # c e^{-i turn}: o_AM' = cos o_AM - sin o_PM, o_PM' = sin o_AM + cos o_PM.
        own = g @ [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        d = light.diffusion(params, part.controls, "input_output")
        for k in range(part.n_samples):

            def generator(f, k=k, now=now, alpha=alpha, n=part.n_samples):
                field = alpha((k + f) / n)
                place = dict(nbar=abs(field) ** 2, phase=np.angle(field))
                return oracles_light.drift(**now | place)

            a, q = oracles.joint_map(DT, generator, d, 6)
            maps.append(oracles.receiver_map(a, q, own, white / DT, DT))
    expected = oracles.sequence_record_covariance(maps, light.start(params)).reshape(32, 2, 32, 2)
    resolution = choose_resolution(params, sequence)
    got = record_covariance(params, sequence, detector, resolution, nodes=(1, 1))
    assert in_shot_noise(got, expected, detector) < 3e-8
    sudden = dataclasses.replace(sequence, switching=None)
    at_once = record_covariance(params, sudden, detector, resolution, nodes=(1, 1))
    assert in_shot_noise(at_once, expected, detector) > 1e-2

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import light
from jaxsde.analysis.spectra import hann
from jaxsde.engine.detect import Detector
from jaxsde.engine.records import record_covariance
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.spectrum import (
    check_stationary,
    expected_periodogram,
    sampled_density,
    sidebands,
    spectral_density,
)
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls

NARROW, COOLING = light.NARROW, light.COOLING
MOTION = dataclasses.replace(light.STILL, g_s=0.0, g_sm=0.0)
RECEIVERS = light.receivers(efficiency=0.7, collection=1.0)
ANGLES = tuple(np.linspace(-1.3, 1.5, 5))
# In, around and far from every resonance; the 1.3 kHz keep the oracle off the bare frequencies.
FREQUENCY = np.r_[np.arange(-300e3, 300e3, 2.9e3), -4e6:4e6:41j] + 1.3e3


def in_shot_noise(got, expected, detector):
    return np.abs(np.asarray(got) - np.asarray(expected)).max() / detector.S_SN


# --- the continuous density -----------------------------------------------------------------------


@pytest.mark.parametrize("delta", [-2.0, -1.4, 0.0, 1.4, 2.0, "narrow"])
def test_density_is_that_of_the_amplitudes(delta):
    """Against input-output relations in the ladder basis, amplitude by amplitude."""
    params, controls = (NARROW, COOLING) if delta == "narrow" else light.at_detuning(delta)
    angles = {f"at {angle:.2f}": Detector.homodyne(angle, efficiency=0.9) for angle in ANGLES}
    for name, detector in (RECEIVERS | angles).items():
        got = np.asarray(spectral_density(params, controls, detector, jnp.asarray(FREQUENCY)))
        expected, vacuum = light.density(params, controls, detector, FREQUENCY)
        assert in_shot_noise(got, expected, detector) < 1e-10, name
        # There is something to see, and off the resonances there is vacuum.
        excess = np.abs(expected - vacuum).max(axis=(1, 2)) / detector.S_SN
        assert excess[-1] < 1e-4
        if delta == 0.0 and name in ("I alone", "amplitude"):
            assert excess.max() < 1e-12  # on resonance the amplitude holds nothing
        else:
            assert excess.max() > 0.02, name


@pytest.mark.parametrize("name", RECEIVERS)
def test_density_of_motion_alone_does_not_mind_an_undamped_spin(name):
    """At the spin's own frequency too, which the uncoupled spin's response makes singular."""
    detector, controls = RECEIVERS[name], Controls(nbar=4.0)
    spin = np.array([MOTION.omega_s, MOTION.omega_s + 1.0]) / TWO_PI
    args = MOTION, controls, detector
    got = np.asarray(spectral_density(*args, jnp.asarray(np.r_[spin, FREQUENCY])))
    expected, _ = light.density(*args, FREQUENCY)
    assert in_shot_noise(got[2:], expected, detector) < 1e-11
    np.testing.assert_allclose(got[0], got[1], atol=1e-4 * detector.S_SN)
    assert np.isfinite(np.asarray(sampled_density(*args, jnp.asarray(spin)))).all()


@pytest.mark.parametrize("density", [spectral_density, sampled_density])
@pytest.mark.parametrize("dark", ["nbar", "g"])
def test_empty_cavity_shows_shot_noise_alone(density, dark):
    """Vacuum in gives vacuum out: S_SN/2 in I and Q, S_SN in homodyne, whatever the efficiency."""
    params = light.STILL if dark == "nbar" else dataclasses.replace(MOTION, g_m=0.0)
    for efficiency, collection in ((1.0, 1.0), (0.09, 0.5), (0.6, 1.0)):
        for delta in (0.0, -1.4e6, 2e6):
            controls = Controls(nbar=0.0 if dark == "nbar" else 10.0, delta_pc=TWO_PI * delta)
            fields = dict(efficiency=efficiency, collection=collection)
            for name, detector in light.receivers(**fields).items():
                k = len(detector.quadratures)
                share = 1.0 if detector.quadratures == ("homodyne",) else 0.5
                got = density(params, controls, detector, jnp.asarray(FREQUENCY[::9]))
                expected = share * detector.S_SN * np.eye(k)
                assert in_shot_noise(got, expected[None], detector) < 1e-13, name


@pytest.mark.parametrize("name", RECEIVERS)
def test_density_is_hermitian_positive_and_of_a_real_record(name):
    detector = RECEIVERS[name]
    for made in (spectral_density, sampled_density):
        s, mirrored = (
            np.asarray(made(NARROW, COOLING, detector, jnp.asarray(sign * FREQUENCY)))
            for sign in (1, -1)
        )
        unit = 1e-13 * np.abs(s).max()
        np.testing.assert_allclose(s, np.conj(np.swapaxes(s, 1, 2)), atol=unit)
        np.testing.assert_allclose(mirrored, s.conj(), atol=10 * unit)
        assert np.linalg.eigvalsh(s).min() > 0


def test_density_has_the_derivative_that_differences_show():
    detector = RECEIVERS["heterodyne"]
    frequency = jnp.asarray([100e3, 121e3, 163e3])

    def total(density, g_m):
        params = dataclasses.replace(NARROW, g_m=g_m)
        return density(params, COOLING, detector, frequency)[:, 1, 1].real.sum() / detector.S_SN

    def sampled(*args):
        return sampled_density(*args, resolution=choose_resolution(NARROW, light.RAMPS))

    for density in (spectral_density, sampled):
        value, slope = jax.value_and_grad(lambda g: total(density, g))(NARROW.g_m)  # noqa: B023
        assert float(value) == pytest.approx(float(total(density, NARROW.g_m)), rel=1e-12)
        up, down = (float(total(density, NARROW.g_m + step)) for step in (10.0, -10.0))
        assert float(slope) == pytest.approx((up - down) / 20, rel=1e-6)


# --- the density of samples -----------------------------------------------------------------------


@pytest.mark.parametrize("name", RECEIVERS)
def test_sampled_density_is_the_aliased_sum(name):
    """sum_k S(f + k/dt) sinc^2, and sum_k sinc^2 = 1 for the white part; both oscillators folded.

    With dt = 4 us all beyond 125 kHz is folded.
    """
    dt = 4e-6
    detector = dataclasses.replace(RECEIVERS[name], sample_interval=dt)
    f = np.linspace(-125e3, 125e3, 60) + 1.3e3
    got = np.asarray(sampled_density(NARROW, COOLING, detector, jnp.asarray(f)))
    alias = f[None] + np.arange(-400, 401)[:, None] / dt
    each, vacuum = light.density(NARROW, COOLING, detector, alias.ravel())
    each = (each - vacuum).reshape(*alias.shape, *vacuum.shape)
    folded = np.einsum("afij,af->fij", each, np.sinc(alias * dt) ** 2) + vacuum
    assert in_shot_noise(got, folded, detector) < 1e-8
    once = each[400] * np.sinc(f * dt)[:, None, None] ** 2 + vacuum
    assert in_shot_noise(once, folded, detector) > 1e-3


@pytest.fixture(scope="module", params=["adiabatic heterodyne", "heterodyne", "homodyne"])
def settled(request):
    """Return a detector and its record's covariance at every lag, in the stationary state."""
    dt, n = 1e-6, 900
    detector = dataclasses.replace(RECEIVERS[request.param], sample_interval=dt)
    sequence = light.settled(COOLING, n, 900, dt)
    r = np.asarray(
        record_covariance(
            NARROW, sequence, detector, choose_resolution(NARROW, sequence), nodes=(1, 1),
            first_stage=1,
        )
    )  # fmt: skip
    np.testing.assert_allclose(r[200:, :, 200], r[:-200, :, 0], atol=1e-10 * np.abs(r).max())
    return detector, r[:, :, 0]


def test_sampled_density_is_the_fourier_transform_of_the_record(settled):
    """S = dt sum_tau <y(t + tau) y(t)> exp(-2 pi i f tau), lags of 900 us, e^-27 of the slowest."""
    detector, r = settled
    f, dt = np.linspace(-500e3, 500e3, 101), detector.sample_interval
    turn = np.exp(-1j * TWO_PI * f[:, None] * np.arange(len(r)) * dt)
    later = np.einsum("ft,tkl->fkl", turn[:, 1:], r[1:])
    expected = dt * (r[0] + later + np.conj(np.swapaxes(later, 1, 2)))
    got = sampled_density(NARROW, COOLING, detector, jnp.asarray(f))
    assert in_shot_noise(got, expected, detector) < 1e-8
    if len(detector.quadratures) == 2:
        # a = I - iQ goes as exp(-i omega t) above the carrier.
        a = np.array([1.0, -1j])
        field = np.einsum("k,tkl,l->t", a, r, a.conj())
        both = [
            dt * (field[0] + 2 * np.einsum("ft,t->f", t[:, 1:], field[1:]).real).real
            for t in (turn.conj(), turn)
        ]
        for mine, theirs in zip(both, sidebands(got), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-8 * detector.S_SN)
        assert np.abs(both[0] - both[1]).max() > (
            0.1 * detector.S_SN if detector.model == "input_output" else -1
        )


def test_box_averages_of_fast_samples_show_the_continuous_density():
    detector = dataclasses.replace(RECEIVERS["heterodyne"], sample_interval=1e-8)
    f = jnp.asarray(np.linspace(20e3, 300e3, 57))
    fast = sampled_density(NARROW, COOLING, detector, f)
    slow = spectral_density(NARROW, COOLING, detector, f)
    assert in_shot_noise(fast, slow, detector) < 1e-3


# --- Welch's estimate -----------------------------------------------------------------------------


def test_expected_periodogram_is_its_definition():
    rng = np.random.default_rng(3)
    root, dt, n, length, hop = rng.normal(size=(60, 60)), 0.3, 30, 12, 5
    covariance = (root @ root.T).reshape(n, 2, n, 2)
    window = rng.uniform(0.1, 1.0, length)
    got = expected_periodogram(jnp.asarray(covariance), jnp.asarray(window), hop, dt)
    starts = [0, 5, 10, 15]
    for j, f in enumerate(np.arange(length // 2 + 1) / (length * dt)):
        turn = window * np.exp(-2j * np.pi * f * np.arange(length) * dt)
        for k in range(2):
            power = [
                (turn @ covariance[s : s + length, k, s : s + length, k] @ turn.conj()).real
                for s in starts
            ]
            expected = dt * np.mean(power) / (window**2).sum()
            assert float(got[j, k]) == pytest.approx(expected, rel=1e-11)
    white = expected_periodogram(
        jnp.asarray(np.eye(60).reshape(n, 2, n, 2)), jnp.asarray(window), hop, dt
    )
    np.testing.assert_allclose(white, dt, rtol=1e-12)


def test_expected_periodogram_of_a_settled_record_is_its_density():
    """Where the window is far narrower than the lines; homodyne, 1,800 samples of 1 us, Hann."""
    detector = RECEIVERS["homodyne"]
    dt, n = 1e-6, 1800
    detector = dataclasses.replace(detector, sample_interval=dt)
    sequence = light.settled(COOLING, n, 900, dt)
    r = record_covariance(
        NARROW, sequence, detector, choose_resolution(NARROW, sequence), nodes=(1, 1),
        first_stage=1,
    )  # fmt: skip
    got = np.asarray(expected_periodogram(r, hann(n), n, dt))[:, 0]
    f = np.fft.rfftfreq(n, dt)
    density = np.asarray(sampled_density(NARROW, COOLING, detector, jnp.asarray(f)))[:, 0, 0].real
    np.testing.assert_allclose(got, density, rtol=0.03)
    assert density.max() > 2 * density.min()


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params, controls, message",
    [
        (
            dict(g_sm=0.0),
            Controls(nbar=4.0),
            r"^controls: wanted every mode damped for a stationary spectrum, got one that grows at "
            r".* /s; use record_covariance and expected_periodogram",
        ),
        (dict(g_sm=0.0, epsilon=1.0), Controls(nbar=4.0), r"^controls: wanted every mode damped"),
        (
            dict(),
            Controls(nbar=10.0, delta_pc=TWO_PI * -2e6, omega_m=TWO_PI * 125.5e3),
            r"^controls: wanted every mode damped .* grows at 2\.06e\+04 /s",
        ),
        (
            dict(),
            Controls(nbar=(1.0, 4.0)),
            r"^controls: wanted constants for a spectral density, got a ramp; use expected_period",
        ),
        (dict(), Controls(nbar=1.0, delta_pc=(0.0, -1e6)), r"^controls: .* got a ramp"),
        (dict(), Controls(nbar=1.0, omega_m=(6e5, 7e5)), r"^controls: .* got a ramp"),
    ],
)
def test_what_is_not_stationary_is_refused(params, controls, message):
    params = Params.kohler2018(**params)
    for detector in (Detector(), Detector(model="input_output"), Detector.homodyne()):
        for density in (spectral_density, sampled_density):
            with pytest.raises(ValueError, match=message):
                density(params, controls, detector, jnp.asarray([1e5]))


def test_what_the_record_does_not_hold_may_be_undamped():
    """The undamped spin at Delta = 0 is in the phase of the light, not in its amplitude."""
    params, controls = Params.kohler2018(g_sm=0.0), Controls(nbar=4.0)
    check_stationary(params, controls, Detector.homodyne(0.0))
    f = jnp.asarray(FREQUENCY)
    detector = Detector.homodyne(0.0, efficiency=1.0, collection=1.0)
    got = spectral_density(params, controls, detector, f)
    assert in_shot_noise(got, detector.S_SN, detector) < 1e-13
    with pytest.raises(ValueError, match=r"^controls: wanted every mode damped"):
        check_stationary(params, controls, Detector.homodyne(1e-3))
    check_stationary(MOTION, controls, Detector())
    with pytest.raises(ValueError, match=r"^controls: wanted every mode damped"):
        check_stationary(dataclasses.replace(MOTION, gamma_m=0.0), controls, Detector())

"""The mean field of a switched probe against scipy, in one frame: that of the drive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsde.physics import meanfield
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Controls, Switching, resolve
from transients import DT, EVERY_KIND, RED, STILL, UP, mean_field, sequence_of, to_stage

PROBES = [
    Controls(nbar=4.0),
    Controls(nbar=10.0, delta_pc=RED),
    Controls(nbar=6.0, delta_pc=TWO_PI * 1.4e6),
]


def seen(sequence, substeps=32):
    """Return (t since the stage began, alpha there) of every stage, and alpha at its end."""
    found, alpha, old, before, switching = [], None, None, None, sequence.switching
    for stage in sequence.stages:
        now, n = resolve(STILL, stage.controls), stage.n_samples
        if before is None:
            alpha = meanfield.steady_field(STILL, now, 0.0)
            old = meanfield.amplitude(STILL, now, 0.0)
        else:
            alpha = meanfield.entering_field(STILL, before, now, alpha)
        field, alpha = meanfield.switched_field(
            STILL, now, switching, old, alpha, DT, n * DT, 0,
            n_samples=n, substeps=substeps, points=meanfield.GAUSS,
        )  # fmt: skip
        old = meanfield.drive(STILL, now, switching, old, n * DT, n * DT)
        grid = (np.arange(substeps)[:, None] + np.array(meanfield.GAUSS)) / substeps
        t = (np.arange(n)[:, None, None] + grid) * DT
        found.append((t.ravel(), (np.asarray(field) @ [1, 1j]).ravel(), complex(alpha)))
        before = now
    return found


def expected(params, sequence):
    """Return alpha(t) of every stage in that stage's phase reference."""
    return [
        lambda t, pieces=pieces, controls=stage.controls: to_stage(
            params, controls, next(alpha(t) for _, last, alpha in pieces if t <= last * (1 + 1e-12))
        )
        for stage, pieces in zip(sequence.stages, mean_field(params, sequence), strict=True)
    ]


@pytest.mark.parametrize("rise_us", [0.0, 0.3, 0.37, 1.7])
def test_field_through_a_sequence_is_the_integral_of_its_equation(rise_us):
    sequence = sequence_of(*EVERY_KIND, switching=Switching(rise_time=rise_us * 1e-6))
    largest = np.sqrt(40.0)
    truths = expected(STILL, sequence)
    for k, ((t, field, _), truth) in enumerate(zip(seen(sequence), truths, strict=True)):
        error = np.abs(field - [truth(at) for at in t]).max() / largest
        # In 16 ns, kappa h = 0.18, a fourth-order step; third-order where the drive has risen.
        # Steps are exact where rate and drive stand still.
        assert error < (1e-11 if rise_us == 0.0 and k < 3 else 2e-6)


def test_physical_field_is_continuous_where_stages_meet():
    sequence = sequence_of(*EVERY_KIND, switching=Switching(rise_time=0.3e-6))
    stages = [resolve(STILL, s.controls) for s in sequence.stages]
    for before, now, one, two in zip(
        stages[:-1], stages[1:], seen(sequence)[:-1], seen(sequence)[1:], strict=True
    ):
        left = one[2]
        entered = complex(meanfield.entering_field(STILL, before, now, jnp.asarray(left)))
        phases = [float(meanfield.target_phase(STILL, c)) for c in (before, now)]
        in_drive = [a * np.exp(1j * p) for a, p in zip((left, entered), phases, strict=True)]
        assert in_drive[0] == pytest.approx(in_drive[1], rel=1e-13)
        assert abs(entered) == pytest.approx(abs(left), rel=1e-14)
        # To the first point that is looked at: 3.3 ns at a rate of at most |kappa - i Delta|.
        rate = max(
            abs(complex(STILL.kappa, meanfield.at_fraction(now.delta_pc, f))) for f in (0, 1)
        )
        assert abs(two[1][0] - entered) < 1.5 * rate * two[0][0] * np.sqrt(40.0)


@pytest.mark.parametrize("now", PROBES)
@pytest.mark.parametrize("before", PROBES)
def test_cavity_turns_with_the_reference_of_its_mean_field(before, now):
    """c e^{i psi} of c = (c_AM - i c_PM)/sqrt2, the turn that entering_field gives alpha."""
    before, now = resolve(STILL, before), resolve(STILL, now)
    turn = np.asarray(meanfield.frame_turn(STILL, before, now))
    am, pm = turn @ [0.3, -1.1]
    alpha = meanfield.entering_field(STILL, before, now, jnp.asarray(0.3 + 1.1j))
    assert am - 1j * pm == pytest.approx(complex(alpha), rel=1e-14)
    np.testing.assert_allclose(turn @ turn.T, np.eye(2), atol=1e-15)
    assert np.linalg.det(turn) == pytest.approx(1.0)
    back = np.asarray(meanfield.frame_turn(STILL, now, before))
    np.testing.assert_allclose(back @ turn, np.eye(2), atol=1e-15)


@pytest.mark.parametrize("probe", PROBES)
def test_target_is_real_and_the_field_stays_there(probe):
    now = resolve(STILL, probe)
    steady = meanfield.steady_field(STILL, now)
    assert complex(steady) == pytest.approx(np.sqrt(probe.nbar), rel=1e-14)
    e = float(meanfield.amplitude(STILL, now, 0.0))
    phase = float(meanfield.target_phase(STILL, now))
    assert e * np.exp(-1j * phase) / (STILL.kappa - 1j * probe.delta_pc) == pytest.approx(
        np.sqrt(probe.nbar), rel=1e-13
    )
    for rise in (0.0, 1e-6):
        alpha = steady
        for k in range(5):
            alpha = meanfield.field_step(
                STILL, now, Switching(rise_time=rise), e, 5e-6, alpha, k * 0.2e-6, 0.2e-6
            )
        assert complex(alpha) == pytest.approx(np.sqrt(probe.nbar), rel=1e-12)


def test_drive_rises_by_a_raised_cosine():
    now, old, rise, length = resolve(STILL, PROBES[0]), 1e7, 2e-6, 8e-6
    new = float(meanfield.amplitude(STILL, now, 0.0))
    assert new == pytest.approx(2 * STILL.kappa)  # sqrt(nbar) kappa

    def drive(t, rise=rise):
        switching = Switching(rise_time=rise)
        return float(meanfield.drive(STILL, now, switching, old, t, length))

    for t, share in (
        (0.0, 0.0),
        (0.5e-6, (1 - np.sqrt(0.5)) / 2),
        (1e-6, 0.5),
        (2e-6, 1.0),
        (5e-6, 1.0),
    ):
        assert drive(t) == pytest.approx(old + (new - old) * share, rel=1e-12)
    assert drive(0.0, 0.0) == drive(1e-9, 0.0) == new
    h = 1e-9  # no kink at either end
    assert abs(drive(h) - drive(0.0)) < 1e-6 * new
    assert abs(drive(rise) - drive(rise - h)) < 1e-6 * new


def test_drive_of_a_ramp_asks_for_the_photons_of_each_moment():
    ramp = resolve(STILL, Controls(nbar=(1.0, 9.0), delta_pc=(0.0, RED)))
    middle = np.sqrt(5.0 * (STILL.kappa**2 + (RED / 2) ** 2))
    assert float(meanfield.drive(STILL, ramp, Switching(), 0.0, 2e-6, 4e-6)) == pytest.approx(
        middle
    )
    assert float(meanfield.target_phase(STILL, ramp)) == pytest.approx(np.arctan2(RED, STILL.kappa))


@pytest.mark.parametrize("kappa_h", [1e-4, 0.05, 0.099, 0.101, 2.0, 40.0])
def test_a_step_of_a_standing_drive_is_exact(kappa_h):
    """Both sides of the border between the series of phi_1 and its formula."""
    now = resolve(STILL, PROBES[1])
    rate, target, start = -STILL.kappa + 1j * RED, np.sqrt(10.0), -1.0 + 2.5j
    h = kappa_h / STILL.kappa
    got = meanfield.field_step(STILL, now, Switching(), 0.0, 1e-3, jnp.asarray(start), 0.0, h)
    assert complex(got) == pytest.approx(target + (start - target) * np.exp(rate * h), rel=1e-13)


def test_steps_are_of_fourth_order():
    ramp = Controls(nbar=(2.0, 8.0), delta_pc=(0.0, 2 * RED))
    sequence = sequence_of((2, PROBES[0]), (4, ramp), switching=Switching(rise_time=4 * DT))
    truth, errors = expected(STILL, sequence)[1], []
    for substeps in (2, 4, 8, 16):
        t, field, _ = seen(sequence, substeps)[1]
        errors.append(np.abs(field - [truth(at) for at in t]).max())
    assert errors[0] < 0.1
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(orders[1:], 4.0, atol=0.5)


@pytest.mark.parametrize("differentiate", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("nbar, delta_pc", [(0.0, 0.0), (4.0, 0.0), (0.0, RED)])
def test_derivatives_are_finite_in_the_dark_and_on_resonance(differentiate, nbar, delta_pc):
    params = jax.tree.map(jnp.asarray, STILL)

    def photons(params, nbar, delta_pc, rise):
        now = resolve(params, Controls(nbar=nbar, delta_pc=delta_pc))
        args = (params, now, Switching(rise_time=rise), 2e7, jnp.asarray(1e-5))
        alpha = meanfield.field_step(*args, jnp.asarray(1.0 + 0.5j), 1e-8, 1e-7)
        return jnp.abs(alpha) ** 2

    for rise in (0.0, 0.05e-6):
        made = differentiate(photons, argnums=(0, 1, 2, 3))(
            params, *(jnp.asarray(v) for v in (nbar, delta_pc, rise))
        )
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(made))


def test_a_probe_that_steps_in_frequency_alone_still_moves_the_field():
    sequence = sequence_of(
        (2, Controls(nbar=10.0, delta_pc=RED, omega_m=UP)),
        (6, Controls(nbar=10.0, delta_pc=-RED, omega_m=UP)),
        switching=Switching(),
    )
    _, (t, field, _) = seen(sequence)
    phase = 2 * np.arctan2(RED, STILL.kappa)  # of the old field in the new reference
    assert field[0] == pytest.approx(np.sqrt(10.0) * np.exp(1j * phase), rel=0.1)
    left = np.abs(field - np.sqrt(10.0))
    np.testing.assert_allclose(left, left[0] * np.exp(-STILL.kappa * (t - t[0])), atol=1e-9)

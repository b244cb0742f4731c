"""Verification of receivers: what is compared, what is written, and that wrong physics fails."""

import dataclasses
import json

import numpy as np
import pytest

from jaxsde.analysis.verify import Comparison
from jaxsde.engine.detect import Detector
from jaxsde.engine.technical import Technical
from jaxsde.lab import verification
from jaxsde.lab.jobs import standard_experiment
from jaxsde.lab.spec import StageSpec
from jaxsde.lab.style import save_figure
from jaxsde.lab.verification_figure import verification_figure

LIMIT = 5.0


def small(**changes):
    """Return an experiment of three stages and 200 samples."""
    base = standard_experiment()
    stages = (
        StageSpec(name="pulse", duration=20e-6, nbar=10.0, delta_pc=-1.2e7),
        StageSpec(name="back", duration=5e-6, nbar=4.0, omega_m=("coupled", "rest")),
        StageSpec(name="ringdown", duration=75e-6, nbar=4.0),
    )
    analysis = dataclasses.replace(base.analysis, fit_window=(4e-6, 16e-6))
    return dataclasses.replace(
        base, stages=stages, delta=3e4, shots=2000, analysis=analysis, **changes
    )


def told(*_):
    pass


@pytest.fixture(scope="module")
def outcome():
    return verification.verify_experiment(small(), "all", told)


def test_every_kind_of_receiver_is_verified(outcome):
    names = list(outcome.receivers)
    assert names == [
        "states",
        "I Q, adiabatic",
        "homodyne 90 deg, adiabatic",
        "I Q, input-output",
        "homodyne 90 deg, input-output",
    ]
    for name, groups in outcome.receivers.items():
        kinds = {g.group for g in groups}
        if name == "states":
            assert kinds == {
                "frequency jitter",
                *(f"state, end of {s.name}" for s in small().stages),
            }
        else:
            assert kinds >= {"record", "spectrum of ringdown", "spectrum of pulse"}
            assert kinds >= {"matched-filter outputs", "estimates, start of ringdown"}
            assert "spectrum of back" not in kinds  # a ramp has none


def test_right_physics_passes_in_every_receiver(outcome):
    assert sum(g.beyond(LIMIT) for g in outcome.groups) == 0
    z = np.concatenate([g.z for g in outcome.groups])
    assert len(z) > 3000
    assert abs(np.sqrt(np.mean(z**2)) - 1) < 0.15


def test_the_euler_method_fails_where_its_heating_shows():
    wrong = small(method="euler_maruyama", substeps=25)
    found = verification.verify_experiment(wrong, "file", told)
    assert list(found.receivers) == ["states", "I Q, adiabatic"]
    assert sum(g.beyond(LIMIT) for g in found.groups) > 0


def test_technical_layers_are_left_out_and_ideal_records_get_real_receivers_beside_them():
    own = Detector(technical=Technical(lo_offset=1e4))
    assert all(d.technical is None for d in verification.receivers(own, "all").values())
    ideal = verification.receivers(Detector.ideal(1e-6), "all")
    assert next(iter(ideal)) == "D" and len(ideal) == 5
    assert all(d.sample_interval == 1e-6 for d in ideal.values())
    assert all(float(d.S_SN) > 0 for n, d in ideal.items() if n != "D")


def test_the_record_holds_every_number_and_no_nan(outcome):
    made = verification.verification_record(outcome, LIMIT)
    text = json.dumps(made, allow_nan=False)
    assert json.loads(text)["beyond"] == 0
    group = made["receivers"]["I Q, input-output"][0]
    assert len(group["names"]) == len(group["z"]) == len(group["theory"])
    z = (group["measured"][3] - group["theory"][3]) / group["error"][3]
    assert z == pytest.approx(group["z"][3])


def test_the_figure_is_drawn_also_of_failures(outcome, tmp_path):
    bad = Comparison(
        group="g",
        names=("a", "b"),
        measured=np.array([np.nan, 90.0]),
        theory=np.zeros(2),
        error=np.ones(2),
    )
    broken = dataclasses.replace(outcome, receivers={**outcome.receivers, "broken": [bad]})
    for name, one in (("good", outcome), ("bad", broken)):
        paths = save_figure(verification_figure(one, "ringdown", LIMIT), tmp_path / name)
        assert [p.suffix for p in paths] == [".png", ".pdf"]
        assert min(p.stat().st_size for p in paths) > 10_000
    title = verification_figure(broken, "ringdown", LIMIT).axes[0].get_title(loc="left")
    assert "2 beyond 5" in title

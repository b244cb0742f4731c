"""Calibrations from a stage: against the truth of simulated shots, and what cannot be had."""

import dataclasses

import h5py
import jax
import numpy as np
import pytest

import laboratory
from jaxsde.engine.simulate import simulate
from jaxsde.lab.calibrations import calibrate_stage
from jaxsde.lab.config import load_experiment
from jaxsde.lab.export import header_of
from jaxsde.lab.matching import experiment_of
from jaxsde.lab.recordings import RecordError
from jaxsde.lab.records import open_records
from jaxsde.lab.spec import build_sequence


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Return records of 500 shots of examples/thermometry.toml, the first of which has a gap."""
    e = load_experiment(laboratory.ROOT / "examples" / "thermometry.toml")
    shots = simulate(jax.random.key(8), e.params, build_sequence(e), e.detector, 500)
    x = np.asarray(shots.record).copy()
    x[0, 300] = np.nan
    path = tmp_path_factory.mktemp("thermal") / "shots.h5"
    return open_records(laboratory.write(path, x, header=header_of(e)))


def test_every_calibration_is_near_the_truth(source):
    """One set of 499 shots: each number within 4 of its errors, which are small enough to tell."""
    e = experiment_of(source, None)
    rows = {r.name: r for r in calibrate_stage(source, e, ("voigt", "larmor", "sidebands"))}
    for name in ("omega_m", "gamma_m", "sigma_m", "omega_s", "sigma_s_squared"):
        assert abs(rows[name].z) < 4, name
    assert rows["sigma_m"].error < 0.35 * rows["sigma_m"].theory
    assert rows["sigma_s_squared"].error < 0.15 * rows["sigma_s_squared"].theory
    assert rows["omega_m"].theory == pytest.approx(95e3)
    # n_m0 = 2.5 is its steady state to 2 %: back-action adds 1.48 to the bath's one quantum.
    n = rows["n_m_sidebands"]
    assert n.error < 1.0 and abs(n.value - 2.49) < 4 * n.error


def test_refusals(source):
    e = experiment_of(source, None)
    with pytest.raises(RecordError, match=r"^--also: wanted some of voigt, larmor, sidebands, got"):
        calibrate_stage(source, e, ("phase",))
    one = dataclasses.replace(e, detector=dataclasses.replace(e.detector, quadratures=("Q",)))
    with pytest.raises(RecordError, match=r"--also sidebands: wanted channels I and Q"):
        calibrate_stage(source, one, ("sidebands",))


def test_too_few_shots_are_told(source, tmp_path):
    path = tmp_path / "few.h5"
    path.write_bytes(source.path.read_bytes())
    with h5py.File(path, "r+") as file:
        file["rejected"] = np.arange(500) > 4
    few = open_records(path)
    with pytest.raises(RecordError, match=r"larmor: wanted at least 8 shots without a gap, got 4"):
        calibrate_stage(few, experiment_of(few, None), ("larmor",))
    with pytest.raises(ValueError, match=r"^units: wanted at least 12 shots or windows .* got 4"):
        calibrate_stage(few, experiment_of(few, None), ("voigt",))

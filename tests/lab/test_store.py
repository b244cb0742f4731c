"""What a result folder holds comes back as it was."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import xarray as xr

import tiny
from jaxsde.lab.folder import new_folder, write_manifest
from jaxsde.lab.store import estimates, load_results, load_shots, write_results
from jaxsde.lab.table import table_rows


@pytest.fixture(scope="module")
def results():
    return tiny.tiny_results()


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    out = tmp_path_factory.mktemp("store") / "result"
    with new_folder(out, False) as place:
        write_results(place, results, table_rows(results))
        write_manifest(place, {})
    return out


def test_results_come_back_without_the_single_shots(results, folder):
    back = load_results(folder)
    assert back.experiment == results.experiment
    assert [row.value for row in table_rows(back)] == [row.value for row in table_rows(results)]
    for field in dataclasses.fields(back.beat):
        np.testing.assert_array_equal(
            getattr(back.beat, field.name), getattr(results.beat, field.name)
        )
    for name in ("mean", "stderr", "noise_bias"):
        np.testing.assert_array_equal(
            getattr(back.main.displacement, name), getattr(results.main.displacement, name)
        )
    assert back.main.displacement.each.shape[0] == 0
    assert back.growth is not None and results.growth is not None
    for one, two in zip(
        jax.tree.leaves(back.growth.fit), jax.tree.leaves(results.growth.fit), strict=True
    ):
        np.testing.assert_array_equal(one, np.broadcast_to(two, np.shape(one)))
    np.testing.assert_array_equal(back.growth.displacement, results.growth.displacement)
    assert (back.reference is None) == (results.reference is None)


def test_shots_come_back_bit_for_bit(results, folder):
    experiment, sequence, shots = load_shots(folder)
    made = results.main.shots
    assert experiment == results.experiment
    for name in ("clipped", "record", "omega_m", "omega_s", "states", "status", "time", "stage"):
        np.testing.assert_array_equal(getattr(shots, name), getattr(made, name))
    assert (shots.backend, shots.method) == (made.backend, made.method)
    assert shots.resolution == made.resolution
    assert sequence.n_samples == made.record.shape[1]


def test_clipped_samples_come_back_and_older_results_have_none(results, tmp_path):
    made = tiny.with_everything(results)
    with new_folder(tmp_path / "new", False) as place:
        write_results(place, made, table_rows(made))
        write_manifest(place, {})
    back = load_results(tmp_path / "new")
    assert back.experiment == made.experiment
    np.testing.assert_array_equal(back.main.shots.clipped, made.main.shots.clipped)
    assert back.reference is not None and int(back.reference.shots.clipped.sum()) == 2
    assert back.growth is not None and list(back.growth.clipped) == [1, 1, 1]
    assert back.main.shots.resolution.ramp_error == 3.2e-8
    # Version 0.1.0 knew neither of clipping nor of errors of ramps.
    for group in ("", "reference", "growth"):
        shutil.rmtree(tmp_path / "new" / "records.zarr" / group / "clipped")
    attributes = tmp_path / "new" / "records.zarr" / "zarr.json"
    text = json.loads(attributes.read_text())
    for name in ("switch_substeps", "settling", "tolerance", "ramp_error"):
        del text["attributes"]["resolution"][name]
    attributes.write_text(json.dumps(text))
    (tmp_path / "new" / "manifest.json").unlink()
    write_manifest(tmp_path / "new", {})
    old = load_results(tmp_path / "new")
    assert int(old.main.shots.clipped.sum()) == 0 and old.main.shots.clipped.shape == (12,)
    assert old.growth is not None and list(old.growth.clipped) == [0, 0, 0]
    assert old.main.shots.resolution.ramp_substeps == 7


def test_every_stored_variable_has_units(folder, results):
    for group in (None, "reference", "analysis", "growth"):
        data = xr.open_zarr(folder / "records.zarr", group=group, consolidated=False, chunks=None)
        for name, variable in data.variables.items():
            assert variable.attrs.get("units"), (group, name)


def test_estimates_are_json_and_hold_no_times(results, folder):
    text = (folder / "estimates.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(estimates(results, table_rows(results))))
    for word in ("created", "seconds", "host", "platform", str(folder)):
        assert word not in text

"""Results in a folder: records and analysis in zarr, estimates in JSON, the experiment as run."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxsde.analysis.displacement import MeanSquaredDisplacement
from jaxsde.analysis.gain import GainFit
from jaxsde.analysis.moments import Moments
from jaxsde.engine.resolution import Resolution
from jaxsde.engine.simulate import Shots
from jaxsde.lab.config import dump_experiment, load_experiment
from jaxsde.lab.experiment import Beat, Ensemble, Growth, Results, ringdown_filters
from jaxsde.lab.folder import SCHEMA, StoreError, read_manifest
from jaxsde.lab.spec import Experiment, build_sequence
from jaxsde.lab.table import Row
from jaxsde.physics.model import STATE
from jaxsde.physics.sequence import Sequence

D2 = "(rad/s)^2"


def write_results(folder: Path, results: Results, rows: list[Row]) -> None:
    """Write experiment.toml, records.zarr and estimates.json of a run."""
    (folder / "experiment.toml").write_text(dump_experiment(results.experiment), encoding="utf-8")
    write_estimates(folder / "estimates.json", estimates(results, rows))
    root = folder / "records.zarr"
    _write(root, None, _shots_dataset(results.main, results.experiment))
    if results.reference is not None:
        _write(root, "reference", _shots_dataset(results.reference, results.experiment))
    write_analysis(root, results)


def write_analysis(root: Path, results: Results) -> None:
    """Write the groups analysis and growth of a run."""
    _write(root, "analysis", _analysis_dataset(results))
    if results.growth is not None:
        _write(root, "growth", _growth_dataset(results.growth))


def write_estimates(path: Path, made: dict[str, Any]) -> None:
    """Write estimates.json."""
    path.write_text(json.dumps(finite(made), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """Return value with NaN and infinity, which JSON has not, replaced by null."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def estimates(results: Results, rows: list[Row]) -> dict[str, Any]:
    """Return what estimates.json holds: nothing that differs between two equal runs."""
    moments, growth = results.moments, results.growth
    out: dict[str, Any] = {
        "schema": SCHEMA,
        "shots": results.experiment.shots,
        "quantities": {
            row.name: {
                "value": row.value,
                "stderr": row.error,
                "theory": row.theory,
                "unit": row.unit,
                "note": row.note,
            }
            for row in rows
        },
        "second_moments": {
            "order": list(STATE[:4]),
            "C": np.asarray(moments.C).tolist(),
            "C_theory": results.C_theory.tolist(),
            "C_cov": np.asarray(moments.C_cov).tolist(),
            "C_cov_order": "upper triangle, row by row",
        },
    }
    if growth is not None:
        fit = growth.fit
        out["growth"] = {
            "delta_rad_per_s": [None if np.isnan(d) else float(d) for d in growth.delta],
            "gain_per_s": fit.gain.tolist(),
            "gain_stderr_per_s": fit.gain_stat.tolist(),
            "gain_systematic_per_s": fit.gain_sys.tolist(),
            "diffusion_rad2_per_s3": fit.diffusion.tolist(),
            "diffusion_stderr_rad2_per_s3": fit.diffusion_stat.tolist(),
            "diffusion_at_bound": [bool(b) for b in fit.at_bound],
            "D_0_rad2_per_s2": fit.D_0,
            "D_0_stderr_rad2_per_s2": fit.D_0_stat,
            "D_0_at_bound": fit.D_0_at_bound,
            "gain_theory_per_s": growth.theory.tolist(),
            "gain_expected_from_fit_per_s": growth.expected.tolist(),
            "chi2": fit.chi2,
            "points": fit.n_points,
            "converged": fit.converged,
        }
    return out


def load_shots(folder: Path) -> tuple[Experiment, Sequence, Shots]:
    """Return the experiment, sequence and shots of a result folder; see read_manifest."""
    if "stream" in read_manifest(folder):
        raise StoreError(
            f"{folder}: wanted a result whose shots fit in memory, got one of jaxsde run --keep, "
            "whose figures and report are drawn already; read its arrays with zarr (docs/scale.md)"
        )
    experiment = load_experiment(folder / "experiment.toml")
    sequence = build_sequence(experiment)
    return experiment, sequence, _read_shots(_open(folder, None), sequence)


def load_results(folder: Path) -> Results:
    """Return the Results of a result folder, without computing them again.

    Only <D^2> of single shots is not stored; it comes back empty.
    """
    experiment, sequence, shots = load_shots(folder)
    data = _open(folder, "analysis")
    reference = None
    if "reference_displacement" in data:
        calm = build_sequence(experiment, coupled=False)
        made = _read_shots(_open(folder, "reference"), calm)
        reference = _read_ensemble(data, "reference_", calm, made)
    growth = None
    if (folder / "records.zarr" / "growth").is_dir():
        growth = _read_growth(_open(folder, "growth"))
    return Results(
        experiment=experiment,
        main=_read_ensemble(data, "", sequence, shots),
        reference=reference,
        bank=ringdown_filters(experiment, sequence),
        moments=Moments(
            n_shots=shots.record.shape[0],
            **{name: jnp.asarray(data[name].values) for name in _MOMENTS},
        ),
        C_theory=data["C_theory"].values,
        beat=Beat(**{name: data[f"beat_{name}"].values for name in _BEAT}),
        growth=growth,
    )


_MOMENTS = ("C", "C_cov", "raw", "bias", "mixing")
_BEAT = tuple(field.name for field in dataclasses.fields(Beat))
_GROWTH = {
    "displacement": (("trace", "time"), D2),
    "stderr": (("trace", "time"), D2),
    "theory": (("trace",), "1/s"),
    "expected": (("trace",), "1/s"),
    "fine_delta": (("fine",), "rad/s"),
    "fine_theory": (("fine",), "1/s"),
    "clipped": (("trace",), "1"),
}
_FIT = {
    "gain": "1/s",
    "gain_stat": "1/s",
    "gain_sys": "1/s",
    "diffusion": "(rad/s)^2/s",
    "diffusion_stat": "(rad/s)^2/s",
    "at_bound": "1",
    "start": "s",
    "stop": "s",
}
_FIT_SCALARS = ("D_0", "D_0_stat", "D_0_at_bound", "chi2", "n_points", "converged")


def _write(root: Path, group: str | None, dataset: xr.Dataset) -> None:
    dataset.to_zarr(root, group=group, mode="a", zarr_format=3, consolidated=False)


def _open(folder: Path, group: str | None) -> xr.Dataset:
    return xr.open_zarr(
        folder / "records.zarr", group=group, consolidated=False, chunks=None
    ).load()


def _shots_dataset(ensemble: Ensemble, experiment: Experiment) -> xr.Dataset:
    shots, detector = ensemble.shots, experiment.detector
    unit = dict(units="rad/s")
    data = xr.Dataset(
        {
            "record": (
                ("shot", "time", "quadrature"),
                np.asarray(shots.record),
                dict(units=detector.unit, long_name="sample, averaged over its interval"),
            ),
            "omega_m": ("shot", np.asarray(shots.omega_m), unit | dict(long_name="at rest")),
            "omega_s": ("shot", np.asarray(shots.omega_s), unit),
            "state": (
                ("shot", "stage_end", "component"),
                np.asarray(shots.states),
                dict(units="1", long_name=" ".join(STATE)),
            ),
            "status": ("shot", np.asarray(shots.status), dict(units="1", long_name="0 is good")),
            "clipped": (
                "shot",
                np.asarray(shots.clipped),
                dict(units="1", long_name="samples beyond the digitiser's range"),
            ),
            "stage": ("time", shots.stage, dict(units="1", long_name="index of the stage")),
        },
        coords={"time": ("time", shots.time, dict(units="s", long_name="middle of the sample"))},
        attrs=dict(
            quadratures=list(detector.quadratures),
            stages=[stage.name for stage in ensemble.sequence.stages],
            sample_interval_s=ensemble.sequence.sample_interval,
            shot_noise_density_W2_per_Hz=float(np.asarray(detector.S_SN)),
            method=shots.method,
            backend=shots.backend,
            backend_note=shots.note,
            resolution=dataclasses.asdict(shots.resolution),
        ),
    )
    chunk = min(1024, shots.record.shape[0])
    data["record"].encoding["chunks"] = (chunk, *shots.record.shape[1:])
    return data


def _read_shots(data: xr.Dataset, sequence: Sequence) -> Shots:
    return Shots(
        record=jnp.asarray(data["record"].values),
        time=sequence.time,
        stage=sequence.stage_index,
        omega_m=jnp.asarray(data["omega_m"].values),
        omega_s=jnp.asarray(data["omega_s"].values),
        states=jnp.asarray(data["state"].values),
        status=jnp.asarray(data["status"].values),
        # Results of version 0.1.0 have no digitiser.
        clipped=jnp.asarray(
            data["clipped"].values if "clipped" in data else np.zeros(data.sizes["shot"], np.int32)
        ),
        backend=data.attrs["backend"],
        note=data.attrs.get("backend_note", ""),
        method=data.attrs["method"],
        resolution=Resolution(**data.attrs["resolution"]),
    )


def _analysis_dataset(results: Results) -> xr.Dataset:
    variables: dict[str, Any] = {}
    for prefix, made in (("", results.main), ("reference_", results.reference)):
        if made is not None:
            parts = dict(
                displacement=made.displacement.mean,
                stderr=made.displacement.stderr,
                noise_bias=made.displacement.noise_bias,
                expected=made.expected,
            )
            for name, value in parts.items():
                variables[prefix + name] = ("time", np.asarray(value), dict(units=D2))
    for name in _BEAT:
        units = "s" if name == "time" else D2
        variables[f"beat_{name}"] = ("beat", getattr(results.beat, name), dict(units=units))
    for name in _MOMENTS:
        value = np.asarray(getattr(results.moments, name))
        units = "rad^2" if name in ("raw", "bias") else "1"
        side = "x" if value.shape == (4, 4) else "upper"
        variables[name] = ((f"{side}_row", f"{side}_column"), value, dict(units=units))
    variables["C_theory"] = (("x_row", "x_column"), results.C_theory, dict(units="1"))
    time = ("time", results.main.sequence.time, dict(units="s"))
    return xr.Dataset(variables, coords={"time": time}, attrs=dict(rows=" ".join(STATE[:4])))


def _read_ensemble(data: xr.Dataset, prefix: str, sequence: Sequence, shots: Shots) -> Ensemble:
    def get(name):
        return jnp.asarray(data[prefix + name].values)

    return Ensemble(
        sequence=sequence,
        shots=shots,
        displacement=MeanSquaredDisplacement(
            time=sequence.time,
            mean=get("displacement"),
            stderr=get("stderr"),
            each=jnp.zeros((0, sequence.n_samples)),
            noise_bias=get("noise_bias"),
        ),
        expected=data[prefix + "expected"].values,
    )


def _growth_dataset(growth: Growth) -> xr.Dataset:
    variables: dict[str, Any] = {
        name: (dims, getattr(growth, name), dict(units=units))
        for name, (dims, units) in _GROWTH.items()
    }
    for name, units in _FIT.items():
        value = np.broadcast_to(getattr(growth.fit, name), growth.delta.shape)
        variables[f"fit_{name}"] = ("trace", np.array(value), dict(units=units))
    return xr.Dataset(
        variables,
        coords={
            "delta": ("trace", growth.delta, dict(units="rad/s")),
            "time": ("time", growth.time, dict(units="s")),
        },
        attrs=dict(
            t_c_s=growth.t_c,
            shots=growth.shots,
            at=growth.at,
            **{name: getattr(growth.fit, name) for name in _FIT_SCALARS},
        ),
    )


def _read_growth(data: xr.Dataset) -> Growth:
    fit = {name: data[f"fit_{name}"].values for name in _FIT}
    return Growth(
        delta=data["delta"].values,
        time=data["time"].values,
        t_c=data.attrs["t_c_s"],
        shots=data.attrs["shots"],
        at=data.attrs["at"],
        fit=GainFit(**fit, **{name: data.attrs[name] for name in _FIT_SCALARS}),
        **{name: data[name].values for name in _GROWTH if name in data or name != "clipped"},
        **({} if "clipped" in data else {"clipped": np.zeros(data.sizes["trace"], int)}),
    )

"""Jobs of the command line that are more than one call: calibrate a result, describe a machine."""

import dataclasses
import json
import platform
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsde.engine.detect import Detector
from jaxsde.engine.simulate import Shots
from jaxsde.inference.calibrate import OBJECTIVES, Calibration, calibrate
from jaxsde.inference.starts import is_frequency
from jaxsde.inference.transform import Model, check_free, make_free, placed, u_of
from jaxsde.lab.spec import AnalysisSpec, Experiment, StageSpec
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence

# Frequencies are known better than couplings before a calibration: they start at most this far off.
FREQUENCY_OFF = 0.05
DEFAULT_EXPERIMENT = "the paper's Figs. 3-4"
LIBRARIES = ("jaxsde", "jax", "jaxlib", "numpy", "scipy", "optax", "xarray", "zarr", "matplotlib")


def environment(command: list[str] | None = None) -> dict[str, Any]:
    """Return what a manifest says of the machine: versions, devices, precision, time, command."""
    facts: dict[str, Any] = dict(
        versions={name: _version(name) for name in LIBRARIES},
        python=platform.python_version(),
        platform=platform.platform(),
        devices=[f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()],
        backend=jax.default_backend(),
        x64=jnp.result_type(float) == jnp.float64,
    )
    if command is not None:
        facts |= dict(created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), command=command)
    return facts


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed (run from a checkout)"


def standard_experiment() -> Experiment:
    """Return the paper's Figs. 3-4 without a file, as Params, Sequence and Detector have it."""
    params, sequence = Params.kohler2018(), Sequence.kohler2018()
    stages = tuple(
        StageSpec(
            name=stage.name,
            duration=stage.n_samples * sequence.sample_interval,
            **{f.name: getattr(stage.controls, f.name) for f in dataclasses.fields(stage.controls)},
        )
        for stage in sequence.stages
    )
    analysis = AnalysisSpec(
        ringdown="ringdown",
        band=(85e3, 150e3),
        cycle_average=120e3,
        pulse="pulse",
        fit_window=(12e-6, 54e-6),
    )
    return Experiment(
        title=DEFAULT_EXPERIMENT,
        params=params,
        detector=Detector(),
        stages=stages,
        delta=None,
        shots=20000,
        seed=0,
        analysis=analysis,
    )


def calibrate_result(
    loaded: tuple[Experiment, Sequence, Shots | np.ndarray],
    *,
    free: list[str],
    objective: str,
    off: float,
    n_simulated: int | None,
    windows: int,
    seed: int,
    tell: Callable[[str, int, int], None],
    devices: list | None = None,
) -> tuple[list[Calibration], dict[str, float]]:
    """Calibrate records that load_for_calibration read; return the outcomes and the file's values.

    The start is the file's value times 1 + off and 1 - off in turn; of a frequency at most 5 %.
    devices: that share the shots of the likelihood, of all processes; None is one.
    Raises ValueError for names, objectives or starts that cannot be.
    """
    if objective not in (*OBJECTIVES, "all"):
        raise ValueError(f"--objective: wanted {', '.join(OBJECTIVES)} or all, got {objective!r}")
    if not 0 <= off < 1:
        raise ValueError(f"--off: wanted a fraction from 0 to below 1, got {off}")
    if n_simulated is not None and n_simulated < 100:
        raise ValueError(f"--simulated: wanted at least 100 shots, got {n_simulated}")
    experiment, sequence, shots = loaded
    model = Model(params=experiment.params, sequence=sequence, detector=experiment.detector)
    names = check_free(model, free)
    frees = tuple(make_free([model], name, {}, (0,), name) for name in names)
    truth = {f.name: f.start for f in frees}
    u = []
    for i, one in enumerate(frees):
        most = min(off, FREQUENCY_OFF) if is_frequency(one.field) else off
        u.append(u_of(one, one.start * (1 + (most, -most)[i % 2])))
    start = jax.tree.map(float, placed(model, frees, jnp.asarray(u), 0))
    out = []
    most = 60
    for which in OBJECTIVES if objective == "all" else (objective,):
        tell(which, 0, most)
        outcome = calibrate(
            start.params,
            shots,
            names,
            sequence=start.sequence,
            detector=start.detector,
            objective=which,
            key=jax.random.key(seed),
            n_simulated=n_simulated,
            stage=experiment.analysis.ringdown,
            windows=windows,
            max_steps=most,
            devices=devices,
            on_step=lambda number, loss, which=which: tell(which, number, most),
        )
        tell(which, most, most)
        out.append(outcome)
    return out, truth


def calibration_record(calibrations: list[Calibration], truth: dict[str, float]) -> dict[str, Any]:
    """Return what calibration.json holds, in SI units."""
    return {
        "truth": truth,
        "calibrations": [
            {
                "objective": c.objective,
                "free": list(c.free),
                "start": c.start.tolist(),
                "estimate": c.values.tolist(),
                "stderr": c.stderr.tolist(),
                "stderr_of_simulation": c.mc_error.tolist(),
                "correlation": c.correlation.tolist(),
                "loss": c.loss.tolist(),
                "path": c.path.tolist(),
                "decrement_standard_errors": c.decrement,
                "nodes": [list(n) for n in c.nodes],
                "node_error_standard_errors": c.node_error,
                "at_edge": list(c.at_edge),
                "misfit": c.misfit,
                "misfit_dof": c.misfit_dof,
                "shots": c.n_shots,
                "simulated": c.n_simulated,
                "converged": c.converged,
                "reason": c.reason,
            }
            for c in calibrations
        ],
    }


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write value as indented JSON."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")

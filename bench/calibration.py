"""Are the errors of `calibrate` right?  Synthetic experiments, from starts up to 30 % off.

    python bench/calibration.py run --objective likelihood --out study.jsonl
    python bench/calibration.py report study.jsonl --figure docs/img/calibration-study.png

Each experiment is 200 shots x 1,000 samples of the paper's sequence (ringdown of 360 us) with a
seed of its own; g_m, g_s and B_s start off by factors drawn evenly from 0.7 to 1.3.  A line of the
file holds estimates, errors and times of one experiment and objective; `run` skips those that it
holds already.  The Cramer-Rao bound is that of the mean information of the experiments' records at
the truth, by Louis' identity (jaxsde.inference.point).
"""

import argparse
import dataclasses
import json
import pathlib
import time
import warnings

import jax

jax.config.update("jax_enable_x64", True)

import matplotlib  # noqa: E402
import numpy as np  # noqa: E402

import jaxsde as js  # noqa: E402
from jaxsde.inference.point import likelihood_point, make_likelihood  # noqa: E402
from jaxsde.inference.problem import make_problem  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

FREE = ("g_m", "g_s", "B_s")
PARAMS, DETECTOR = js.Params.kohler2018(), js.Detector()
SEQUENCE = js.Sequence.kohler2018(t_ringdown=360e-6)
TRUTH = np.array([getattr(PARAMS, name) for name in FREE])
SHOTS = 200
OBJECTIVES = ("likelihood", "moments", "pathwise")


def experiment(seed: int, objective: str) -> dict:
    """Return estimates of one synthetic experiment, and how long they took."""
    shots = js.simulate(jax.random.key(10_000 + seed), PARAMS, SEQUENCE, DETECTOR, SHOTS)
    factors = np.random.default_rng(seed).uniform(0.7, 1.3, 3)
    start = dataclasses.replace(PARAMS, **dict(zip(FREE, TRUTH * factors, strict=True)))
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what did not converge is counted below
        fit = js.calibrate(
            start, shots, FREE, sequence=SEQUENCE, detector=DETECTOR, objective=objective,
            key=jax.random.key(seed), n_simulated=2000,
        )  # fmt: skip
    made = dict(
        seed=seed, objective=objective, start=factors.tolist(),
        estimate=(fit.values / TRUTH).tolist(), stderr=(fit.stderr / np.abs(TRUTH)).tolist(),
        mc_error=(fit.mc_error / np.abs(TRUTH)).tolist(), converged=fit.converged,
        reason=fit.reason, steps=len(fit.loss) - 1, seconds=time.perf_counter() - begun,
        nodes=fit.nodes, node_error=fit.node_error, misfit=fit.misfit, dof=fit.misfit_dof,
    )  # fmt: skip
    if objective == "likelihood":
        problem = make_problem(PARAMS, shots, FREE, sequence=SEQUENCE, detector=DETECTOR)
        point = likelihood_point(make_likelihood(problem), np.zeros(3), 1)
        made["information"] = point.information.tolist()
    return made


def run(objective: str, count: int, out: pathlib.Path) -> None:
    """Append the experiments that a file does not hold yet."""
    held = {(line["seed"], line["objective"]) for line in read(out)}
    for seed in range(count):
        if (seed, objective) in held:
            continue
        made = experiment(seed, objective)
        with out.open("a") as file:
            file.write(json.dumps(made) + "\n")
        print(
            objective, seed, np.round(made["estimate"], 3), f"{made['seconds']:.1f} s", flush=True
        )


def read(path: pathlib.Path) -> list[dict]:
    """Return the lines of a study."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def report(lines: list[dict], figure: pathlib.Path | None) -> None:
    """Print the table of docs/calibration.md and draw its figure."""
    information = np.mean([x["information"] for x in lines if "information" in x], axis=0)
    bound = np.sqrt(np.diag(np.linalg.inv(information)))
    print("| objective | of | converged | parameter | mean pull | sd of pulls | rms error | "
          "of the bound | quoted error |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for objective in OBJECTIVES:
        part = [x for x in lines if x["objective"] == objective]
        if not part:
            continue
        n = len(part)
        good = sum(x["converged"] for x in part)
        off = np.array([x["estimate"] for x in part]) - 1
        errors = np.array([x["stderr"] for x in part])
        pulls = off / errors
        for i, name in enumerate(FREE):
            rms = np.sqrt(np.mean(off[:, i] ** 2))
            print(
                f"| {objective} | {n} | {good} | {name} | {pulls[:, i].mean():+.2f} ± "
                f"{n**-0.5:.2f} | {pulls[:, i].std(ddof=1):.2f} ± {(2 * n) ** -0.5:.2f} | "
                f"{100 * rms:.2f} % | {rms / bound[i]:.2f} ± {rms / bound[i] * (2 * n) ** -0.5:.2f}"
                f" | {100 * np.median(errors[:, i]):.2f} % |"
            )
        seconds = [x["seconds"] for x in part]
        print(f"  {objective}: {np.median(seconds):.1f} s a fit, {max(seconds):.1f} s the longest, "
              f"{np.mean([x['steps'] for x in part]):.1f} steps", flush=True)  # fmt: skip
    print(
        "Cramer-Rao:", ", ".join(f"{n} {100 * b:.2f} %" for n, b in zip(FREE, bound, strict=True))
    )
    if figure is not None:
        draw(lines, bound, figure)


def draw(lines: list[dict], bound: np.ndarray, path: pathlib.Path) -> None:
    """Draw pulls of every objective, and errors of the likelihood beside the bound."""
    held = [o for o in OBJECTIVES if any(x["objective"] == o for x in lines)]
    fig, axes = plt.subplots(2, 3, figsize=(9, 5.4), layout="constrained")
    edges = np.linspace(-4, 4, 25)
    x = np.linspace(-4, 4, 200)
    for i, name in enumerate(FREE):
        top, bottom = axes[0, i], axes[1, i]
        for objective in held:
            part = [one for one in lines if one["objective"] == objective]
            pulls = [(one["estimate"][i] - 1) / one["stderr"][i] for one in part]
            top.hist(pulls, edges, density=True, histtype="step", label=objective)
        top.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), "k--", linewidth=0.8)
        top.set(xlabel=f"pull of {name}", ylabel="density" if i == 0 else None)
        part = [one for one in lines if one["objective"] == "likelihood"]
        start = 100 * (np.array([one["start"][i] for one in part]) - 1)
        off = 100 * (np.array([one["estimate"][i] for one in part]) - 1)
        bottom.errorbar(
            start, off, [100 * one["stderr"][i] for one in part], fmt=".", elinewidth=0.5
        )
        bottom.axhspan(-100 * bound[i], 100 * bound[i], color="0.85", zorder=0)
        bottom.axhline(0, color="k", linewidth=0.8)
        bottom.set(xlabel=f"start of {name} off by (%)")
    axes[1, 0].set_ylabel("likelihood estimate off by (%)\nband: Cramér-Rao bound")
    axes[0, 0].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


def main() -> None:
    """Run or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("--objective", choices=OBJECTIVES, default="likelihood")
    one.add_argument("--count", type=int, default=100)
    one.add_argument("--out", type=pathlib.Path, default=pathlib.Path("study.jsonl"))
    two = commands.add_parser("report")
    two.add_argument("file", type=pathlib.Path)
    two.add_argument("--figure", type=pathlib.Path)
    given = parser.parse_args()
    if given.command == "run":
        run(given.objective, given.count, given.out)
    else:
        report(read(given.file), given.figure)


if __name__ == "__main__":
    main()

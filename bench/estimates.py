"""Are the estimates of gain and state right?  400 synthetic experiments of 200 shots.

    python bench/estimates.py run --out results/estimates     # resumes where it was stopped
    python bench/estimates.py report results/estimates --figures docs/img

Experiments are those of the paper: its sequence, receiver and jitter, and pulses of 100 us at
five detunings whose <D^2> is fitted jointly.  `run` keeps files for every 20 experiments.  Truth of
C is the exact covariance; of the gain it is the same fit to the exact expectation of <D^2>_cyc,
since S12 leaves out transients.  bench/estimate_limits.py says what is possible, and
bench/estimate_costs.py how long it takes.
"""

import argparse
import dataclasses
import pathlib
import time

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402

import jaxsde as js  # noqa: E402
from jaxsde.analysis.bootstrap import bootstrap_moments, central_intervals  # noqa: E402
from jaxsde.analysis.inversion import COLUMNS, ROWS, invert  # noqa: E402
from jaxsde.analysis.joint_gain import fit_gain_jointly  # noqa: E402
from jaxsde.analysis.moments import exchange_correlation, moments_of_outputs  # noqa: E402
from jaxsde.analysis.optimal import best_filter, record_model  # noqa: E402
from jaxsde.physics.params import TWO_PI  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

PARAMS, DETECTOR, SEQUENCE = js.Params.kohler2018(), js.Detector(), js.Sequence.kohler2018()
SHOTS, CHUNK, EXPERIMENTS = 200, 20, 400
DELTAS = TWO_PI * 1e3 * np.array([2.75, 5.5, 8.25, 11.0, 13.75])
PULSES = [js.Sequence.kohler2018(delta=float(d), t_c=100e-6, t_ringdown=40e-6) for d in DELTAS]
ORIGIN = PULSES[0].span("pulse").start * PULSES[0].sample_interval
WINDOW = dict(start=ORIGIN + 12e-6, stop=ORIGIN + 92e-6, origin=ORIGIN)
KINDS = ("exact", "average", "best")
LABELS = {"exact": "matched, exact", "average": "matched, paper", "best": "least squares"}
AXES = ("Zm", "Pm", "Zs", "Ps")
ELEMENTS = [f"C[{AXES[i]},{AXES[j]}]" for i, j in zip(ROWS, COLUMNS, strict=True)]
DERIVED = ("n_m", "n_s", "abs_ab", "arg_ab")
# Of <a^dag b>, smaller than its error here, modulus and phase are no normal numbers.
NAMES = [*ELEMENTS, *DERIVED, "Re adag_b", "Im adag_b"]
LINEAR = np.zeros((10, 4, 4))
LINEAR[np.arange(10), ROWS, COLUMNS] = LINEAR[np.arange(10), COLUMNS, ROWS] = 1.0
_SLOPE = np.asarray(exchange_correlation(jnp.asarray(LINEAR)))
SLOPES = np.stack([np.real(_SLOPE), np.imag(_SLOPE)])


def theory():
    """Return {kind: (bank, inversion)} and the exact C."""
    truth = js.true_moments(PARAMS, SEQUENCE, 4)
    matched = js.matched_filter(PARAMS, SEQUENCE, DETECTOR)
    best, _ = best_filter(record_model(PARAMS, SEQUENCE, DETECTOR, c=truth), SEQUENCE)
    made = {}
    for kind, bank, responses in (
        ("exact", matched, "exact"), ("average", matched, "average"), ("best", best, "exact"),
    ):  # fmt: skip
        made[kind] = bank, invert(PARAMS, SEQUENCE, DETECTOR, bank, responses=responses)
    return made, np.asarray(truth)


def quantities(c, c_cov) -> tuple[np.ndarray, np.ndarray]:
    """Return values and errors of NAMES."""
    upper, cov = np.asarray(c)[ROWS, COLUMNS], np.asarray(c_cov)
    named = js.derived(c, c_cov)
    values = [*upper, *(named[q][0] for q in DERIVED), *(SLOPES @ upper)]
    errors = [*np.sqrt(np.diag(cov)), *(named[q][1] for q in DERIVED)]
    return np.array(values), np.array([*errors, *np.sqrt(np.diag(SLOPES @ cov @ SLOPES.T))])


def estimate(q, inversion) -> tuple[np.ndarray, np.ndarray]:
    """Return values and errors of NAMES from the outputs of filters."""
    made = moments_of_outputs(q, inversion)
    return quantities(made.C, made.C_cov)


def state_chunk(chunk: int, made) -> dict[str, np.ndarray]:
    """Return values and errors (experiments, 16) of every kind, and bootstrap intervals."""
    weights = jnp.concatenate([made["exact"][0].weights, made["best"][0].weights])
    out, _ = js.simulate_outputs(
        jax.random.key(77), PARAMS, SEQUENCE, DETECTOR, CHUNK * SHOTS, weights=weights,
        asked=js.Asked(record=False, states=False), first_shot=chunk * CHUNK * SHOTS,
    )  # fmt: skip
    q = out.filters.reshape(CHUNK, SHOTS, 8)
    found = {}
    for kind in KINDS:
        span = slice(4, 8) if kind == "best" else slice(0, 4)
        rows = [estimate(x[:, span], made[kind][1]) for x in q]
        found[f"{kind}_value"], found[f"{kind}_error"] = (
            np.stack(r) for r in zip(*rows, strict=True)
        )
    intervals = []
    for i, x in enumerate(q):
        key = jax.random.fold_in(jax.random.key(78), chunk * CHUNK + i)
        named = central_intervals(bootstrap_moments(key, x[:, :4], made["exact"][1], draws=1000))
        intervals.append([named[name] for name in DERIVED])
    found["bootstrap"] = np.array(intervals)
    return found


def trace(shots, sequence):
    """Return <D^2>_cyc of records."""
    return js.mean_squared_displacement(shots, PARAMS, sequence, DETECTOR)


def gain_chunk(chunk: int) -> dict[str, np.ndarray]:
    """Return gains, diffusions and D_0 of joint fits with their errors, and fit_gain's."""
    records = [
        js.simulate(
            jax.random.key(90 + i), PARAMS, s, DETECTOR, CHUNK * SHOTS, dtype=jnp.float32,
            first_shot=chunk * CHUNK * SHOTS,
        ).record.reshape(CHUNK, SHOTS, s.n_samples, 2)
        for i, s in enumerate(PULSES)
    ]  # fmt: skip
    rows = []
    for i in range(CHUNK):
        traces = [trace(r[i], s) for r, s in zip(records, PULSES, strict=True)]
        fit, old = fit_gain_jointly(traces, **WINDOW), js.fit_gain(traces, **WINDOW)
        rows.append(
            dict(
                gain=fit.gain,
                gain_error=np.sqrt(fit.covariance[:, 0, 0]),
                gain_range=fit.gain_range,
                diffusion=fit.diffusion,
                diffusion_error=np.sqrt(fit.covariance[:, 1, 1]),
                diffusion_range=fit.diffusion_range,
                D_0=fit.D_0[:1],
                D_0_error=fit.D_0_stat[:1],
                p_value=fit.p_value[:1],
                old_gain=old.gain,
                old_error=old.gain_stat,
                closed=fit.closed,
                converged=np.array([fit.converged]),
            )
        )
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def gain_truth() -> dict[str, np.ndarray]:
    """Return both fits to the exact expectation, with the scatter of 6,000 shots."""
    traces = []
    for i, s in enumerate(PULSES):
        record = js.simulate(
            jax.random.key(190 + i), PARAMS, s, DETECTOR, 6000, dtype=jnp.float32
        ).record
        made = trace(record, s)
        exact = js.expected_displacement(PARAMS, s, DETECTOR)
        each = made.each - made.mean[None] + exact[None]
        traces.append(dataclasses.replace(made, mean=exact, each=each))
    fit, old = fit_gain_jointly(traces, **WINDOW), js.fit_gain(traces, **WINDOW)
    return dict(gain=fit.gain, diffusion=fit.diffusion, D_0=fit.D_0[:1], old_gain=old.gain)


def run(out: pathlib.Path, experiments: int) -> None:
    """Write the chunks that a folder does not hold yet."""
    out.mkdir(parents=True, exist_ok=True)
    made, truth = theory()
    if not (out / "truth.npz").exists():
        state, _ = quantities(jnp.asarray(truth), jnp.eye(10))
        np.savez(out / "truth.npz", state=state, **gain_truth())
    for chunk in range(-(-experiments // CHUNK)):
        for kind, make in (("state", lambda c: state_chunk(c, made)), ("gain", gain_chunk)):
            path = out / f"{kind}{chunk:03d}.npz"
            if path.exists():
                continue
            begun = time.perf_counter()
            np.savez(out / "partial.npz", **make(chunk))
            (out / "partial.npz").rename(path)
            print(f"{path.name}: {time.perf_counter() - begun:.1f} s", flush=True)


def read(folder: pathlib.Path) -> tuple[dict, dict]:
    """Return everything of a study, experiments first, and the truth."""
    whole = {}
    for kind in ("state", "gain"):
        parts = [dict(np.load(p)) for p in sorted(folder.glob(f"{kind}*.npz"))]
        whole |= {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return whole, dict(np.load(folder / "truth.npz"))


def pulls(values, errors, truth, phase: bool = False):
    """Return (estimate - truth)/error; phases by their difference."""
    off = values - truth
    if phase:
        off = np.angle(np.exp(1j * off))
    return off / errors


def line(name: str, value, error, truth, unit: float, interval=None, phase: bool = False) -> str:
    """Return a row of the table: truth, bias in standard errors, width, coverage."""
    x = pulls(value, error, truth, phase)
    n = len(x)
    inside = np.abs(x) < 1
    if interval is not None:
        low, high = interval[..., 0] - truth, interval[..., 1] - truth
        inside = (low < 0) & (high > 0)
    share, spread = 100 * inside.mean(), 100 * np.sqrt(0.6827 * 0.3173 / n)
    bias = (value - truth if not phase else np.angle(np.exp(1j * (value - truth)))) / unit
    scatter = bias.std(ddof=1)
    quoted = np.sqrt(np.mean(error**2)) / unit / scatter
    return (
        f"| {name} | {truth / unit:.4g} | {scatter:.3g} | {bias.mean() / scatter:+.3f} ± "
        f"{n**-0.5:.3f} | {quoted:.3f} ± {(2 * n) ** -0.5:.3f} | {share:.1f} ± {spread:.1f} |"
    )


HEAD = (
    "| estimate | truth | scatter | bias / scatter | quoted error / scatter | covered, % |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


def report(folder: pathlib.Path, figures: pathlib.Path | None) -> None:
    """Print the tables of docs/estimates.md and draw its figures."""
    data, truth = read(folder)
    print(len(data["gain"]), "experiments")
    for kind in KINDS:
        print(f"\n{LABELS[kind]}\n{HEAD}")
        for i, name in enumerate(NAMES):
            print(line(name, data[f"{kind}_value"][:, i], data[f"{kind}_error"][:, i],
                       truth["state"][i], 1.0, phase=name.startswith("arg")))  # fmt: skip
    print(f"\nmatched, exact: bootstrap\n{HEAD}")
    for i, name in enumerate(DERIVED):
        low, high = data["bootstrap"][:, i].T
        print(line(name, data["exact_value"][:, 10 + i], (high - low) / 2, truth["state"][10 + i],
                   1.0, data["bootstrap"][:, i], name.startswith("arg")))  # fmt: skip
        ratio = (high - low) / 2 / data["exact_error"][:, 10 + i]
        print(f"    bootstrap/analytic error: median {np.median(ratio):.3f}")
    print(f"\ngain\n{HEAD}")
    for j, delta in enumerate(DELTAS):
        tag = f"{delta / TWO_PI / 1e3:g} kHz"
        print(line(f"G+ {tag}", data["gain"][:, j], data["gain_error"][:, j], truth["gain"][j], 1e3,
                   data["gain_range"][:, j]))  # fmt: skip
        print(line(f"diffusion {tag}", data["diffusion"][:, j], data["diffusion_error"][:, j],
                   truth["diffusion"][j], 1e15, data["diffusion_range"][:, j]))  # fmt: skip
        print(line(f"fit_gain {tag}", data["old_gain"][:, j], data["old_error"][:, j],
                   truth["old_gain"][j], 1e3))  # fmt: skip
    print(line("D_0", data["D_0"][:, 0], data["D_0_error"][:, 0], truth["D_0"][0], 1e10))
    print("closed", data["closed"].mean(axis=0), "converged", data["converged"].mean(),
          "p-values below 0.05 / 0.5:", (data["p_value"] < 0.05).mean(),
          (data["p_value"] < 0.5).mean())  # fmt: skip
    if figures is not None:
        draw(data, truth, figures)


def draw(data: dict, truth: dict, folder: pathlib.Path) -> None:
    """Draw the pulls, and the bias of average responses."""
    chosen = [(10 + i, name) for i, name in enumerate(DERIVED)]
    titles = {"n_m": r"$\langle a^\dagger a\rangle$", "n_s": r"$\langle b^\dagger b\rangle$",
              "abs_ab": r"$|\langle ab\rangle|$", "arg_ab": r"arg$\langle ab\rangle$"}  # fmt: skip
    fig, axes = plt.subplots(2, 4, figsize=(9.6, 4.8), layout="constrained")
    edges, x = np.linspace(-4, 4, 25), np.linspace(-4, 4, 200)
    normal = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    for ax, (i, name) in zip(axes[0], chosen, strict=True):
        for kind in KINDS:
            y = pulls(data[f"{kind}_value"][:, i], data[f"{kind}_error"][:, i], truth["state"][i],
                      name.startswith("arg"))  # fmt: skip
            ax.hist(y, edges, density=True, histtype="step", label=LABELS[kind])
        ax.plot(x, normal, "k--", linewidth=0.8)
        ax.set(xlabel=f"pull of {titles[name]}")
    for j, ax in enumerate(axes[1]):
        y = pulls(data["gain"][:, j], data["gain_error"][:, j], truth["gain"][j])
        ax.hist(y, edges, density=True, histtype="step", label="joint, whitened")
        y = pulls(data["old_gain"][:, j], data["old_error"][:, j], truth["old_gain"][j])
        ax.hist(y, edges, density=True, histtype="step", label="fit_gain")
        ax.plot(x, normal, "k--", linewidth=0.8)
        ax.set(xlabel=rf"pull of $G_+$, {DELTAS[j] / TWO_PI / 1e3:g} kHz")
    for row in axes:
        row[0].set_ylabel("density")
        for ax in row:
            ax.set_ylim(0, 0.72)
        row[0].legend(fontsize=7, loc="upper left")
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / "estimates-pulls.png", dpi=150)


def main() -> None:
    """Run or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/estimates"))
    one.add_argument("--experiments", type=int, default=EXPERIMENTS)
    two = commands.add_parser("report")
    two.add_argument("folder", type=pathlib.Path)
    two.add_argument("--figures", type=pathlib.Path)
    given = parser.parse_args()
    if given.command == "run":
        run(given.out, given.experiments)
    else:
        report(given.folder, given.figures)


if __name__ == "__main__":
    main()

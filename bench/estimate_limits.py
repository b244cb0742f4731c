"""How far from optimal are matched filters?  Efficiency against window and jitter, exact.

    python bench/estimate_limits.py --figure docs/img/estimates-limits.png

Every number is theory: covariances of estimates of X = (Z_m, P_m, Z_s, P_s) as the ringdown
begins, in quanta added to an occupation, for the paper's parameters and the state after its pulse.
"""

import argparse
import dataclasses
import pathlib

import jax

jax.config.update("jax_enable_x64", True)

import matplotlib  # noqa: E402
import numpy as np  # noqa: E402

import jaxsde as js  # noqa: E402
from jaxsde.analysis.inversion import (  # noqa: E402
    COLUMNS,
    ROWS,
    invert,
    noise_budget,
    sampling_covariance,
)
from jaxsde.analysis.optimal import (  # noqa: E402
    added_noise,
    best_filter,
    cumulative_information,
    efficiency,
    estimate_covariance,
    quantum_limit,
    record_model,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

# Without light in it, the amplitude quadrature of the adiabatic model tells nothing.
PARAMS, DETECTOR = js.Params.kohler2018(), js.Detector(quadratures=("Q",))
SEQUENCE = js.Sequence.kohler2018()
DT = SEQUENCE.sample_interval
WINDOWS = np.array([50, 100, 150, 200, 300, 400, 500])  # us
JITTERS = (0.0, 0.5, 1.0, 2.0)  # of the paper's


def jittered(factor: float) -> js.Params:
    """Return the paper's parameters with sigma_m and sigma_s times a factor."""
    return dataclasses.replace(
        PARAMS, sigma_m=factor * PARAMS.sigma_m, sigma_s=factor * PARAMS.sigma_s
    )


def matched(params, sequence, c, stop: int):
    """Return the covariance of the estimate of matched filters."""
    bank = js.matched_filter(params, sequence, DETECTOR, stop=stop)
    return estimate_covariance(bank, params, sequence, DETECTOR, c)


def against_window(factor: float, windows) -> dict[str, np.ndarray]:
    """Return covariances (windows, 4, 4) of matched, whitened and best estimates."""
    params = jittered(factor)
    sequence = SEQUENCE
    c = js.true_moments(params, sequence, 4)
    noise, whole = (record_model(params, sequence, DETECTOR, c=x) for x in (None, c))
    stops = [round(t * 1e-6 / DT) for t in windows]
    best = np.linalg.inv(np.asarray(cumulative_information(whole))[np.array(stops) - 1])
    white = [best_filter(noise, sequence, stop=stop)[0] for stop in stops]
    return dict(
        matched=np.stack([matched(params, sequence, c, stop) for stop in stops]),
        whitened=np.stack([estimate_covariance(b, params, sequence, DETECTOR, c) for b in white]),
        best=best,
    )


def receivers() -> None:
    """Print what better receivers would do, down to the quantum limit."""
    c = js.true_moments(PARAMS, SEQUENCE, 4)
    quiet = dataclasses.replace(PARAMS, B_s=0.0, gamma_m=0.0)
    rows = [
        ("the paper's", PARAMS, DETECTOR, 4.0),
        ("homodyne, the same light", PARAMS, homodyne(0.09, 0.5), 4.0),
        ("homodyne, all light", PARAMS, homodyne(1.0, 1.0), 4.0),
        ("the same, no bath, no B_s", quiet, homodyne(1.0, 1.0), 4.0),
        ("the same, nbar 1", quiet, homodyne(1.0, 1.0), 1.0),
    ]
    print("| receiver | motion | spin | times the quantum limit |\n| --- | --- | --- | --- |")
    for name, params, detector, nbar in rows:
        sequence = js.Sequence.kohler2018(nbar_measurement=nbar)
        model = record_model(params, sequence, detector, c=c)
        v = np.linalg.inv(np.asarray(cumulative_information(model)[-1]))
        m, s = added_noise(v)
        print(f"| {name} | {m:.2f} | {s:.2f} | {float(quantum_limit(v)):.2f} |")


def homodyne(efficiency: float, collection: float) -> js.Detector:
    """Return a homodyne receiver of the phase quadrature, with its vacuum."""
    return js.Detector.homodyne(efficiency=efficiency, collection=collection)


def occupation_errors() -> None:
    """Print the error of occupations from 200 shots, which is what the state's noise costs."""
    print(
        "| window, us | matched: n_m, n_s, abs ab | best: n_m, n_s, abs ab |\n| --- | --- | --- |"
    )
    c = js.true_moments(PARAMS, SEQUENCE, 4)
    model = record_model(PARAMS, SEQUENCE, DETECTOR, c=c)
    for t in WINDOWS:
        stop, cells = round(t * 1e-6 / DT), []
        for bank in (
            js.matched_filter(PARAMS, SEQUENCE, DETECTOR, stop=stop),
            best_filter(model, SEQUENCE, stop=stop)[0],
        ):
            inverse = np.linalg.inv(invert(PARAMS, SEQUENCE, DETECTOR, bank).mixing)
            products = np.asarray(sampling_covariance(PARAMS, SEQUENCE, DETECTOR, bank))
            named = js.derived(c, inverse @ products @ inverse.T / 200)
            cells.append(", ".join(f"{named[q][1]:.2f}" for q in ("n_m", "n_s", "abs_ab")))
        print(f"| {t} | {cells[0]} | {cells[1]} |")


def budget() -> None:
    """Print what each source of noise adds to matched filters over the whole ringdown."""
    bank = js.matched_filter(PARAMS, SEQUENCE, DETECTOR)
    response = np.asarray(invert(PARAMS, SEQUENCE, DETECTOR, bank).response)
    inverse = np.linalg.inv(response)
    print("| source | motion | spin | correlation of Z_m and Z_s |\n| --- | --- | --- | --- |")
    for name, part in noise_budget(PARAMS, SEQUENCE, DETECTOR, bank).items():
        v = inverse @ np.asarray(part) @ inverse.T
        m, s = added_noise(v)
        print(f"| {name} | {m:.2f} | {s:.2f} | {v[0, 2] / np.sqrt(v[0, 0] * v[2, 2]):+.3f} |")


def bias() -> None:
    """Print what the paper's products of average responses do to C, exact, against jitter."""
    print("| jitter | n_m | n_s | abs ab | arg ab, rad | largest of C |\n" + "| --- " * 6 + "|")
    for factor in (0.0, 0.5, 1.0, 2.0):
        params = jittered(factor)
        bank = js.matched_filter(params, SEQUENCE, DETECTOR)
        truth = js.true_moments(params, SEQUENCE, 4)
        exact, average = (
            invert(params, SEQUENCE, DETECTOR, bank, responses=r) for r in ("exact", "average")
        )
        raw = exact.mixing @ truth[ROWS, COLUMNS] + exact.bias
        upper = np.linalg.solve(average.mixing, raw - average.bias)
        c = np.zeros((4, 4))
        c[ROWS, COLUMNS] = upper
        c = c + np.triu(c, 1).T
        one, two = js.derived(jax.numpy.asarray(c)), js.derived(truth)
        cells = [
            f"{one[q][0] - two[q][0]:+.3f} of {two[q][0]:.2f}"
            for q in ("n_m", "n_s", "abs_ab", "arg_ab")
        ]
        print(f"| {factor:g} | {' | '.join(cells)} | {np.abs(c - truth).max():.2f} |")


def draw(path: pathlib.Path) -> None:
    """Draw added noise against the window, and efficiencies against window and jitter."""
    fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.6), layout="constrained")
    for factor, colour in zip(JITTERS, ("#000000", "#0072B2", "#D55E00", "#009E73"), strict=True):
        windows = np.arange(20, 501, 20)
        found = against_window(factor, windows)
        share = np.asarray(efficiency(found["best"], found["matched"]))
        white = np.asarray(efficiency(found["best"], found["whitened"]))
        for i, ax in enumerate(axes[1:]):
            ax.plot(windows, share[:, i], color=colour, label=f"jitter {factor:g}")
            ax.plot(windows, white[:, i], ":", color=colour)
        if factor == 1.0:
            for kind, style in (("matched", "-"), ("whitened", ":"), ("best", "--")):
                for part, shade in zip(
                    added_noise(found[kind]), ("#0072B2", "#D55E00"), strict=True
                ):
                    axes[0].plot(windows, part, style, color=shade)
    axes[0].axhline(0.5, color="#7F7F7F", linewidth=0.8)
    axes[0].set(yscale="log", ylim=(0.3, 200), ylabel="quanta added to an occupation",
                title="paper's jitter")  # fmt: skip
    for style, label in (("-", "matched"), (":", "whitened"), ("--", "best linear")):
        axes[0].plot([], [], style, color="k", label=label)
    axes[0].text(250, 0.55, "quantum limit", fontsize=7, color="#7F7F7F")
    axes[0].text(30, 5, "motion", color="#0072B2")
    axes[0].text(180, 25, "spin", color="#D55E00")
    for ax, title in zip(axes[1:], ("motion", "spin"), strict=True):
        ax.set(ylim=(0.5, 1.02), title=title, ylabel="efficiency, best = 1")
    for ax in axes:
        ax.set_xlabel("window (µs)")
    axes[0].legend(fontsize=7)
    axes[2].legend(fontsize=7, loc="lower left")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)


def main() -> None:
    """Print the tables of docs/estimates.md and draw its figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--figure", type=pathlib.Path)
    given = parser.parse_args()
    print("| jitter | window, us | matched: motion, spin | whitened | best linear | efficiency of "
          "matched: motion, spin | of whitened |\n" + "| --- " * 7 + "|")  # fmt: skip
    for factor in JITTERS:
        windows = WINDOWS
        found = against_window(factor, windows)
        shares = [np.asarray(efficiency(found["best"], found[k])) for k in ("matched", "whitened")]
        for i, t in enumerate(windows):
            noises = [added_noise(found[k][i]) for k in ("matched", "whitened", "best")]
            cells = [f"{m:.2f}, {s:.2f}" for m, s in noises]
            cells += [f"{s[i, 0]:.3f}, {s[i, 1]:.3f}" for s in shares]
            gap = np.linalg.eigvalsh(found["matched"][i] - found["best"][i]).min()
            assert gap > -1e-9 * found["matched"][i].max()
            print(f"| {factor:g} | {t} | {' | '.join(cells)} |")
    print()
    for part in (budget, receivers, occupation_errors, bias):
        part()
        print()
    if given.figure is not None:
        draw(given.figure)


if __name__ == "__main__":
    main()

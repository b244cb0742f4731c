"""Calibrate g_m, g_s and B_s from 200 shots, as a laboratory would, and look at what was found.

    python examples/calibrate_couplings.py --out results/calibrate_couplings

1. records (here simulated; replace `take_records` by your own) and a start that is 20 % off;
2. an independent measurement of the detector's efficiency enters as a prior;
3. exact likelihood of the whole records, with errors, correlations and profiles;
4. does the model hold?  What is determined?  Which experiment would do better?
Writes loss.png, contours.png, residuals.png and prediction.png, and prints a report.
"""

import argparse
import dataclasses
import pathlib

import jax

jax.config.update("jax_enable_x64", True)

import matplotlib  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

import jaxsde as js  # noqa: E402

FREE = ("g_m", "g_s", "B_s", "detector.efficiency")
TWO_PI = 2 * np.pi
UNITS = {
    "g_m": (TWO_PI * 1e3, "2π kHz"),
    "g_s": (TWO_PI * 1e3, "2π kHz"),
    "B_s": (1e3, "10³ quanta/s"),
    "detector.efficiency": (0.01, "%"),
}


def take_records(sequence: js.Sequence, detector: js.Detector) -> np.ndarray:
    """Return the records of 200 shots; a laboratory loads its own here."""
    shots = js.simulate(jax.random.key(2018), js.Params.kohler2018(), sequence, detector, 200)
    return np.asarray(shots.record)


def calibrate() -> tuple[js.Calibration, np.ndarray, js.Sequence, js.Detector]:
    """Return the calibration, and what it is of."""
    sequence, detector = js.Sequence.kohler2018(t_ringdown=360e-6), js.Detector()
    record = take_records(sequence, detector)
    guess = js.Params.kohler2018()
    guess = dataclasses.replace(
        guess, g_m=1.2 * guess.g_m, g_s=0.8 * guess.g_s, B_s=1.2 * guess.B_s
    )
    # The efficiency was measured with a beam of known power: 9.0 +- 0.5 %.
    priors = {"detector.efficiency": js.Gaussian(mean=0.09, stderr=0.005)}
    fit = js.calibrate(guess, record, FREE, sequence=sequence, detector=detector, priors=priors)
    return fit, record, sequence, detector


def draw_loss(fit: js.Calibration, path: pathlib.Path) -> None:
    """Draw the descent: loss above its least, and every parameter on its way."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    loss = fit.loss - fit.loss.min()
    left.semilogy(np.flatnonzero(loss > 0), loss[loss > 0], "o-")
    left.set(xlabel="accepted step", ylabel="loss above its least (nats)")
    for i, name in enumerate(fit.free):
        right.plot(fit.path[:, i] / fit.values[i], "o-", label=name)
    right.axhline(1, color="0.5", linewidth=0.6)
    right.set(xlabel="accepted step", ylabel="parameter / its final value")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_contours(fit: js.Calibration, truth: list[float], path: pathlib.Path) -> None:
    """Draw 1 and 2 sigma ellipses of every pair (Laplace), and the normal of each parameter."""
    n = len(fit.free)
    figure, axes = plt.subplots(n, n, figsize=(8, 7.4), layout="constrained")
    angle = np.linspace(0, TWO_PI, 200)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    scale = np.array([UNITS[name][0] for name in fit.free])
    value, error, true = fit.values / scale, fit.stderr / scale, np.array(truth) / scale
    for i in range(n):
        for j in range(n):
            ax = axes[i, j]
            if j > i:
                ax.axis("off")
                continue
            if i == j:
                x = value[i] + error[i] * np.linspace(-3.5, 3.5, 200)
                ax.plot(x, np.exp(-0.5 * ((x - value[i]) / error[i]) ** 2))
                ax.axvline(true[i], color="k", linewidth=0.8)
                ax.set_yticks([])
            else:
                pair = fit.correlation[np.ix_([j, i], [j, i])]
                root = np.linalg.cholesky(pair * np.outer(error[[j, i]], error[[j, i]]))
                for sigmas in (1.515, 2.486):  # 68.3 % and 95.4 % of two dimensions
                    ring = value[[j, i], None] + sigmas * root @ circle
                    ax.plot(*ring, "C0", linewidth=1.0 if sigmas < 2 else 0.5)
                ax.plot(true[j], true[i], "k+")
            if i == n - 1:
                ax.set_xlabel(f"{fit.free[j]}\n({UNITS[fit.free[j]][1]})")
            if j == 0 and i:
                ax.set_ylabel(f"{fit.free[i]}\n({UNITS[fit.free[i]][1]})")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_residuals(good: js.GoodnessOfFit, path: pathlib.Path) -> None:
    """Draw the spectrum of the innovations, and chi^2 of every shot."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for spectrum in good.spectra:
        left.plot(spectrum.frequency / 1e3, spectrum.power, linewidth=0.8, label=spectrum.stage)
    left.axhline(1, color="k", linewidth=0.8)
    left.set(xlabel="frequency (kHz)", ylabel="power of innovations", ylim=(0.5, 1.5))
    left.legend(fontsize=8)
    right.hist(good.shot_z, np.linspace(-4, 4, 25), density=True, histtype="step")
    x = np.linspace(-4, 4, 200)
    right.plot(x, np.exp(-(x**2) / 2) / np.sqrt(TWO_PI), "k--", linewidth=0.8)
    right.set(xlabel="χ² of a shot, as z", ylabel="density")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_prediction(fit, record, sequence, detector, path: pathlib.Path) -> None:
    """Draw <D^2>(t) of the records and what the start and the fit expect of it."""
    seen = js.mean_squared_displacement(record, fit.params, sequence, detector)
    time = 1e6 * np.asarray(seen.time)
    figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
    mean, error = (np.asarray(x) / TWO_PI**2 / 1e6 for x in (seen.mean, seen.stderr))
    ax.fill_between(time, mean - error, mean + error, alpha=0.4, label="200 shots, ± 1 σ")
    expected = np.asarray(js.expected_displacement(fit.params, sequence, detector))
    ax.plot(time, expected / TWO_PI**2 / 1e6, "k", linewidth=1, label="expected of the fit")
    start = dataclasses.replace(fit.params, g_m=fit.start[0], g_s=fit.start[1], B_s=fit.start[2])
    expected = np.asarray(js.expected_displacement(start, sequence, detector))
    ax.plot(time, expected / TWO_PI**2 / 1e6, "k:", linewidth=1, label="of the start")
    ax.set(xlabel="time (µs)", ylabel="⟨D²⟩/(2π)² (kHz²)")
    ax.set_ylim(-1e4, 6e4)  # of the dim preparation noise is left
    ax.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Calibrate, report and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    default = pathlib.Path("results/calibrate_couplings")
    parser.add_argument("--out", type=pathlib.Path, default=default)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    fit, record, sequence, detector = calibrate()
    known = js.Params.kohler2018()
    truth = [known.g_m, known.g_s, known.B_s, detector.efficiency]
    print("converged" if fit.converged else f"NOT CONVERGED: {fit.reason}")
    for i, name in enumerate(fit.free):
        unit, label = UNITS[name]
        value, error, true = fit.values[i] / unit, fit.stderr[i] / unit, truth[i] / unit
        print(f"  {name:20s} {value:8.3f} ± {error:.3f} {label:14s} (truth {true:.3f})")
    interval = js.profile(fit, "B_s")
    print(f"  profile of B_s: {interval.lower:.3g} ... {interval.upper:.3g} quanta/s (68 %)")
    print(js.identifiability(fit).text)
    good = js.goodness_of_fit(fit)
    print(f"{good.text}; chi^2 {good.chi2:.0f} of {good.dof}")
    draw_loss(fit, out / "loss.png")
    draw_contours(fit, truth, out / "contours.png")
    draw_residuals(good, out / "residuals.png")
    draw_prediction(fit, record, sequence, detector, out / "prediction.png")
    design = js.best_design(
        fit.params, "B_s", 0.05 * fit.params.B_s, {"ringdown.nbar": (0.5, 30.0)},
        free=FREE[:3], sequence=sequence, detector=detector, between=0.5e-3, steps=15,
    )  # fmt: skip
    print(
        f"B_s to 5 % soonest: nbar = {design.values[0]:.1f} in the ringdown, {design.shots:.0f} "
        f"shots of {design.samples * sequence.sample_interval * 1e6:.0f} us, {design.seconds:.2f} s"
        f" (at nbar = 4: {design.history[0]:.2f} s)"
    )


if __name__ == "__main__":
    main()

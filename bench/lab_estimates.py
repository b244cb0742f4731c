"""Bias and coverage of the calibrations over many synthetic experiments.

python bench/lab_estimates.py b_s|thermal [--experiments 400] [--shots 200]
"""

import argparse
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxsde.analysis.anomalous import line_slope
from jaxsde.analysis.displacement import expected_displacement, mean_squared_displacement
from jaxsde.analysis.larmor import frequency_spread
from jaxsde.analysis.lines import fit_lines
from jaxsde.analysis.spectra import hann, welch
from jaxsde.analysis.thermometry import sideband_periodograms, sideband_thermometry
from jaxsde.engine.simulate import simulate
from jaxsde.lab.config import load_experiment
from jaxsde.lab.spec import build_sequence

jax.config.update("jax_enable_x64", True)

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TWO_PI = 2 * np.pi


def summary(name: str, value: np.ndarray, error: np.ndarray, truth: float) -> None:
    """Print bias in standard errors, its own error, rms z and the share within one error."""
    good = np.isfinite(value) & np.isfinite(error) & (error > 0)
    value, error, n = value[good], error[good], int(good.sum())
    bias, spread = (value.mean() - truth) / value.std(ddof=1), 1 / np.sqrt(n)
    z = (value - truth) / error
    inside, binomial = np.mean(np.abs(z) < 1), np.sqrt(0.6827 * 0.3173 / n)
    print(
        f"| {name} | {truth:.4g} | {value.std(ddof=1):.3g} | {np.median(error):.3g} | "
        f"{bias:+.3f} ± {spread:.3f} | {100 * inside:.1f} ± {100 * binomial:.1f} | {n} |",
        flush=True,
    )


def study_b_s(experiments: int, shots: int) -> None:
    """B_s of examples/anomalous_diffusion.toml, Fig. S1c."""
    e = load_experiment(EXAMPLES / "anomalous_diffusion.toml")
    sequence, p, d = build_sequence(e), e.params, e.detector
    span, dt = sequence.span("measurement"), sequence.sample_interval
    time = sequence.time
    inside = (time > span.start * dt + 25e-6) & (time < span.stop * dt - 25e-6)

    def slope(b_s):
        trace = expected_displacement(dataclasses.replace(p, B_s=b_s), sequence, d)
        return float(line_slope(time[inside], trace[inside]))

    without = slope(0.0)
    per_quantum = (slope(1e5) - without) / 1e5
    values, errors = [], []
    for k in range(experiments):
        made = simulate(jax.random.fold_in(jax.random.key(1), k), p, sequence, d, shots)
        trace = mean_squared_displacement(made.record, p, sequence, d)
        each = np.asarray(line_slope(time[inside], trace.each[:, inside]))
        values.append((each.mean() - without) / per_quantum)
        errors.append(each.std(ddof=1) / np.sqrt(shots) / per_quantum)
    summary("B_s (quanta/s)", np.array(values), np.array(errors), float(p.B_s))


def study_thermal(experiments: int, shots: int) -> None:
    """Widths, jitter and occupation of examples/thermometry.toml."""
    e = load_experiment(EXAMPLES / "thermometry.toml")
    # The steady occupation, for motion that is stationary from the beginning.
    p = dataclasses.replace(e.params, n_m0=2.481)
    sequence, d, dt = build_sequence(e), e.detector, e.detector.sample_interval
    window = np.asarray(hann(sequence.n_samples))
    omega, spin = float(p.omega_m), float(p.omega_s)
    found: dict[str, list[tuple[float, float]]] = {}

    def keep(name, value, error):
        found.setdefault(name, []).append((float(value), float(error)))

    for k in range(experiments):
        made = simulate(jax.random.fold_in(jax.random.key(2), k), p, sequence, d, shots)
        signal = made.record[:, :, 1]
        units = np.asarray(welch(signal[..., None], jnp.asarray(window), len(window), dt))
        fit = fit_lines(units[:, None, :, 0], window, dt, np.array([omega]), (83e3, 107e3))
        keep("omega_m/2pi (Hz)", fit.omega[0] / TWO_PI, fit.stderr("omega")[0] / TWO_PI)
        keep("Gamma_m/2pi (Hz)", fit.gamma[0] / TWO_PI, fit.stderr("gamma")[0] / TWO_PI)
        error = fit.stderr("sigma_squared")[0]
        keep("(sigma_m/2pi)^2 (Hz^2)", fit.sigma_squared[0] / TWO_PI**2, error / TWO_PI**2)
        spread = frequency_spread(signal, dt, spin, TWO_PI * 6e3)
        error = spread.variance_stderr / TWO_PI**2
        keep("(sigma_s/2pi)^2 (Hz^2)", spread.variance / TWO_PI**2, error)
        both = sideband_periodograms(made.record, window, dt)
        heat = sideband_thermometry(both, window, dt, omega, (83e3, 107e3))
        keep("1/n_m, sidebands", 1 / heat.n, heat.n_stderr / heat.n**2)
    truths = (omega / TWO_PI, p.gamma_m / TWO_PI, (p.sigma_m / TWO_PI) ** 2)
    truths += ((p.sigma_s / TWO_PI) ** 2, 1 / float(p.n_m0))
    for (name, pairs), truth in zip(found.items(), truths, strict=True):
        values, errors = np.array(pairs).T
        summary(name, values, errors, float(truth))


def main() -> None:
    """Run the study that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("b_s", "thermal"))
    parser.add_argument("--experiments", type=int, default=400)
    parser.add_argument("--shots", type=int, default=200)
    asked = parser.parse_args()
    print(
        "| estimate | truth | scatter | quoted error | bias, in errors | within one error, % | n |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    study = study_b_s if asked.what == "b_s" else study_thermal
    study(asked.experiments, asked.shots)


if __name__ == "__main__":
    main()

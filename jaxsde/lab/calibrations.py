"""Calibrations from the measurement stage of records: line widths, jitter, sidebands (S.3, S.6)."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxsde.analysis.gaps import GROUPS
from jaxsde.analysis.larmor import halves, line_frequencies, spread_of_halves
from jaxsde.analysis.lines import fit_lines
from jaxsde.analysis.spectra import hann, welch
from jaxsde.analysis.thermometry import sideband_periodograms, sideband_thermometry
from jaxsde.engine.detect import quadrature_gains
from jaxsde.lab.recordings import RecordError
from jaxsde.lab.records import Source, read_blocks
from jaxsde.lab.spec import Experiment, build_sequence
from jaxsde.lab.table import Row
from jaxsde.physics.params import TWO_PI

KINDS = ("voigt", "larmor", "sidebands")
BLOCK = 512
# A line is fitted this far to either side, and its frequency sought within that.
REACH, SOUGHT = 12e3, 6e3  # Hz


def calibrate_stage(
    source: Source, experiment: Experiment, kinds: tuple[str, ...], *, keep_clipped: bool = False
) -> list[Row]:
    """Return rows of the calibrations asked for, from the stage that the experiment measures in.

    voigt: Gamma_m and sigma_m from the spectrum of D.  larmor: sigma_s from the frequency of every
    shot.  sidebands: occupation of the motion from the asymmetry of I - iQ.  All take the motion
    for stationary in that stage: give them records without a pulse.  Shots with a gap there are
    left out.
    Raises RecordError for a kind that is none, or that these records cannot give.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise RecordError(f"--also: wanted some of {', '.join(KINDS)}, got {kind!r}")
    if "sidebands" in kinds and experiment.detector.quadratures != ("I", "Q"):
        raise RecordError(
            f"{source.path}: --also sidebands: wanted channels I and Q, got "
            f"{experiment.detector.quadratures}; one quadrature cannot tell the sidebands apart"
        )
    sequence = build_sequence(experiment)
    span, dt = sequence.span(experiment.analysis.ringdown), sequence.sample_interval
    window = np.asarray(hann(span.stop - span.start))
    measures = _measures(experiment, window, dt)
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    for block in read_blocks(source, BLOCK):
        bad = block.missing | (block.clipped & (not keep_clipped)) | block.rejected[:, None]
        record = jnp.asarray(block.samples[~bad[:, span].any(axis=1)][:, span])
        for kind in kinds:
            found[kind].append(measures[kind](record))
    out: list[Row] = []
    for kind in kinds:
        out += _ROWS[kind](experiment, np.concatenate(found[kind]), window, dt)
    return out


def _measures(experiment: Experiment, window: np.ndarray, dt: float) -> dict[str, Callable]:
    """Return what each kind keeps of a block of records."""
    spec, p = experiment.analysis, experiment.params
    stage = next(s for s in build_sequence(experiment).stages if s.name == spec.ringdown)
    gains = np.asarray(quadrature_gains(p, stage.controls, experiment.detector))
    along = jnp.asarray(gains / np.sum(gains**2))
    omega, reach = float(np.asarray(p.omega_s)), TWO_PI * SOUGHT

    def voigt(record):
        displacement = (record @ along)[..., None]
        return np.asarray(welch(displacement, jnp.asarray(window), len(window), dt))[:, None, :, 0]

    def larmor(record):
        signal = record @ along
        whole = line_frequencies(signal, dt, omega, reach)[0]
        (f_1, p_1), (f_2, p_2) = halves(signal, dt, omega, reach)
        return np.stack([whole, f_1, p_1, f_2, p_2], axis=1)

    return dict(
        voigt=voigt, larmor=larmor, sidebands=lambda r: sideband_periodograms(r, window, dt)
    )


def _grouped(units: np.ndarray) -> np.ndarray:
    """Return means of groups of shots, GROUPS of them at most, all of one size."""
    size = -(-len(units) // GROUPS)
    whole = len(units) // size * size
    return units[:whole].reshape(-1, size, *units.shape[1:]).mean(axis=1)


def _band(experiment: Experiment, omega: float) -> tuple[float, float]:
    """Return the band around the motion's line that the spin's leaves free, Hz."""
    p = experiment.params
    centre, other = omega / TWO_PI, float(np.asarray(p.omega_s)) / TWO_PI
    reach = min(REACH, 0.6 * abs(other - centre)) if other != centre else REACH
    return centre - reach, centre + reach


def _motion(experiment: Experiment) -> float:
    """Return the trap frequency in the stage that is measured, rad/s."""
    stage = build_sequence(experiment).stages[-1]
    for one in build_sequence(experiment).stages:
        stage = one if one.name == experiment.analysis.ringdown else stage
    rest = stage.controls.omega_m
    return float(np.asarray(experiment.params.omega_m if rest is None else rest))


def _row(name, label, value, error, theory, unit, note) -> Row:
    known = float(error) if np.isfinite(error) else None
    theory = None if theory is None else float(np.asarray(theory))
    return Row(
        name=name, label=label, value=float(value), error=known, theory=theory, unit=unit, note=note
    )


def _voigt_rows(experiment: Experiment, units, window, dt) -> list[Row]:
    omega, p = _motion(experiment), experiment.params
    fit = fit_lines(_grouped(units), window, dt, np.array([omega]), _band(experiment, omega))
    quality = f"Voigt fit, chi² {fit.chi2:.0f} of {fit.dof} bins"
    quality += "" if fit.converged else "; NOT CONVERGED"
    square, error = fit.sigma_squared[0], fit.stderr("sigma_squared")[0]
    bound = ""
    if square < 2 * error:
        square, error = square / TWO_PI**2, error / TWO_PI**2
        bound = f"; sigma not resolved, its square is {square:.3g} ± {error:.2g} Hz²"
    rows = []
    for name, label, value, error, theory in (
        ("omega_m", "ω_m/2π", fit.omega[0], fit.stderr("omega")[0], omega),
        ("gamma_m", "Γ_m/2π", fit.gamma[0], fit.stderr("gamma")[0], p.gamma_m),
        ("sigma_m", "σ_m/2π", fit.sigma[0], fit.stderr("sigma")[0], p.sigma_m),
    ):
        value, error, theory = (v / TWO_PI for v in (value, error, theory))
        rows.append(_row(name, label, value, error, theory, "Hz", quality + bound))
    return rows


def _larmor_rows(experiment: Experiment, found, window, dt) -> list[Row]:
    whole, f_1, p_1, f_2, p_2 = found.T
    if len(whole) < 8:
        raise RecordError(f"--also larmor: wanted at least 8 shots without a gap, got {len(whole)}")
    spread = spread_of_halves(whole, (f_1, p_1), (f_2, p_2))
    p, noise = experiment.params, np.sqrt(max(spread.noise, 0.0)) / TWO_PI
    note = f"covariance of halves of a shot; {noise:.3g} Hz of estimation noise removed"
    if spread.variance < 2 * spread.variance_stderr:
        note += "; not resolved: its square is below two errors"
    return [
        _row("omega_s", "ω_s/2π", spread.mean / TWO_PI, spread.mean_stderr / TWO_PI,
             p.omega_s / TWO_PI, "Hz", "mean of the shots' Larmor frequencies"),
        _row("sigma_s_squared", "(σ_s/2π)²", spread.variance / TWO_PI**2,
             spread.variance_stderr / TWO_PI**2, (p.sigma_s / TWO_PI) ** 2, "Hz²", note),
    ]  # fmt: skip


def _sideband_rows(experiment: Experiment, units, window, dt) -> list[Row]:
    omega = _motion(experiment)
    made = sideband_thermometry(_grouped(units), window, dt, omega, _band(experiment, omega))
    note = "upper/(lower − upper) sideband, averaged over the stage"
    if made.quantum < 3 * made.quantum_stderr:
        note += "; their difference is below 3 errors, where the ratio has no normal error"
    if experiment.detector.model == "adiabatic":
        note += "; records of the adiabatic model have no asymmetry"
    return [_row("n_m_sidebands", "n_m, sidebands", made.n, made.n_stderr, None, "quanta", note)]


_ROWS: dict[str, Callable[..., list[Row]]] = dict(
    voigt=_voigt_rows, larmor=_larmor_rows, sidebands=_sideband_rows
)

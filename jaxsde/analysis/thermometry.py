"""Sideband thermometry: occupation of the motion from the asymmetry of its two sidebands (S.3)."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.analysis.lines import LineFit, fit_lines


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thermometry:
    """Hold an occupation from sidebands.

    n, n_stderr: from the asymmetry alone, quanta.  quantum, quantum_stderr: mean square that one
    quantum adds to a sideband, unit^2; A^2 g_m^2 by calibration.  fit: of both sidebands, upper
    first; its areas are twice the sidebands' mean squares.
    """

    n: float
    n_stderr: float
    quantum: float
    quantum_stderr: float
    fit: LineFit


def sideband_periodograms(
    record: Float[Array, "shots samples quadratures"],
    window: Float[np.ndarray, "length"],
    dt: float,
) -> Float[np.ndarray, "shots 2 frequencies"]:
    """Return periodograms of the upper and lower sideband of each shot, at f = 0 ... 1/(2 dt).

    dt/sum w^2 |sum_t w_t a_t exp(+-2 pi i f t)|^2 of the field a = I - iQ; light goes as
    exp(-i omega t), so that the upper sideband turns as exp(-2 pi i f t).  The window lies at the
    beginning of the record.  unit^2/Hz; they are S_II + S_QQ +- 2 Im S_IQ (`jaxsde.sidebands`).
    Raises ValueError for a record that is not I and Q, or shorter than the window.
    """
    n = len(window)
    if record.shape[2] != 2 or record.shape[1] < n:
        raise ValueError(
            f"record: wanted I and Q and at least the {n} samples of the window, got "
            f"{record.shape}; both sidebands take both quadratures"
        )
    scale = jnp.asarray(window, record.dtype)[None]
    field = [jnp.fft.rfft(record[:, :n, k] * scale, axis=1) for k in (0, 1)]
    # Of real I and Q:  F[a](-f) = conj(F[I](f)) - i conj(F[Q](f)).
    lower, upper = field[0] - 1j * field[1], field[0] + 1j * field[1]
    both = jnp.stack([jnp.abs(upper) ** 2, jnp.abs(lower) ** 2], axis=1)
    return np.asarray(both * (dt / float(np.sum(window**2))))


def sideband_thermometry(
    units: Float[np.ndarray, "shots 2 frequencies"],
    window: Float[np.ndarray, "length"],
    dt: float,
    omega: float,
    band: tuple[float, float],
) -> Thermometry:
    """Return the occupation n = upper/(lower - upper) of the sidebands' areas.

    Motion of n quanta scatters n into the upper sideband and n + 1 into the lower one, for a probe
    on resonance; both share centre, width and jitter.  Their difference, one quantum, calibrates
    the record.
    units: of `sideband_periodograms`.  omega: near the line, rad/s.  band: fitted, Hz.
    Raises ValueError as `fit_lines`.
    """
    fit = fit_lines(units, window, dt, np.array([omega]), band)
    upper, lower = fit.area[0]
    cov = fit.cov[-2:, -2:]
    # A line of a real signal has half its area at +f; a sideband's field has all of its own there.
    quantum = (lower - upper) / 2
    slope = np.array([lower, -upper]) / (lower - upper) ** 2
    spread = np.array([-0.5, 0.5])
    return Thermometry(
        n=float(upper / (lower - upper)),
        n_stderr=float(np.sqrt(slope @ cov @ slope)),
        quantum=float(quantum),
        quantum_stderr=float(np.sqrt(spread @ cov @ spread)),
        fit=fit,
    )

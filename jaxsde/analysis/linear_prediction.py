"""Linear prediction: complex frequencies of modes that ring, grow or decay, from records of D.

A record of k modes obeys  y_n = c_1 y_(n-1) + ... + c_2k y_(n-2k)  at any lag between its samples,
whatever the modes' amplitudes; the roots of that polynomial are exp(lambda lag) (Prony).  White
noise of the record would bias least squares: samples before those that predict are instruments,
which know nothing of it (two-stage least squares; modified Yule-Walker equations).
"""

import dataclasses

import numpy as np
from jaxtyping import Complex, Float

from jaxsde.physics.params import TWO_PI

# Shots at least, and groups of them at most, for the jackknife.
LEAST_SHOTS, GROUPS = 20, 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModeFit:
    """Hold complex frequencies of modes that go as exp(-i omega t), lowest real part first.

    omega: rad/s; a mode's square grows at 2 Im omega.  real_stderr, imag_stderr: rad/s, by the
    jackknife over groups of shots.
    """

    omega: Complex[np.ndarray, "modes"]
    real_stderr: Float[np.ndarray, "modes"]
    imag_stderr: Float[np.ndarray, "modes"]


def fit_modes(
    record: Float[np.ndarray, "shots samples"],
    dt: float,
    near: float,
    *,
    modes: int = 2,
    lag: int,
    instruments: int = 4,
) -> ModeFit:
    """Return the complex frequencies of the modes that a record of one output holds.

    dt: s.  near: rad/s, about which their frequencies lie, within 1/(2 lag dt).
    modes: that the record holds, no more and no less.  lag: samples between those that predict
        each other; the modes tell apart best where lag times their splitting is about a radian.
    instruments: earlier samples, at least 2 modes.
    Raises ValueError for fewer than 20 shots, or a record too short for the lag.
    """
    shots, samples = record.shape
    order = 2 * modes
    span = (order + instruments) * lag
    if shots < LEAST_SHOTS:
        raise ValueError(
            f"record: wanted at least {LEAST_SHOTS} shots for errors by the jackknife, got {shots}"
        )
    if not (lag >= 1 and instruments >= order and samples > span + order):
        raise ValueError(
            f"record: wanted a lag of 1 or more, {order} instruments or more, and more samples "
            f"than {span + order}, got lag {lag}, {instruments} instruments, {samples} samples; "
            "lower the lag"
        )
    record = record / record.std()
    index = np.arange(samples - span)[:, None] + lag * np.arange(order + instruments + 1)
    parts = [_products(record[i][:, index], instruments) for i in _groups(shots)]
    whole = [np.sum(part, axis=0) for part in zip(*parts, strict=True)]
    found = _frequencies(_roots(*whole), lag * dt, near)
    # Of the 2 modes that lie about +near and about -near, those nearest are meant.
    best = found[np.argsort(np.abs(np.real(found) - near))[:modes]]
    best = best[np.lexsort((np.imag(best), np.real(best)))]
    drawn = []
    for part in parts:
        left = [all_ - one for all_, one in zip(whole, part, strict=True)]
        drawn.append(_matched(_frequencies(_roots(*left), lag * dt, near), best))
    scale = np.sqrt(len(parts) - 1)
    return ModeFit(
        omega=best,
        real_stderr=np.std(np.real(drawn), axis=0) * scale,
        imag_stderr=np.std(np.imag(drawn), axis=0) * scale,
    )


def _groups(shots: int) -> list[np.ndarray]:
    return np.array_split(np.arange(shots), min(GROUPS, shots // 2))


def _products(taps: np.ndarray, instruments: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sums of instruments x predictors, instruments x predicted, instruments x themselves.

    taps: (shots, times, instruments, then predictors and predicted), oldest first.
    """
    flat = taps.reshape(-1, taps.shape[-1])
    products = flat[:, :instruments].T @ flat
    return products[:, instruments:-1], products[:, -1], products[:, :instruments]


def _roots(mixed: np.ndarray, predicted: np.ndarray, own: np.ndarray) -> np.ndarray:
    weighted = np.linalg.solve(own, mixed).T
    coefficients = np.linalg.solve(weighted @ mixed, weighted @ predicted)
    return np.roots(np.concatenate([[1.0], -coefficients[::-1]]))


def _frequencies(roots: np.ndarray, span: float, near: float) -> np.ndarray:
    """Return omega of roots exp(-i omega span), of its aliases that nearest to `near`."""
    omega = 1j * np.log(roots.astype(complex)) / span
    period = TWO_PI / span
    return omega + period * np.round((near - omega.real) / period)


def _matched(found: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return those of `found` that are the modes `best`, each used once."""
    left, out = list(found), []
    for mode in best:
        out.append(left.pop(int(np.argmin(np.abs(np.array(left) - mode)))))
    return np.array(out)

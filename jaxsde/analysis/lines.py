"""Spectral lines: Voigt profiles fitted to periodograms, by their exact expectation.

A line of a damped oscillator whose frequency is drawn anew for every shot, normally, has the
autocovariance  area exp(-gamma |tau|/2 - sigma^2 tau^2/2) cos(omega tau): a Voigt profile.  The
mean of a windowed periodogram is its transform with the window's own autocorrelation, at any
length of the window, so that short records do not widen the fitted line.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import scipy.signal
from jaxtyping import Array, Float

from jaxsde.analysis.spectra import frequencies
from jaxsde.physics.params import TWO_PI

# Below this the scatter of the scores does not tell their covariance.
LEAST_UNITS = 12
# Of sigma^2, in units of the window's resolution squared: a bound at 0 would bias what is small.
LEAST_SIGMA_SQUARED = -0.1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LineFit:
    """Hold lines fitted together, in one or several spectra that share their shapes.

    omega: centres, rad/s.  gamma: damping of energy (full width of the Lorentzian), 1/s.
    sigma_squared: of the frequency over shots, (rad/s)^2; negative where noise makes it so.
    area: mean square of the line's signal in each spectrum, unit^2.  background: density in the
    middle of the band, unit^2/Hz, and slope: its relative change across half the band.
    cov: of (omega, gamma, sigma_squared, area), lines within each, from the units' own scatter.
    at_bound: lines whose gamma, or sigma_squared, lies on its bound; others' errors hold it there.
    model, data: at frequency (Hz), unit^2/Hz.  chi2, dof: of the mean spectrum about the model,
    for independent bins of the window's resolution.
    """

    omega: Float[np.ndarray, "lines"]
    gamma: Float[np.ndarray, "lines"]
    sigma_squared: Float[np.ndarray, "lines"]
    area: Float[np.ndarray, "lines spectra"]
    background: Float[np.ndarray, "spectra"]
    slope: Float[np.ndarray, "spectra"]
    cov: Float[np.ndarray, "parameters parameters"]
    at_bound: np.ndarray
    frequency: Float[np.ndarray, "bins"]
    model: Float[np.ndarray, "spectra bins"]
    data: Float[np.ndarray, "spectra bins"]
    chi2: float
    dof: int
    converged: bool

    @property
    def sigma(self) -> Float[np.ndarray, "lines"]:
        """Standard deviation of the frequency from shot to shot, rad/s."""
        return np.sqrt(np.maximum(self.sigma_squared, 0.0))

    def stderr(self, name: str) -> np.ndarray:
        """Return the standard errors of omega, gamma, sigma_squared, sigma or area.

        That of sigma is to first order in sigma_squared; infinite at sigma = 0.
        """
        n = len(self.omega)
        root = np.sqrt(np.maximum(np.diag(self.cov), 0.0))
        if name == "area":
            return root[3 * n :].reshape(self.area.shape)
        if name == "sigma":
            error, safe = self.stderr("sigma_squared"), np.maximum(self.sigma, 1e-300)
            return np.where(self.sigma > 0, error / (2 * safe), np.inf)
        first = n * ("omega", "gamma", "sigma_squared").index(name)
        return root[first : first + n]


def line_periodogram(
    omega: Float[Array, "lines"],
    gamma: Float[Array, "lines"],
    sigma_squared: Float[Array, "lines"],
    window: Float[np.ndarray, "length"],
    dt: float,
) -> Float[Array, "lines frequencies"]:
    """Return the exact mean of the periodogram (`welch`) of lines of area 1, 1/Hz, two-sided.

    Sum over lags m of  dt/sum w^2 (w * w)_m r(m dt) exp(-2 pi i f m dt),  at f = 0 ... 1/(2 dt).
    """
    return _periodogram(omega, gamma, sigma_squared, jnp.asarray(_overlap(window, dt)), dt)


def _overlap(window: np.ndarray, dt: float) -> np.ndarray:
    """Return dt (w * w)_m/sum w^2 at the lags m = 0 ... length - 1."""
    return scipy.signal.correlate(window, window)[len(window) - 1 :] * dt / np.sum(window**2)


def _periodogram(omega, gamma, sigma_squared, overlap, dt):
    tau = jnp.asarray(np.arange(overlap.shape[0]) * dt, overlap.dtype)[None]
    envelope = jnp.exp(-gamma[:, None] * tau / 2 - sigma_squared[:, None] * tau**2 / 2)
    r = overlap[None] * envelope * jnp.cos(omega[:, None] * tau)
    whole = jnp.concatenate([r, jnp.zeros_like(r[:, :1]), r[:, :0:-1]], axis=1)
    return jnp.fft.rfft(whole, axis=1).real[:, ::2]


def fit_lines(
    units: Float[np.ndarray, "units spectra frequencies"],
    window: Float[np.ndarray, "length"],
    dt: float,
    omega: Float[np.ndarray, "lines"],
    band: tuple[float, float],
    *,
    fixed_sigma: bool = False,
) -> LineFit:
    """Fit Voigt lines on a straight background to periodograms (debiased Whittle likelihood).

    The loss  sum over f of log S(f) + P(f)/S(f)  is smallest, on average, at the truth, whatever
    the distribution and correlation of the bins; errors come from the scatter of the units' scores,
    neighbouring units' correlation included (Sykulski et al., Biometrika 106, 251 (2019)).
    units: periodograms (`welch`) of shots, or of windows in a row; several spectra share omega,
        gamma and sigma.  omega: starts, rad/s, within a resolution of the peaks.
    band: fitted, Hz.  fixed_sigma: hold sigma at 0, for one long record, whose frequency is one.
    Raises ValueError for too few units, or a band that holds too few bins.
    """
    f = frequencies(len(window), dt)
    inside = (f >= band[0]) & (f <= band[1]) & (f > 0)
    n_lines, n_spectra = len(omega), units.shape[1]
    n_free = n_lines * (3 - fixed_sigma + n_spectra) + 2 * n_spectra
    if units.shape[0] < LEAST_UNITS:
        raise ValueError(
            f"units: wanted at least {LEAST_UNITS} shots or windows for an error, got "
            f"{units.shape[0]}; take shorter windows or more shots"
        )
    if inside.sum() * n_spectra < n_free + 4:
        raise ValueError(
            f"band: wanted at least {(n_free + 4 - 1) // n_spectra + 1} bins between {band[0]:g} "
            f"and {band[1]:g} Hz, got {int(inside.sum())}; widen the band or take longer windows"
        )
    data = np.asarray(units, float)[:, :, inside]
    problem = _Problem(
        length=len(window),
        dt=dt,
        first=int(np.argmax(inside)),
        bins=int(inside.sum()),
        n_lines=n_lines,
        n_spectra=n_spectra,
        fixed_sigma=fixed_sigma,
    )
    start = _start(data.mean(axis=0), f[inside], np.asarray(omega, float), problem)
    return _fitted(problem, window, data, start, f[inside])


@dataclasses.dataclass(frozen=True)
class _Problem:
    """Hold what is fixed in a fit; unknowns are scaled by the window's resolution."""

    length: int
    dt: float
    first: int
    bins: int
    n_lines: int
    n_spectra: int
    fixed_sigma: bool

    @property
    def rate(self) -> float:
        return TWO_PI / (self.length * self.dt)

    def split(self, x):
        n, k = self.n_lines, self.n_spectra
        shape, rest = x[: 3 * n].reshape(3, n), x[3 * n :]
        return shape, rest[: n * k].reshape(n, k), rest[n * k :].reshape(2, k)

    def model(self, x, origin, overlap):
        """Return S (spectra, bins) of unknowns (omega - origin, gamma, sigma^2, area, b, slope)."""
        shape, area, background = self.split(x)
        omega, gamma, s = origin + shape[0] * self.rate, shape[1] * self.rate, shape[2]
        lines = _periodogram(omega, gamma, s * self.rate**2, overlap, self.dt)
        lines = lines[:, self.first : self.first + self.bins]
        slope = jnp.asarray(np.linspace(-1.0, 1.0, self.bins))[None]
        return area.T @ lines + background[0][:, None] * (1 + background[1][:, None] * slope)


@functools.partial(jax.jit, static_argnums=0)
def _loss_and_slopes(problem: _Problem, x, scale, origin, overlap, mean):
    """Return the loss, the model and its Jacobian."""

    def model(x):
        return problem.model(x * scale, origin, overlap)

    s = model(x)
    return jnp.sum(jnp.log(s) + mean / s), s, jax.jacfwd(model)(x)


def _start(mean, f, omega, problem: _Problem):
    """Return (unknowns, origin, units) near the answer: half-power width, area above background."""
    floor = np.quantile(mean, 0.2, axis=1)
    step = f[1] - f[0]
    area, width = [], []
    for w in omega:
        near = np.abs(f - w / TWO_PI) < max(6 * step, 0.1 * (f[-1] - f[0]))
        above = np.maximum(mean[:, near] - floor[:, None], 1e-3 * floor[:, None])
        area.append(2 * above.sum(axis=1) * step)
        width.append(above.sum() / above.max() / problem.n_spectra)
    n = len(omega)
    gamma = np.maximum(np.array(width) * 0.5, 0.3)
    s = np.zeros(n) if problem.fixed_sigma else 0.1 * gamma**2
    powers = np.concatenate([np.array(area).ravel(), floor])
    x = np.concatenate([np.zeros(n), gamma, s, np.ones(powers.size), np.zeros(floor.size)])
    units = np.concatenate([np.ones(3 * n), powers, np.ones(floor.size)])
    return x, np.asarray(omega), units


def _fitted(
    problem: _Problem, window: np.ndarray, data: np.ndarray, start, f: np.ndarray
) -> LineFit:
    x, origin, units = start
    n, k, rate = problem.n_lines, problem.n_spectra, problem.rate
    given = (units, origin, _overlap(window, problem.dt), data.mean(axis=0))
    parts = functools.partial(_loss_and_slopes, problem)
    parts = functools.partial(_at, parts, tuple(jnp.asarray(v) for v in given))
    least = 0.0 if problem.fixed_sigma else LEAST_SIGMA_SQUARED
    low = np.concatenate([np.full(n, -4.0), np.zeros(n), np.full(n, least)])
    low = np.append(low, np.full((n + 1) * k, 1e-3))
    high = np.full(low.size, np.inf)
    high[:n] = 4.0
    high[2 * n : 3 * n] = 0.0 if problem.fixed_sigma else np.inf
    low, high = (np.append(v, np.full(k, e)) for v, e in ((low, -0.95), (high, 0.95)))
    starts = [x]
    if not problem.fixed_sigma:
        other = x.copy()
        other[n : 2 * n] *= 0.3
        other[2 * n : 3 * n] *= 5
        starts.append(other)
    fits = [_minimum(parts, data.mean(axis=0), one, low, high) for one in starts]
    _, x, converged = min(fits, key=lambda fit: fit[0])
    _, found, jacobian = parts(x)
    free = (x > low) & (x < high)
    cov = _sandwich(data, found, jacobian, free)
    to_si = units * np.concatenate(
        [np.full(2 * n, rate), np.full(n, rate**2), np.ones((n + 2) * k)]
    )
    shape, area, background = problem.split(x * units)
    keep = (3 + k) * n
    chi2, dof = _misfit(data, found, window, int(free.sum()))
    return LineFit(
        omega=origin + shape[0] * rate,
        gamma=shape[1] * rate,
        sigma_squared=shape[2] * rate**2,
        area=area,
        background=background[0],
        slope=background[1],
        cov=(cov * np.outer(to_si, to_si))[:keep, :keep],
        at_bound=~free[n : 3 * n].reshape(2, n).T,
        frequency=f,
        model=found,
        data=data.mean(axis=0),
        chi2=chi2,
        dof=dof,
        converged=converged,
    )


def _at(function, given, x: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(v) for v in function(jnp.asarray(x), *given)]


def _minimum(parts, mean, x, low, high, steps: int = 100) -> tuple[float, np.ndarray, bool]:
    """Return (loss, unknowns, converged) by scoring: Newton's steps with the expected curvature.

    Damped as Levenberg and Marquardt have it, and kept within bounds.
    """
    damping, x = 1e-3, np.clip(x, low, high)
    loss, s, jacobian = parts(x)
    for _ in range(steps):
        j = (jacobian / s[..., None]).reshape(-1, x.size)
        slope = j.T @ (1 - mean / s).ravel()
        held = ((x <= low) & (slope > 0)) | ((x >= high) & (slope < 0))
        curvature = j[:, ~held].T @ j[:, ~held]
        damped = curvature + damping * np.diag(np.diag(curvature))
        step = np.zeros(x.size)
        step[~held] = -np.linalg.lstsq(damped, slope[~held], rcond=1e-13)[0]
        tried = np.clip(x + step, low, high)
        after = parts(tried)
        if np.isfinite(after[0]) and after[0] <= loss:
            gained, x = float(loss - after[0]), tried
            loss, s, jacobian = after
            damping = max(damping / 5, 1e-9)
            # In units of the loss, whose curvature is that of one periodogram at each bin.
            if gained < 1e-9 and abs(float(slope @ step)) < 1e-8:
                return float(loss), x, True
        elif damping > 1e8:
            return float(loss), x, abs(float(slope @ step)) < 1e-6
        else:
            damping *= 10
    return float(loss), x, False


def _sandwich(data, model, jacobian, free) -> np.ndarray:
    """Return J^-1 K J^-1: J of the loss by its expectation, K from the units' scores.

    Scores of neighbouring units are not independent where windows overlap or a line is narrow.
    """
    j = jacobian[:, :, free] / model[:, :, None]
    flat = j.reshape(-1, j.shape[2])
    information = flat.T @ flat
    scores = ((data - model) / model).reshape(len(data), -1) @ flat
    scores = scores - scores.mean(axis=0)
    n = len(scores)
    k = scores.T @ scores
    cross = scores[:-1].T @ scores[1:]
    both = k + cross + cross.T
    if np.all(np.linalg.eigvalsh(both) > 0):
        k = both
    inverse = np.linalg.pinv(information, hermitian=True)
    out = np.zeros((len(free), len(free)))
    out[np.ix_(free, free)] = inverse @ k @ inverse / (n * (n - 1))
    return out


def _misfit(data, model, window, n_free: int) -> tuple[float, int]:
    """Return chi^2 of the mean spectrum about the model, and degrees of freedom, in whole bins."""
    error = data.std(axis=0, ddof=1) / np.sqrt(len(data))
    z = (data.mean(axis=0) - model) / error
    # A Hann window's bins are correlated: its equivalent bandwidth is 1.5 of them.
    width = len(window) * np.sum(window**2) / np.sum(window) ** 2
    return float(np.sum(z**2) / width), max(round(z.size / width) - n_free, 1)


def find_lines(
    frequency: Float[np.ndarray, "frequencies"],
    density: Float[np.ndarray, "frequencies"],
    *,
    prominence: float = 10.0,
    band: tuple[float, float] | None = None,
    width: int = 201,
) -> Float[np.ndarray, "lines"]:
    """Return the frequencies (Hz) of peaks that stand out of a mean spectrum, lowest first.

    prominence: dB above the median of `width` bins around.  band: searched, Hz; by default all
    but the lowest hundredth, where drifts lie.
    """
    low, high = band if band is not None else (frequency[-1] / 100, frequency[-1])
    floor = scipy.ndimage.median_filter(density, size=min(width, len(density) // 2 * 2 - 1))
    level = 10 * np.log10(np.maximum(density, 1e-300) / np.maximum(floor, 1e-300))
    # Bins that scatter on a line's flank are no lines: a peak must stand out of its surroundings.
    peaks, _ = scipy.signal.find_peaks(level, height=prominence, prominence=prominence)
    found = frequency[peaks]
    return found[(found >= low) & (found <= high)]

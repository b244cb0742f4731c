"""Detector: how the joint displacement D becomes the I and Q of a heterodyne record (S9-S10)."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.physics.params import HBAR, TWO_PI, Leaf, Params, is_concrete
from jaxsde.physics.sequence import Controls

SPEED_OF_LIGHT = 299792458.0  # m/s


def shot_noise_density(lo_power: float, wavelength: float) -> float:
    """Return S_SN = P_LO hbar omega_p (below S10), W^2/Hz, from W and m."""
    return lo_power * HBAR * TWO_PI * SPEED_OF_LIGHT / wavelength


S_SN_KOHLER2018 = shot_noise_density(1e-3, 780e-9)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Detector:
    """Hold what turns D into a record.

    efficiency: total detection efficiency of a cavity photon, in (0, 1].
    sample_interval: s; a sample is the average over its interval, not a point value.
    collection: share of the cavity's output that reaches the detector; 1/2, one of two equal
        mirrors, gives the printed A of S10, 1 gives sqrt(2) times that.
    S_SN: shot-noise density, W^2/Hz: S_SN/2 (two-sided) in each quadrature.
    quadratures: recorded quadratures, of "I" and "Q"; or ("D",), the ideal record D itself.
    """

    efficiency: Leaf = 0.09
    sample_interval: float = dataclasses.field(default=0.5e-6, metadata=dict(static=True))
    collection: Leaf = 0.5
    S_SN: Leaf = S_SN_KOHLER2018
    quadratures: tuple[str, ...] = dataclasses.field(default=("I", "Q"), metadata=dict(static=True))

    @staticmethod
    def ideal(sample_interval: float = 0.5e-6) -> "Detector":
        """Return a detector that adds nothing: its record is D (rad/s), averaged per sample."""
        return Detector(
            efficiency=1.0, sample_interval=sample_interval, S_SN=0.0, quadratures=("D",)
        )

    @property
    def unit(self) -> str:
        """Unit of the record's samples."""
        return "rad/s" if self.quadratures == ("D",) else "W"


def check_detector(detector: Detector) -> None:
    """Raise ValueError for a detector that cannot be; tracers pass unexamined."""
    if detector.quadratures not in (("I", "Q"), ("I",), ("Q",), ("D",)):
        raise ValueError(
            "detector.quadratures: wanted ('I', 'Q'), ('I',), ('Q',) or ('D',), "
            f"got {detector.quadratures!r}"
        )
    dt = detector.sample_interval
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"detector.sample_interval: wanted a positive time in s, got {dt}")
    for name in ("efficiency", "collection"):
        value = getattr(detector, name)
        if is_concrete(value) and not 0 < float(np.asarray(value)) <= 1:
            raise ValueError(f"detector.{name}: wanted a number above 0 and up to 1, got {value}")
    if is_concrete(detector.S_SN):
        s_sn = float(np.asarray(detector.S_SN))
        ideal = detector.quadratures == ("D",)
        if not (math.isfinite(s_sn) and (s_sn == 0 if ideal else s_sn > 0)):
            wanted = "0 for the ideal record D" if ideal else "a positive density in W^2/Hz"
            raise ValueError(f"detector.S_SN: wanted {wanted}, got {s_sn}")


def detection_gain(params: Params, controls: Controls, detector: Detector) -> Leaf:
    """Return A = sqrt(2 collection efficiency S_SN nbar kappa / (kappa^2 + Delta^2)), W/(rad/s)."""
    lorentzian = params.kappa / (params.kappa**2 + controls.delta_pc**2)
    power = 2 * detector.collection * detector.efficiency * detector.S_SN
    return jnp.sqrt(power * controls.nbar * lorentzian)


def quadrature_gains(
    params: Params, controls: Controls, detector: Detector
) -> Float[Array, "quadratures"]:
    """Return the gain from D to each recorded quadrature, A (cos phi_q, sin phi_q) (S10).

    tan phi_q = kappa/Delta (S9), so that at Delta = 0 everything is in Q.  The ideal record has 1.
    """
    if detector.quadratures == ("D",):
        return jnp.ones(1)
    gain = detection_gain(params, controls, detector)
    norm = jnp.sqrt(params.kappa**2 + controls.delta_pc**2)
    parts = {"I": controls.delta_pc / norm, "Q": params.kappa / norm}
    dtype = jnp.result_type(float)
    return jnp.stack([jnp.asarray(gain * parts[q], dtype) for q in detector.quadratures])


def noise_variance(detector: Detector) -> Leaf:
    """Return the shot-noise variance of one sample of one quadrature, S_SN / (2 dt), W^2."""
    return detector.S_SN / (2 * detector.sample_interval)

"""Detector: how the cavity's light becomes a record, by a heterodyne or homodyne receiver.

Two models.  "adiabatic" (S9-S10): the record follows D, with independent shot noise.
"input_output": the record is the cavity's output field sqrt(2 kappa) c - xi_in behind losses; the
vacuum that is reflected drives the atoms too, which correlates back-action and imprecision.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.engine.technical import Technical, check_technical
from jaxsde.physics.model import SIGNALS
from jaxsde.physics.params import HBAR, TWO_PI, Leaf, Params, is_concrete
from jaxsde.physics.sequence import Controls, at_fraction

SPEED_OF_LIGHT = 299792458.0  # m/s
RECEIVERS = (("I", "Q"), ("I",), ("Q",), ("homodyne",), ("D",))


def shot_noise_density(lo_power: float, wavelength: float) -> float:
    """Return S_SN = P_LO hbar omega_p (below S10), W^2/Hz, from W and m."""
    return lo_power * HBAR * TWO_PI * SPEED_OF_LIGHT / wavelength


S_SN_KOHLER2018 = shot_noise_density(1e-3, 780e-9)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Detector:
    """Hold what turns light into a record.

    efficiency: total detection efficiency of a cavity photon, in (0, 1].
    sample_interval: s; a sample is the average over its interval, not a point value.
    collection: share of the cavity's output that reaches the detector; 1/2, one of two equal
        mirrors, gives the printed A of S10, 1 gives sqrt(2) times that.
    S_SN: shot-noise density of the photocurrent, W^2/Hz (two-sided): all of it in a homodyne
        record, S_SN/2 in each quadrature of a heterodyne one.
    quadratures: ("I", "Q"), ("I",) or ("Q",) of a heterodyne receiver, ("homodyne",), or
        ("D",), the ideal record D itself.
    model: "adiabatic" (S9-S10), the record follows D with independent shot noise, or
        "input_output", it is the cavity's output field, whose vacuum drives the atoms too.
    angle: measured by a homodyne receiver, rad: 0 is the amplitude and pi/2 the phase of the
        intracavity mean field.
    technical: imperfections of local oscillator and digitiser; None has none.
    """

    efficiency: Leaf = 0.09
    sample_interval: float = dataclasses.field(default=0.5e-6, metadata=dict(static=True))
    collection: Leaf = 0.5
    S_SN: Leaf = S_SN_KOHLER2018
    quadratures: tuple[str, ...] = dataclasses.field(default=("I", "Q"), metadata=dict(static=True))
    model: str = dataclasses.field(default="adiabatic", metadata=dict(static=True))
    angle: Leaf = math.pi / 2
    technical: Technical | None = None

    @staticmethod
    def ideal(sample_interval: float = 0.5e-6) -> "Detector":
        """Return a detector that adds nothing: its record is D (rad/s), averaged per sample."""
        return Detector(
            efficiency=1.0, sample_interval=sample_interval, S_SN=0.0, quadratures=("D",)
        )

    @staticmethod
    def homodyne(angle: Leaf = math.pi / 2, **fields: Any) -> "Detector":
        """Return a homodyne receiver of the output field at an angle (rad); others of Detector."""
        fields = dict(quadratures=("homodyne",), model="input_output", angle=angle) | fields
        return Detector(**fields)

    @property
    def unit(self) -> str:
        """Unit of the record's samples."""
        return "rad/s" if self.quadratures == ("D",) else "W"


def check_detector(detector: Detector) -> None:
    """Raise ValueError for a detector that cannot be; tracers pass unexamined."""
    if detector.quadratures not in RECEIVERS:
        raise ValueError(
            "detector.quadratures: wanted ('I', 'Q'), ('I',), ('Q',), ('homodyne',) or ('D',), "
            f"got {detector.quadratures!r}"
        )
    if detector.model not in SIGNALS:
        raise ValueError(
            f"detector.model: wanted one of {', '.join(SIGNALS)}, got {detector.model!r}"
        )
    ideal = detector.quadratures == ("D",)
    if ideal and detector.model != "adiabatic":
        raise ValueError(
            "detector.model: wanted 'adiabatic' for the ideal record D, which is no light, got "
            f"{detector.model!r}; record 'I' and 'Q', or 'homodyne'"
        )
    dt = detector.sample_interval
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"detector.sample_interval: wanted a positive time in s, got {dt}")
    for name in ("efficiency", "collection"):
        value = getattr(detector, name)
        if is_concrete(value) and not 0 < float(np.asarray(value)) <= 1:
            raise ValueError(f"detector.{name}: wanted a number above 0 and up to 1, got {value}")
    if is_concrete(detector.angle) and not math.isfinite(float(np.asarray(detector.angle))):
        raise ValueError(f"detector.angle: wanted a finite angle in rad, got {detector.angle}")
    if is_concrete(detector.S_SN):
        s_sn = float(np.asarray(detector.S_SN))
        if not (math.isfinite(s_sn) and (s_sn == 0 if ideal else s_sn > 0)):
            wanted = "0 for the ideal record D" if ideal else "a positive density in W^2/Hz"
            raise ValueError(f"detector.S_SN: wanted {wanted}, got {s_sn}")
    if detector.technical is not None:
        check_technical(detector.technical, detector.quadratures, dt)


def detection_gain(params: Params, controls: Controls, detector: Detector, at: Leaf = 0.0) -> Leaf:
    """Return A = sqrt(2 collection efficiency S_SN nbar kappa / (kappa^2 + Delta^2)), W/(rad/s)."""
    delta = at_fraction(controls.delta_pc, at)
    lorentzian = params.kappa / (params.kappa**2 + delta**2)
    power = 2 * detector.collection * detector.efficiency * detector.S_SN
    return jnp.sqrt(power * at_fraction(controls.nbar, at) * lorentzian)


def quadrature_gains(
    params: Params, controls: Controls, detector: Detector, at: Leaf = 0.0
) -> Float[Array, "quadratures"]:
    """Return the gain from a slow D to each recorded quadrature, A (cos phi_q, sin phi_q) (S10).

    tan phi_q = kappa/Delta (S9), so that at Delta = 0 everything is in Q.  Homodyne at angle
    theta has 2 A cos(theta - phi_q); the ideal record has 1.
    """
    if detector.quadratures == ("D",):
        return jnp.ones(1)
    dtype = jnp.result_type(float)
    gain = detection_gain(params, controls, detector, at)
    delta = at_fraction(controls.delta_pc, at)
    norm = jnp.sqrt(params.kappa**2 + delta**2)
    cos, sin = delta / norm, params.kappa / norm
    along = jnp.cos(detector.angle) * cos + jnp.sin(detector.angle) * sin
    parts = {"I": cos, "Q": sin, "homodyne": 2 * along}
    return jnp.stack([jnp.asarray(gain * parts[q], dtype) for q in detector.quadratures])


def noise_variance(detector: Detector) -> Leaf:
    """Return the shot-noise variance of one sample of one output, W^2.

    S_SN/(2 dt) for a heterodyne quadrature, S_SN/dt for homodyne: what an empty cavity shows.
    """
    share = 1.0 if detector.quadratures == ("homodyne",) else 0.5
    return share * detector.S_SN / detector.sample_interval


def readout(
    params: Params, controls: Controls, detector: Detector, at: Leaf = 0.0
) -> Float[Array, "quadratures signals"]:
    """Return G of y = G s/dt + independent noise, s the signals of the detector's model.

    "adiabatic": the gains of `quadrature_gains`, from D.  "input_output", from (o_AM, o_PM):
    sqrt(eta S_SN) for I and Q, 2 sqrt(eta S_SN) (cos theta, sin theta) for homodyne, with
    eta = collection x efficiency; the same A as S10 where the cavity is fast.
    """
    if detector.model == "adiabatic":
        return quadrature_gains(params, controls, detector, at)[:, None]
    dtype = jnp.result_type(float)
    eta = detector.collection * detector.efficiency
    root = jnp.sqrt(jnp.asarray(eta * detector.S_SN, dtype))
    angle = jnp.asarray(detector.angle, dtype)
    rows = {
        "I": jnp.array([1.0, 0.0]),
        "Q": jnp.array([0.0, 1.0]),
        "homodyne": 2 * jnp.stack([jnp.cos(angle), jnp.sin(angle)]),
    }
    return root * jnp.stack([rows[q] for q in detector.quadratures])


def independent_noise(detector: Detector) -> Float[Array, ""]:
    """Return the variance of a sample's noise beyond what the signals carry, W^2.

    "adiabatic": all of the shot noise.  "input_output": the vacuum that losses admit,
    (1 - eta)/4, and for heterodyne the image band's 1/4, in units of S_SN/dt (times 4 for
    homodyne); the reflected vacuum, eta/4, is in the signals.
    """
    total = noise_variance(detector)
    if detector.model != "adiabatic":
        eta = detector.collection * detector.efficiency
        share = 0.5 if detector.quadratures != ("homodyne",) else 1.0
        total = total * (1 - share * eta)
    return jnp.asarray(total, jnp.result_type(float))

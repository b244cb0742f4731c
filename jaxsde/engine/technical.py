"""Technical layer: errors of a receiver's local oscillator (LO), and its digitiser (ADC).

Both act on whole records of the perfect receiver.  An LO too high in frequency by w(t) turns the
demodulated field a = I - i Q, since light goes as exp(-i omega t), into

    a' = a exp(i phi),    d phi = w dt + sqrt(phase_drift) dW

and a homodyne receiver's angle theta into theta + phi.  White noise keeps its law under both.
"""

import dataclasses
import functools
import math
import operator
import warnings
from itertools import accumulate

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from jaxsde.engine.noise import normals
from jaxsde.physics.params import TWO_PI, Leaf, is_concrete

# A stream of its own beside PROCESS, INITIAL and FREQUENCY (0, 1, 2) of engine.noise.
LO_PHASE = 3
# Samples whose increments come from one counter: one call of the generator makes four normals.
GROUP = 4
# Receivers of both quadratures of the field, which alone can be turned.
TURNED = (("I", "Q"), ("homodyne",))
LO_FIELDS = ("lo_offset", "lo_phase", "phase_drift")
MAX_BITS = 32
# Largest turn of the phase within a sample that passes without a warning, rad.
MAX_TURN = 0.3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Technical:
    """Hold a receiver's technical imperfections; the defaults are none.

    lo_offset: of the LO's frequency from the probe's (or the nominal beat), rad/s.
    lo_phase: constant error of the LO's phase, rad.
    phase_drift: diffusion of the LO's phase, Var phi(t) = phase_drift t, rad^2/s; every shot has
        a random walk of its own, which starts from 0 at its beginning.
    dc_offset: added to the quadratures before the ADC, in the record's unit (W): one number, or
        one for each quadrature.
    adc_range: full scale of the ADC is -adc_range to +adc_range, in the record's unit (W); None
        has no ADC.
    adc_bits: of the ADC; None clips without quantising.
    """

    lo_offset: Leaf = 0.0
    lo_phase: Leaf = 0.0
    phase_drift: Leaf = 0.0
    dc_offset: Leaf = 0.0
    adc_range: Leaf | None = None
    adc_bits: int | None = dataclasses.field(default=None, metadata=dict(static=True))


# --- checks ---------------------------------------------------------------------------------------


def check_technical(
    technical: Technical, quadratures: tuple[str, ...], sample_interval: float
) -> None:
    """Raise ValueError for imperfections that cannot be; tracers pass unexamined.

    quadratures, sample_interval (s): the detector's.
    Warns where lo_offset or phase_drift moves the phase by more than 0.3 rad in a sample, where
    it is taken as constant: a line at nu (rad/s) is then too strong, in amplitude, by a share
    (2 nu + lo_offset) lo_offset sample_interval^2/24.
    """
    _check_leaves(technical, quadratures)
    _check_adc(technical)
    _check_turn(technical, sample_interval)


def _check_leaves(technical: Technical, quadratures: tuple[str, ...]) -> None:
    for name in (*LO_FIELDS, "dc_offset", "adc_range"):
        value = getattr(technical, name)
        if not is_concrete(value) or (name == "adc_range" and value is None):
            continue
        array = np.asarray(value)
        shapes = [(), (len(quadratures),)] if name == "dc_offset" else [()]
        number = array.shape in shapes and array.dtype.kind in "fiu"
        if not (number and np.all(np.isfinite(array))):
            wanted = "a finite number"
            if name == "dc_offset":
                wanted += f", or one for each of the {len(quadratures)} quadratures"
            raise ValueError(f"detector.technical.{name}: wanted {wanted}, got {value}")
        if name == "phase_drift" and not array >= 0:
            raise ValueError(
                "detector.technical.phase_drift: wanted a variance per time, zero or more "
                f"rad^2/s, got {value}"
            )
        if name in LO_FIELDS and array != 0 and quadratures not in TURNED:
            raise ValueError(
                f"detector.technical.{name}: wanted 0 with quadratures {quadratures!r}, since the "
                f"local oscillator mixes two quadratures, got {value}; record ('I', 'Q') or "
                "('homodyne',)"
            )


def _check_adc(technical: Technical) -> None:
    full, bits = technical.adc_range, technical.adc_bits
    if full is not None and is_concrete(full) and not np.asarray(full) > 0:
        raise ValueError(
            "detector.technical.adc_range: wanted a positive full scale in the record's unit, got "
            f"{full}; None has no ADC"
        )
    if bits is None:
        return
    whole = isinstance(bits, (int, np.integer)) and not isinstance(bits, bool)
    if not (whole and 1 <= bits <= MAX_BITS):
        raise ValueError(
            f"detector.technical.adc_bits: wanted an integer from 1 to {MAX_BITS}, got {bits!r}; "
            "None does not quantise"
        )
    if full is None:
        raise ValueError(
            f"detector.technical.adc_range: wanted the full scale of an ADC of {bits} bits, got "
            "None; give adc_range, or leave adc_bits at None"
        )


def _check_turn(technical: Technical, dt: float) -> None:
    turn = 0.0
    if is_concrete(technical.lo_offset):
        offset = float(np.asarray(technical.lo_offset))
        turn = abs(offset) * dt
        if turn / TWO_PI >= 0.5:
            hertz = offset / TWO_PI
            alias = hertz - round(hertz * dt) / dt
            raise ValueError(
                "detector.technical.lo_offset: wanted |lo_offset| sample_interval/(2 pi) below "
                f"1/2, got an offset of {hertz:.6g} Hz, which samples of {dt:g} s would alias to "
                f"{alias:.6g} Hz; take an offset below {0.5 / dt:.6g} Hz, or shorter samples"
            )
    if is_concrete(technical.phase_drift):
        turn = max(turn, math.sqrt(float(np.asarray(technical.phase_drift)) * dt))
    if turn > MAX_TURN:
        # Points at the caller of simulate, through check_detector and check_technical.
        warnings.warn(
            f"the local oscillator's phase moves by {turn:.2g} rad in a sample, where it is taken "
            f"as constant: wanted at most {MAX_TURN} rad; take shorter samples",
            stacklevel=5,
        )


# --- local oscillator -----------------------------------------------------------------------------


def lo_phases(
    seed: UInt32[Array, "2"],
    technical: Technical,
    ids: UInt32[Array, "shots"],
    n_samples: int,
    dt: Leaf,
    dtype: jnp.dtype,
) -> Float[Array, "samples shots"]:
    """Return the LO's phase error at the middle of each sample (rad), not reduced modulo 2 pi.

        phi_k = lo_phase + lo_offset t_k + w_k,    t_k = (k + 1/2) dt
        w_0 ~ N(0, phase_drift dt/2),    w_k - w_(k-1) ~ N(0, phase_drift dt)

    which is the exact law of the walk.  A sample's increment depends on (seed, shot, sample)
    alone, and they are added in the order of samples, so that no shot depends on its block.
    seed: as of `seed_words`.  ids: of the shots.  dt: sample interval, s.
    At phase_drift = 0 the derivative along it, which is infinite, is given as 0.
    float32 holds a phase to 6e-8 of its size.
    """
    sure = _sure_phase(technical, n_samples, dt)
    drift = jnp.asarray(technical.phase_drift, jnp.result_type(float))
    moving = drift > 0
    width = jnp.where(moving, jnp.sqrt(jnp.where(moving, drift, 1.0) * dt), 0.0)
    groups = -(-n_samples // GROUP)
    shares = np.ones((groups, GROUP))
    shares[0, 0] = math.sqrt(0.5)
    widths = (width * shares).astype(dtype)

    def body(walk, inputs):
        group, width = inputs
        z = normals(seed, LO_PHASE, group, ids, GROUP, dtype)
        steps = (width[j] * z[j] for j in range(GROUP))
        walks = list(accumulate(steps, operator.add, initial=walk))[1:]
        return walks[-1], jnp.stack(walks)

    start = jnp.zeros(ids.shape[0], dtype)
    _, walks = jax.lax.scan(body, start, (jnp.arange(groups, dtype=jnp.uint32), widths))
    return sure.astype(dtype)[:, None] + walks.reshape(-1, ids.shape[0])[:n_samples]


def _sure_phase(technical: Technical, n_samples: int, dt: Leaf) -> Float[Array, "samples"]:
    """Return lo_phase + lo_offset t at the samples' middles, in the widest precision."""
    wide = jnp.result_type(float)
    time = jnp.asarray(np.arange(n_samples) + 0.5, wide) * dt
    return jnp.asarray(technical.lo_phase, wide) + jnp.asarray(technical.lo_offset, wide) * time


def rotate(
    record: Float[Array, "samples 2 shots"], phi: Float[Array, "samples shots"]
) -> Float[Array, "samples 2 shots"]:
    """Return the heterodyne record (I, Q) as an LO with phase error phi (rad) gives it.

        I' = I cos phi + Q sin phi,    Q' = -I sin phi + Q cos phi

    that is a' = a exp(i phi) of the field a = I - i Q: phi = w t moves a line of I - i Q,
    exp(2 pi i f t), up by w/(2 pi).
    """
    cos, sin = jnp.cos(phi), jnp.sin(phi)
    i, q = record[:, 0], record[:, 1]
    return jnp.stack([i * cos + q * sin, q * cos - i * sin], axis=1)


def project(
    record: Float[Array, "samples 2 shots"], phi: Float[Array, "samples shots"], angle: Leaf
) -> Float[Array, "samples 1 shots"]:
    """Return the homodyne record cos(theta + phi) y_AM + sin(theta + phi) y_PM.

    record: what homodyne receivers at angles 0 and pi/2 would record, (y_AM, y_PM).
    phi: of the LO, rad.  angle: theta, rad.
    The field is multiplied by exp(i phi), as in `rotate`: y_AM = Re, y_PM = -Im of it.
    """
    turned = phi + jnp.asarray(angle, phi.dtype)
    return (jnp.cos(turned) * record[:, 0] + jnp.sin(turned) * record[:, 1])[:, None]


# --- digitiser ------------------------------------------------------------------------------------


def digitise(
    record: Float[Array, "samples quadratures shots"], technical: Technical
) -> tuple[Float[Array, "samples quadratures shots"], Bool[Array, "samples quadratures shots"]]:
    """Return the record as the ADC gives it, in its own unit, and where it was clipped.

        y = code LSB,   code = round((x + dc_offset)/LSB) kept within -2^(bits-1) ... 2^(bits-1) - 1

    with LSB = 2 adc_range/2^bits: mid-tread and two's complement, the transfer of common bipolar
    ADCs.  Zero is a code, the lowest value is -adc_range and the highest adc_range - LSB (one bit
    has -adc_range and 0).  Clipped is what has no code within LSB/2: an input below
    -adc_range - LSB/2 or above adc_range - LSB/2.  Without adc_bits, y is x + dc_offset kept
    within +-adc_range, and clipped is what lies outside; without adc_range nothing is.

    Codes are constant between their edges, so that the derivative of y along x is 0: fit with
    adc_bits=None.  It is not replaced by 1 (straight-through): that is the derivative of no y.
    float32 holds the first 24 bits of a value, whatever adc_bits.
    """
    dtype = record.dtype
    dc = jnp.broadcast_to(jnp.asarray(technical.dc_offset, dtype), record.shape[1:2])
    x = record + dc[None, :, None]
    if technical.adc_range is None:
        return x, jnp.zeros(x.shape, bool)
    full = jnp.asarray(technical.adc_range, dtype)
    if technical.adc_bits is None:
        return jnp.clip(x, -full, full), jnp.abs(x) > full
    half = 2.0 ** (int(technical.adc_bits) - 1)
    # The highest code, or the float below `half` where that is coarser.
    top = min(half - 1, float(np.nextafter(np.asarray(half, dtype), np.asarray(0, dtype))))
    lsb = full / half
    code = jnp.round(x / lsb)
    return jnp.clip(code, -half, top) * lsb, (code < -half) | (code > top)


# --- both -----------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames=("quadratures",))
def imperfect(
    seed: UInt32[Array, "2"],
    record: Float[Array, "samples whole shots"],
    ids: UInt32[Array, "shots"],
    technical: Technical,
    quadratures: tuple[str, ...],
    angle: Leaf,
    dt: Leaf,
) -> tuple[Float[Array, "samples quadratures shots"], Int[Array, "shots"]]:
    """Return the record of an imperfect receiver, and how many samples of each shot were clipped.

    record: of the perfect one, for homodyne at the two angles 0 and pi/2 (see `project`).
    ids: of the shots.  quadratures, angle (rad): the detector's.  dt: sample interval, s.
    A sample counts once, however many of its quadratures were clipped.
    LO errors have no effect on receivers of one quadrature; `check_technical` refuses them.
    """
    if quadratures in TURNED:
        phi = lo_phases(seed, technical, ids, record.shape[0], dt, record.dtype)
        whole = quadratures != ("homodyne",)
        record = rotate(record, phi) if whole else project(record, phi, angle)
    record, clipped = digitise(record, technical)
    return record, clipped.any(axis=1).sum(axis=0, dtype=jnp.int32)

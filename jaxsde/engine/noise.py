"""Counter-based random numbers: Threefry-2x32 keyed by seed, stream and pair of normals.

The counter is (shot, step).

Threefry is the published generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"
(SC11), doi:10.1145/2063384.2063405.  Thirteen rounds, the fewest that its authors found to pass
BigCrush, have known answers too.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

ROUNDS = 13
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = 0x1BD11BDA

# Streams: one per use, so that no two uses ever share a word.
PROCESS, INITIAL, FREQUENCY = 0, 1, 2


def threefry2x32(
    key: tuple[Array, Array], counter: tuple[Array, Array], rounds: int = ROUNDS
) -> tuple[Array, Array]:
    """Return two random words for two counter words under two key words (all uint32)."""
    k = (*key, jnp.uint32(_PARITY) ^ key[0] ^ key[1])
    x, y = counter[0] + k[0], counter[1] + k[1]
    for r in range(rounds):
        x = x + y
        y = _rotate(y, _ROTATIONS[r % 8]) ^ x
        if r % 4 == 3:
            i = r // 4 + 1
            x, y = x + k[i % 3], y + (k[(i + 1) % 3] + jnp.uint32(i))
    return x, y


def _rotate(x: Array, bits: int) -> Array:
    return (x << jnp.uint32(bits)) | (x >> jnp.uint32(32 - bits))


def seed_words(key: Array) -> UInt32[Array, "2"]:
    """Return the two key words of a JAX random key, whatever its implementation."""
    return jax.random.bits(key, (2,), jnp.uint32)


def pair_keys(seed: UInt32[Array, "2"], stream: int, count: int) -> UInt32[Array, "pairs 2"]:
    """Return the keys of the pairs that hold `count` normals: the words of (stream, pair)."""
    pair = jnp.arange(-(-count // 2), dtype=jnp.uint32)
    return jnp.stack(threefry2x32((seed[0], seed[1]), (jnp.full_like(pair, stream), pair)), axis=-1)


def draw(
    keys: UInt32[Array, "pairs 2"], step: Array, shots: UInt32[Array, "shots"], dtype: jnp.dtype
) -> tuple[Float[Array, "shots"], ...]:
    """Return two standard normals for each key and every (shot, step), by Box and Muller.

    The same words serve both precisions.  A draw never exceeds sqrt(2 ln 2^33) = 6.764.  Each is an
    array of its own, made from the counter alone: what a CPU's compiler does best.
    """
    step = jnp.broadcast_to(jnp.asarray(step).astype(jnp.uint32), shots.shape)
    drawn: list[Array] = []
    for pair in range(keys.shape[0]):
        words = threefry2x32((keys[pair, 0], keys[pair, 1]), (shots, step))
        drawn += _box_muller(*words, dtype)
    return tuple(drawn)


def normals(
    seed: UInt32[Array, "2"],
    stream: int,
    step: Array,
    shots: UInt32[Array, "shots"],
    count: int,
    dtype: jnp.dtype,
) -> Float[Array, "count shots"]:
    """Return standard normals for (seed, stream, step, shot) alone; see `draw`."""
    drawn = jnp.stack(draw(pair_keys(seed, stream, count), step, shots, dtype)[:count])
    # Else a compiler may make every normal anew, with other roundings, for each use of it.
    return jax.lax.optimization_barrier(drawn)


def _box_muller(a: Array, b: Array, dtype: jnp.dtype) -> tuple[Array, Array]:
    """Return z = r (cos, sin)(2 pi b/2^32), r = sqrt(-2 ln u), u = (a + 1/2)/2^32."""
    radius = _radius(a, dtype)
    return radius * _cos(b, dtype), radius * _cos(b - jnp.uint32(1 << 30), dtype)


# The library's log, sqrt, cos and sin cost several times the rest of a step: their care for huge,
# negative and subnormal arguments is not needed here, so short series do.  kernels/normals.h has
# the same ones; bench/normal_coefficients.py finds them.


@dataclasses.dataclass(frozen=True)
class _Series:
    """Minimax polynomials of one precision, and the layout of its numbers.

    log: -2 ln(1 + f)/f on [-1/2, 0].  turn: -sin(2 pi x)/x in x^2 on [-1/4, 1/4].
    """

    as_int: Any
    mantissa_bits: int
    log: tuple[float, ...]
    turn: tuple[float, ...]


_SERIES = {
    "float32": _Series(
        as_int=jnp.int32,
        mantissa_bits=23,
        log=(
            -2.0000000454566362315,
            0.9999857053193650906,
            -0.66740121818659203567,
            0.4856103722883988752,
            -0.53922358787091925785,
            -0.40706887031055166706,
            -2.5153165331569094745,
            -3.3915938490472614345,
            -2.8822000882850341783,
        ),
        turn=(
            -6.2831852737915113022,
            41.341677478382508617,
            -81.602231242492567418,
            76.574992218228086758,
            -39.71091866884859015,
        ),
    ),
    "float64": _Series(
        as_int=jnp.int64,
        mantissa_bits=52,
        log=(
            -1.9999999999999999189,
            1.0000000000001278625,
            -0.66666666663317983382,
            0.50000000347623666145,
            -0.39999980945848721263,
            0.33333970248257110368,
            -0.28557286797129895479,
            0.25220430623395928281,
            -0.19718207863676431994,
            0.41268678935737061702,
            1.1923329252674716102,
            6.9906568174514382886,
            26.008744902695867586,
            77.465020371141342597,
            174.56983539469072205,
            296.74293510158063576,
            366.88792384305527318,
            313.46831763605872568,
            165.83342441090333353,
            41.638161226953927178,
        ),
        turn=(
            -6.2831853071795864753,
            41.341702240399756229,
            -81.605249276073406057,
            76.70585975279849318,
            -42.058693923784989698,
            15.094641620502241702,
            -3.8199270503430578322,
            0.71772357889060631657,
            -0.10085632591696880125,
        ),
    ),
}


def _radius(a: Array, dtype: jnp.dtype) -> Array:
    """Return sqrt(-2 ln u), u = (a + 1/2)/2^32.

    As a signed number a/2^32 is u - 1 from u = 1/2 on, where ln u = ln(1 + f), f = u - 1; below,
    u = m 2^e and f = m - 1, m in [1/2, 1).
    """
    series = _SERIES[jnp.dtype(dtype).name]
    as_int, shift = series.as_int, series.as_int(series.mantissa_bits)
    half = 0.5 if as_int == jnp.int64 else np.float32(0.5)
    half_bits = jax.lax.bitcast_convert_type(jnp.asarray(half, dtype), as_int)
    signed = jax.lax.bitcast_convert_type(a, jnp.int32)
    w = signed.astype(dtype) * 2.0**-32 + 2.0**-33
    bits = jax.lax.bitcast_convert_type(w, as_int)
    high = signed < 0
    mantissa = (bits & ((as_int(1) << shift) - as_int(1))) | half_bits
    m = jax.lax.bitcast_convert_type(mantissa, w.dtype)
    f = jnp.where(high, w, m - 1)
    e = jnp.where(high, as_int(0), (bits - half_bits) >> shift)
    square = f * _horner(f, series.log) + e.astype(dtype) * (-2 * math.log(2))
    return _sqrt(square)


def _sqrt(y: Array) -> Array:
    """Return sqrt(y) of a normal y > 0.

    In float32 by y rsqrt(y): a first guess from the bits of y (to 3.5 %), and a series in
    e = 1 - y guess^2, |e| < 0.0682, which leaves 2.3e-8; a vector unit's own takes far longer.
    """
    if y.dtype == jnp.float64:
        return jnp.sqrt(y)
    bits = jax.lax.bitcast_convert_type(y, jnp.int32)
    guess = jax.lax.bitcast_convert_type(jnp.int32(0x5F374740) - (bits >> jnp.int32(1)), y.dtype)
    near = y * guess
    return near * _horner(
        1 - near * guess,
        (
            1.0000000006493412555,
            0.4999983270711706461,
            0.37499734969957680857,
            0.31393675032666561014,
            0.27499471146208017275,
        ),
    )


def _cos(b: Array, dtype: jnp.dtype) -> Array:
    """Return cos(2 pi b/2^32) = -sin(2 pi x), x = |b/2^32| - 1/4 with b as a signed number.

    At b = -2^31 the absolute value overflows to itself, and the difference to where it belongs.
    """
    signed = jax.lax.bitcast_convert_type(b, jnp.int32)
    folded = jnp.abs(signed) - jnp.int32(1 << 30)
    x = folded.astype(dtype) * 2.0**-32
    return x * _horner(x * x, _SERIES[jnp.dtype(dtype).name].turn)


def _horner(x: Array, coefficients: tuple[float, ...]) -> Array:
    total = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total

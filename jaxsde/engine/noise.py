"""Counter-based random numbers: Threefry-4x32 keyed by (seed, stream), counted by (step, shot).

Threefry is the published generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"
(SC11), doi:10.1145/2063384.2063405.  Twelve rounds pass BigCrush; thirteen are used, the count
for which the authors publish known answers.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

ROUNDS = 13
_ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))
_PARITY = 0x1BD11BDA

# Streams: one per use, so that no two uses ever share a word.
PROCESS, INITIAL, FREQUENCY = 0, 1, 2

Words = tuple[Array, Array, Array, Array]


def threefry4x32(key: Words, counter: Words, rounds: int = ROUNDS) -> Words:
    """Return four random words for four counter words under four key words (all uint32)."""
    k = (*key, jnp.uint32(_PARITY) ^ key[0] ^ key[1] ^ key[2] ^ key[3])
    x0, x1, x2, x3 = (c + s for c, s in zip(counter, k, strict=False))
    for r in range(rounds):
        left, right = _ROTATIONS[r % 8]
        # Even rounds mix (0,1) and (2,3), odd rounds (0,3) and (2,1).
        if r % 2 == 0:
            x0, x2 = x0 + x1, x2 + x3
            x1, x3 = _rotate(x1, left) ^ x0, _rotate(x3, right) ^ x2
        else:
            x0, x2 = x0 + x3, x2 + x1
            x3, x1 = _rotate(x3, left) ^ x0, _rotate(x1, right) ^ x2
        if r % 4 == 3:
            i = r // 4 + 1
            x0, x1, x2, x3 = (x + k[(i + j) % 5] for j, x in enumerate((x0, x1, x2, x3)))
            x3 = x3 + jnp.uint32(i)
    return x0, x1, x2, x3


def _rotate(x: Array, bits: int) -> Array:
    return (x << jnp.uint32(bits)) | (x >> jnp.uint32(32 - bits))


def seed_words(key: Array) -> UInt32[Array, "2"]:
    """Return the two key words of a JAX random key, whatever its implementation."""
    return jax.random.bits(key, (2,), jnp.uint32)


def normals(
    seed: UInt32[Array, "2"],
    stream: int,
    step: Array,
    shots: UInt32[Array, "shots"],
    count: int,
    dtype: jnp.dtype,
) -> Float[Array, "count shots"]:
    """Return standard normals for (seed, stream, step, shot) alone, by Box and Muller's transform.

    The same words serve both precisions.  A draw never exceeds sqrt(2 ln 2^33) = 6.764.
    """
    blocks = -(-count // 4)
    zero = jnp.zeros((blocks, shots.shape[0]), jnp.uint32)
    key = (zero + seed[0], zero + seed[1], zero + jnp.uint32(stream), zero)
    block = jnp.arange(blocks, dtype=jnp.uint32)[:, None]
    step = jnp.asarray(step).astype(jnp.uint32)
    words = jnp.stack(threefry4x32(key, (zero + shots[None], zero + step, zero + block, zero)))
    # Without the barriers XLA's CPU compiler makes every word anew for each normal made of it,
    # and every normal anew for each product it enters.
    words = jax.lax.optimization_barrier(words)
    pairs = jnp.stack(_box_muller(words[0::2], words[1::2], dtype), axis=1)
    draws = pairs.transpose(2, 0, 1, 3).reshape(4 * blocks, -1)[:count]
    return jax.lax.optimization_barrier(draws)


def _box_muller(a: Array, b: Array, dtype: jnp.dtype) -> tuple[Array, Array]:
    """Return z = r (cos, sin)(2 pi b/2^32), r = sqrt(-2 ln u), u = (a + 1/2)/2^32."""
    cos, sin = _cos_sin(b, dtype)
    radius = _radius(a, dtype)
    return radius * cos, radius * sin


# The library's log, sqrt, cos and sin cost several times the rest of a step: their care for huge,
# negative and subnormal arguments is not needed here, so short series do.  kernels/normals.h has
# the same ones; bench/normal_coefficients.py finds them.


@dataclasses.dataclass(frozen=True)
class _Series:
    """Minimax polynomials of one precision, and the layout of its numbers.

    log: -2 ln(1 + f)/f on [-1/2, 0].  cos, sin: cos(2 pi x) and sin(2 pi x)/x, in x^2, on
    [-1/8, 1/8].
    """

    as_int: Any
    mantissa_bits: int
    log: tuple[float, ...]
    cos: tuple[float, ...]
    sin: tuple[float, ...]


_SERIES = {
    "float32": _Series(
        as_int=jnp.int32,
        mantissa_bits=23,
        log=(
            -2.0000000454418707,
            0.99998570222296054,
            -0.66740131620213375,
            0.48560934680747494,
            -0.53922825090536656,
            -0.40707705120842281,
            -2.5153127137650425,
            -3.3915646764985641,
            -2.8821748071417154,
        ),
        cos=(0.99999997242434712, -19.739152227480955, 64.921252793917660, -83.592607682425094),
        sin=(6.2831852868339061, -41.341661455428967, 81.592353621114892, -75.393565006574416),
    ),
    "float64": _Series(
        as_int=jnp.int64,
        mantissa_bits=52,
        log=(
            -1.9999999999999999194,
            1.0000000000001294727,
            -0.66666666663288092885,
            0.50000000349754024976,
            -0.39999980864433324208,
            0.33333972165171999265,
            -0.28557256837898865302,
            0.2522075484334321307,
            -0.19715729433062491162,
            0.41282017459171294756,
            1.192815987663054597,
            6.9916238834032350897,
            26.008296174937712342,
            77.454526725079334635,
            174.53109001983249054,
            296.65953762932061511,
            366.77113863801918819,
            313.36299520198801494,
            165.77751658132721006,
            41.624833725934093926,
        ),
        cos=(
            0.99999999999999995291,
            -19.739208802178421743,
            64.939394022365582786,
            -85.456817090398641353,
            60.244620093000916044,
            -26.424257435906728882,
            7.8102995011910351367,
        ),
        sin=(
            6.2831853071795864561,
            -41.341702240399631477,
            81.605249275944520611,
            -76.705859703318341899,
            42.058684902478219646,
            -15.093797530736733866,
            3.7807267404788247826,
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
            1.0000000006503756,
            0.49999832674497986,
            0.37499734710108060,
            0.31393689991367153,
            0.27499527820489364,
        ),
    )


def _cos_sin(b: Array, dtype: jnp.dtype) -> tuple[Array, Array]:
    """(cos, sin)(2 pi b/2^32): the nearest quarter turn, and series within 1/8 turn of it."""
    series = _SERIES[jnp.dtype(dtype).name]
    turned = b + jnp.uint32(1 << 29)
    rest = b - (turned & jnp.uint32(0xC0000000))
    x = jax.lax.bitcast_convert_type(rest, jnp.int32).astype(dtype) * 2.0**-32
    square = x * x
    cos, sin = _horner(square, series.cos), x * _horner(square, series.sin)
    # Bits 31 and 30 of `turned` number the quarter: odd ones swap, half turns change the sign.
    half, odd = turned >> jnp.uint32(31), (turned >> jnp.uint32(30)) & jnp.uint32(1)
    cos, sin = jnp.where(odd == 1, sin, cos), jnp.where(odd == 1, cos, sin)
    return jnp.where(half != odd, -cos, cos), jnp.where(half == 1, -sin, sin)


def _horner(x: Array, coefficients: tuple[float, ...]) -> Array:
    total = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total

"""Counter-based random numbers: Threefry-4x32 keyed by (seed, stream), counted by (step, shot).

Threefry is the published generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"
(SC11), doi:10.1145/2063384.2063405.  Twelve rounds pass BigCrush; thirteen are used, the count
for which the authors publish known answers.
"""

import math

import jax
import jax.numpy as jnp
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
    scale = 2.0**-32
    u = a.astype(dtype) * scale + scale / 2
    # 1 - u to full precision where u is near 1, so that small radii are right in float32 too.
    deficit = (~a).astype(dtype) * scale + scale / 2
    radius = jnp.sqrt(-2 * _log(u, deficit))
    cos, sin = _cos_sin(b, dtype)
    return radius * cos, radius * sin


# The library's log, cos and sin cost several times the rest of a step on a CPU: their care for
# huge, negative and subnormal arguments is not needed here, so short series do.


def _log(u: Array, deficit: Array) -> Array:
    """Return ln u for 2^-33 <= u <= 1:  u = m 2^e,  ln m = 2 artanh s,  s = (m - 1)/(m + 1).

    deficit: 1 - u, which is 1 - m where e = 0.
    """
    if u.dtype == jnp.float64:
        as_int, mantissa_bits, root_half, terms = jnp.int64, 52, 0x3FE6A09E667F3BCD, 11
    else:
        as_int, mantissa_bits, root_half, terms = jnp.int32, 23, 0x3F3504F3, 5
    bits = jax.lax.bitcast_convert_type(u, as_int)
    # Arithmetic shift of the distance to sqrt(1/2) gives e with m in [sqrt(1/2), sqrt(2)).
    exponent = (bits - as_int(root_half)) >> as_int(mantissa_bits)
    m = jax.lax.bitcast_convert_type(bits - (exponent << as_int(mantissa_bits)), u.dtype)
    s = jnp.where(u > 0.75, -deficit, m - 1) / (m + 1)
    series = _horner(s * s, [1 / (2 * k + 1) for k in range(terms)])
    return exponent.astype(u.dtype) * math.log(2) + 2 * s * series


def _cos_sin(b: Array, dtype: jnp.dtype) -> tuple[Array, Array]:
    """(cos, sin)(2 pi b/2^32): the nearest quarter turn, and Taylor series within pi/4 of it."""
    terms = 10 if dtype == jnp.float64 else 6
    quarter = (b + jnp.uint32(1 << 29)) >> jnp.uint32(30)
    rest = jax.lax.bitcast_convert_type(b - (quarter << jnp.uint32(30)), jnp.int32)
    t = rest.astype(dtype) * (math.pi * 2.0**-31)
    cos = _horner(t * t, [(-1) ** k / math.factorial(2 * k) for k in range(terms)])
    sin = t * _horner(t * t, [(-1) ** k / math.factorial(2 * k + 1) for k in range(terms)])
    swap = (quarter & jnp.uint32(1)) == 1
    cos, sin = jnp.where(swap, sin, cos), jnp.where(swap, cos, sin)
    half = (quarter >> jnp.uint32(1)) & jnp.uint32(1)
    minus_cos = (half ^ (quarter & jnp.uint32(1))) == 1
    return jnp.where(minus_cos, -cos, cos), jnp.where(half == 1, -sin, sin)


def _horner(x: Array, coefficients: list[float]) -> Array:
    total = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total

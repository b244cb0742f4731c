"""Adjoint: densities of shots at the nodes, with a gradient that costs little more than they do.

What automatic reverse mode would do sample by sample through the square-root filter is written out.
With white innovations r and means x of all shots, one product a sample moves them,

    (r, x') = W (x, y),       and backwards   v = (-w r, l'),   l = W_x^T v,   dW = v (x, y)^T,

w the weight of each shot and l the derivative by its mean.  dW is one small matrix for all
shots, so that the derivative through the covariances is theirs alone: with e = T (x, y),
T = (-C, 1), prediction errors of covariance S = C P C^T + R and gain K = F/S, F = A P C^T + U,

    P' = A P A^T + Q - K S K^T,      dS = -1/2 [sum_shots w (S^-1 - S^-1 e e^T S^-1)] + ...

in the covariances' own form.  It is linear in what comes back, and takes P, K and S from the square
roots, so that nothing is lost by squaring.  BLOCK samples are moved by one product, and the means
are kept between blocks only: memory that is touched once costs more than the products.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsde.engine.step import Step
from jaxsde.inference.evidence import Evidence
from jaxsde.inference.kalman import condition, join_nodes, level, split_nodes
from jaxsde.inference.tables import Tables, start_root, step_fields

# Samples that one product moves; its matrices are square, of n + BLOCK k.
BLOCK = 5


def adjoint_densities(
    tables: Tables, basis: Array, which: Array, evidence: Evidence, dt: float
) -> Float[Array, "nodes patterns shots"]:
    """Return log p(y | offsets) of every shot at every node, as `node_densities` does.

    Differentiable in tables, by reverse mode.
    """
    leaves, tree = jax.tree.flatten(tables)
    rest, form = jax.tree.flatten((basis, which, evidence))
    return _densities(tuple(leaves), tuple(rest), tree, form, dt)


# On leaves, since JAX fills trees with what is no array when it checks the rule.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _densities(leaves, rest, tree, form, dt):
    return _forward(jax.tree.unflatten(tree, leaves), *jax.tree.unflatten(form, rest), dt)[0]


def _forward_rule(leaves, rest, tree, form, dt):
    tables = jax.tree.unflatten(tree, leaves)
    made, kept = _forward(tables, *jax.tree.unflatten(form, rest), dt)
    return made, (leaves, rest, kept)


def _backward_rule(tree, form, dt, held, weight):
    leaves, rest, kept = held
    tables = jax.tree.unflatten(tree, leaves)
    made = _backward(tables, *jax.tree.unflatten(form, rest), kept, weight, dt)
    return tuple(jax.tree.leaves(made)), None


_densities.defvjp(_forward_rule, _backward_rule)


@functools.partial(jax.jit, static_argnames=("dt",))
def _forward(tables: Tables, basis: Array, which: Array, evidence: Evidence, dt: float):
    """Return the densities; and what goes back: moves, roots, means at the start of blocks."""
    _, _, patterns, shots = evidence.record.shape
    n = tables.spread.shape[0]

    def chunk(basis):
        nodes = basis.shape[1]
        steps = step_fields(tables, basis, dt)

        def covariances(root, inputs):
            at, seen = inputs
            step = Step(**{name: leaf[at] for name, leaf in steps.items()})
            after, update = condition(step, root, seen)
            return after, (update, level(update, seen), root)

        start = start_root(tables, nodes, patterns)
        _, (updates, levels, roots) = jax.lax.scan(covariances, start, (which, evidence.seen))

        def block(carry, inputs):
            mean, total = carry
            move, y = inputs
            out = move @ _with_record(mean, y)
            size = out.shape[2] - n
            total = total - jnp.sum(out[:, :, :size] ** 2, axis=2) / 2
            return (out[:, :, size:], total), mean

        moves = _composed(_in_blocks(updates.move[..., :-1]), n)
        total = jnp.broadcast_to(jnp.sum(levels, axis=0)[..., None], (nodes, patterns, shots))
        start = jnp.zeros((nodes, patterns, n, shots)), total
        (_, total), means = jax.lax.scan(block, start, (moves, _blocked(evidence.record)))
        return total, (updates.move, roots, means)

    totals, kept = jax.lax.map(chunk, split_nodes(basis))
    return join_nodes(totals, basis.shape[1], 0), kept


def _in_blocks(x: Float[Array, "samples ..."]) -> Float[Array, "blocks block ..."]:
    """Return x in blocks of samples; moves of zero, which fill the last, change no density."""
    count = -(-x.shape[0] // BLOCK)
    padded = jnp.pad(x, ((0, count * BLOCK - x.shape[0]), *[(0, 0)] * (x.ndim - 1)))
    return padded.reshape(count, BLOCK, *x.shape[1:])


def _blocked(record: Float[Array, "samples k patterns shots"]) -> Float[Array, "blocks p bk shots"]:
    """Return all samples of a block side by side."""
    y = jnp.moveaxis(_in_blocks(record), 3, 1)
    return y.reshape(*y.shape[:2], -1, y.shape[-1])


def _composed(
    moves: Float[Array, "blocks block nodes patterns m nk"], n: int
) -> Float[Array, "blocks nodes patterns big big"]:
    """Return what moves (x, y_1 ... y_B) to (r_1 ... r_B, x') at once, for every block."""
    k = moves.shape[-1] - n
    state: Array | None = None
    rows: list[Array] = []
    for t in range(BLOCK):
        move = moves[:, t]
        old = move[..., :n] if state is None else move[..., :n] @ state
        out = jnp.concatenate([old, move[..., n:]], axis=-1)
        rows.append(jnp.pad(out[..., :k, :], (*[(0, 0)] * 4, (0, k * (BLOCK - 1 - t)))))
        state = out[..., k:, :]
    assert state is not None
    return jnp.concatenate([*rows, state], axis=-2)


def _with_record(mean, y):
    """Return (x, y) of every node; y is the same for all of them."""
    return jnp.concatenate([mean, jnp.broadcast_to(y[None], (*mean.shape[:1], *y.shape))], axis=2)


@functools.partial(jax.jit, static_argnames=("dt",))
def _backward(tables, basis, which, evidence: Evidence, kept, weight, dt: float) -> Tables:
    """Return the derivatives by the tables of sum weight log p."""

    def chunk(inputs):
        basis, (move, roots, means), weight = inputs
        slopes = _moves_adjoint(move, means, evidence.record, weight)
        steps, back = jax.vjp(lambda t: step_fields(t, basis, dt), tables)
        d_steps, d_cov = _covariances_adjoint(
            steps, move, roots, slopes, jnp.sum(weight, axis=2), which, evidence.seen
        )
        (made,) = back(d_steps)
        spread = 2 * tables.spread * jnp.einsum("jpaa->a", d_cov)
        return jax.tree.map(jnp.add, made, _only_spread(tables, spread))

    nodes = basis.shape[1]
    parts = split_nodes(basis)
    fill = parts.shape[0] * parts.shape[2] - nodes
    weight = jnp.pad(weight, ((0, fill), (0, 0), (0, 0)))
    weight = weight.reshape(parts.shape[0], parts.shape[2], *weight.shape[1:])
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.lax.map(chunk, (parts, kept, weight)))


def _only_spread(tables: Tables, spread: Array) -> Tables:
    zeros = jax.tree.map(jnp.zeros_like, tables)
    return Tables(
        transitions=zeros.transitions, gains=zeros.gains, noise=zeros.noise, spread=spread
    )


def _moves_adjoint(
    move: Float[Array, "samples nodes patterns m z"],
    means: Float[Array, "blocks nodes patterns n shots"],
    record: Float[Array, "samples k patterns shots"],
    weight: Float[Array, "nodes patterns shots"],
) -> Float[Array, "samples nodes patterns m nk"]:
    """Return the derivatives by every sample's move of (x, y), of sum -weight r^2/2."""
    n = means.shape[3]
    w = -weight[:, :, None]
    moves, back = jax.vjp(lambda m: _composed(_in_blocks(m), n), move[..., :-1])

    def block(later, inputs):
        move, turned, y, mean = inputs
        z = _with_record(mean, y)
        v = jnp.concatenate([w * (move @ z), later], axis=2)
        return turned @ v, v @ _t(z)

    # A product with a small matrix that lies transposed in memory takes three times as long.
    turned = jax.lax.optimization_barrier(_t(moves[..., :n]))
    xs = (moves[..., :-n, :], turned, _blocked(record), means)
    _, slopes = jax.lax.scan(block, jnp.zeros_like(means[0]), xs, reverse=True)
    return back(slopes)[0]


def _covariances_adjoint(steps, move, roots, slopes, count, which, seen):
    """Return the derivatives by the Steps' fields and by the covariance at the start.

    slopes: of the moves.  count: sum of the shots' weights, (nodes, patterns).
    The Steps have no offsets b and d, whose derivatives are left out.
    """
    steps = {name: jnp.moveaxis(x, -1, 1) for name, x in steps.items()}  # distinct, nodes first
    n, k = steps["A"].shape[-1], steps["C"].shape[-2]
    c = steps["C"][which][:, :, None]
    if seen is not None:
        there = jnp.swapaxes(seen, 1, 2)[:, None, :, :, None]
        c = jnp.where(there, c, 0.0)
    whiten, gain, closed = move[..., :k, n : n + k], move[..., k:, n : n + k], move[..., k:, :n]
    # By T, gain and S at fixed P', from the means alone.
    d_e, d_move = _t(whiten) @ slopes[..., :k, :], slopes[..., k:, :]
    d_row = d_e + _t(gain) @ d_move
    eye = jnp.eye(k)[None, None, None]
    own = -(_against(d_e, c) + count[None, ..., None, None] * eye) / 2
    inverse = _t(whiten) @ whiten
    own, half = own @ inverse, _against(d_move, c) @ inverse / 2
    own = (own + _t(own)) / 2
    # P' pulls P along the closed loop A - K C; the rest is what the gain and S bring.
    lower = _t(half) @ closed + own @ c
    bring = _t(closed) @ half @ c + _t(c) @ lower

    def body(after, inputs):
        closed, bring = inputs
        before = _t(closed) @ after @ closed + bring
        return (before + _t(before)) / 2, after

    nodes, patterns = move.shape[1:3]
    start = jnp.zeros((nodes, patterns, n, n))
    first, after = jax.lax.scan(body, start, (closed, bring), reverse=True)
    roots = jnp.moveaxis(roots, (1, 2), (3, 4))
    cov = roots @ _t(roots)
    d_state = 2 * (after @ closed + half @ c) @ cov
    pull = after @ gain
    found = dict(
        A=d_state + d_move[..., :n],
        C=2 * lower @ cov - _t(gain) @ d_state - d_row[..., :n],
        Q=after,
        U=2 * (half - pull),
        R=own + _t(gain) @ (pull - half) - _t(half) @ gain,
    )
    if seen is not None:
        found["C"] = jnp.where(there, found["C"], 0.0)
        found["U"] = jnp.where(_t(there), found["U"], 0.0)
        found["R"] = jnp.where(there & _t(there), found["R"], 0.0)
    distinct = len(steps["A"])
    total = {
        name: jax.ops.segment_sum(jnp.sum(x, axis=2), which, distinct) for name, x in found.items()
    }
    low, noise = steps["L"], steps["N"]
    made = dict(
        A=total["A"],
        C=total["C"],
        L=2 * total["Q"] @ low + total["U"] @ noise,
        N=2 * total["R"] @ noise + _t(total["U"]) @ low,
        b=jnp.zeros_like(steps["b"]),
        d=jnp.zeros_like(steps["d"]),
    )
    return {name: jnp.moveaxis(x, 1, -1) for name, x in made.items()}, first


def _t(x: Array) -> Array:
    """Return the transpose of matrices on the last axes."""
    return jnp.swapaxes(x, -1, -2)


def _against(slope: Float[Array, "... i nk"], c: Float[Array, "... k n"]) -> Array:
    """Return slope T^T of T = (-C, 1)."""
    n = c.shape[-1]
    return slope[..., n:] - slope[..., :n] @ _t(c)

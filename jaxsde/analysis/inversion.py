"""Inversion: from second moments of filters' outputs to those of the state (S16), and their biases.

Two oscillators are given by C, the 4 x 4 symmetrised covariance of X = (Z_m, P_m, Z_s, P_s); of
symmetric matrices the upper triangle is kept, row by row.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.analysis.matched import FilterBank
from jaxsde.engine.covariance import choose_nodes, gauss_hermite, state_at
from jaxsde.engine.detect import Detector, noise_variance
from jaxsde.engine.resolution import Resolution, choose_resolution
from jaxsde.engine.response import filter_covariance, filter_response
from jaxsde.physics.params import Params
from jaxsde.physics.sequence import Sequence

ROWS, COLUMNS = np.triu_indices(4)
RESPONSES = ("exact", "average")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Inversion:
    """Hold what turns second moments of outputs into C:  <q q^T> = mixing C + bias.

    mixing, bias: of upper triangles.  shot: the part of bias that shot noise makes, rad^2.
    response: (4, 4), mean of q for given X, rad (S16).
    """

    mixing: Float[Array, "10 10"]
    bias: Float[Array, "10"]
    shot: Float[Array, "10"]
    response: Float[Array, "4 4"]


def symmetric(upper: Float[Array, "10"]) -> Float[Array, "4 4"]:
    """Return the symmetric matrix of an upper triangle, given row by row."""
    c = jnp.zeros((4, 4), upper.dtype).at[ROWS, COLUMNS].set(upper)
    return c + jnp.triu(c, 1).T


def mixing_matrix(
    h: Float[Array, "nodes 4 4"], weights: Float[Array, "nodes"]
) -> Float[Array, "10 10"]:
    """Return the map from the upper triangle of C to that of E[H C H^T], E over the nodes."""
    # q_i q_j responds to C_kl as E[h_ik h_jl], symmetrised for k != l.
    full = jnp.einsum("n,nik,njl->ijkl", weights, h, h)[ROWS, COLUMNS]
    mixing = full[:, ROWS, COLUMNS] + full[:, COLUMNS, ROWS]
    return mixing * np.where(ROWS == COLUMNS, 0.5, 1.0)[None]


def shot_moments(bank: FilterBank, detector: Detector) -> Float[Array, "10"]:
    """Return the second moments of outputs that look at an empty cavity (upper triangle, rad^2)."""
    w = bank.weights.reshape(bank.weights.shape[0], -1)
    return (w @ w.T * noise_variance(detector))[ROWS, COLUMNS]


def check_bank(bank: FilterBank) -> None:
    """Raise ValueError for a bank that does not have the four filters of one window."""
    count = bank.weights.shape[0]
    if count != 4:
        raise ValueError(f"bank: wanted one window of 4 filters, got {count} filters; windows=1")


def invert(
    params: Params,
    sequence: Sequence,
    detector: Detector,
    bank: FilterBank,
    *,
    responses: str = "exact",
    resolution: Resolution | None = None,
    nodes: tuple[int, int] | None = None,
) -> Inversion:
    """Return the Inversion of a bank of four filters, from theory with params and sequence.

    With H the response of q to X and N the noise added later, for given frequencies,
        <q q^T> = E[H P H^T] + E[N],     E over jitter by Gauss-Hermite quadrature.
    responses: "exact" averages products: E[H_ik H_jl] is inverted, and the covariance over jitter
        of P with H (the pulse's phases depend on the same frequencies as the ringdown's) is part
        of the bias.  "average" is the paper's (below S15): products of average responses,
        E[H_ik] E[H_jl], which is biased by jitter.
    Raises ValueError for another word, or a bank of several windows.
    """
    if responses not in RESPONSES:
        raise ValueError(f"responses: wanted one of {', '.join(RESPONSES)}, got {responses!r}")
    check_bank(bank)
    resolution = choose_resolution(params, sequence) if resolution is None else resolution
    nodes = choose_nodes(params, sequence) if nodes is None else nodes
    z, w = gauss_hermite(nodes)
    h, noise = filter_response(params, sequence, detector, bank.weights, bank.stage, z, resolution)
    p = state_at(params, sequence, bank.stage, z, resolution)
    mean = jnp.einsum("k,kij->ij", w, p)
    average = jnp.einsum("k,kij->ij", w, h)
    if responses == "average":
        # The cavity's own fluctuations are no part of C.
        rest = mean.at[:4, :4].set(0.0)
        bias = average @ rest @ average.T + jnp.einsum("k,kij->ij", w, noise)
        mixing = mixing_matrix(average[None, :, :4], jnp.ones(1))
    else:
        beyond = p.at[:, :4, :4].add(-mean[:4, :4])
        bias = jnp.einsum("k,kij->ij", w, h @ beyond @ jnp.swapaxes(h, 1, 2) + noise)
        mixing = mixing_matrix(h[:, :, :4], w)
    return Inversion(
        mixing=mixing,
        bias=bias[ROWS, COLUMNS],
        shot=shot_moments(bank, detector),
        response=average[:, :4],
    )


def noise_budget(
    params: Params,
    sequence: Sequence,
    detector: Detector,
    bank: FilterBank,
    *,
    resolution: Resolution | None = None,
    nodes: tuple[int, int] | None = None,
) -> dict[str, Float[Array, "filters filters"]]:
    """Return {source: covariance of the outputs} of what is added after the stage begins, rad^2.

    "thermal": bath of the motion.  "diffusion": B_s.  "shot": what an empty cavity shows.
    "backaction": the light's, common to both oscillators, with what it shares with the record.
    Covariances are linear in every diffusion, so that each is a difference of two.
    """
    resolution = choose_resolution(params, sequence) if resolution is None else resolution
    nodes = choose_nodes(params, sequence) if nodes is None else nodes
    z, w = gauss_hermite(nodes)

    def noise(**controls):
        stages = tuple(
            dataclasses.replace(s, controls=dataclasses.replace(s.controls, **controls))
            for s in sequence.stages
        )
        quiet = dataclasses.replace(sequence, stages=stages)
        made = filter_response(params, quiet, detector, bank.weights, bank.stage, z, resolution)[1]
        return jnp.einsum("k,kij->ij", w, made)

    whole = noise()
    # n_bath = -1/2 has neither thermal nor vacuum noise.
    thermal, diffusion = whole - noise(n_bath=-0.5), whole - noise(B_s=0.0)
    flat = bank.weights.reshape(bank.weights.shape[0], -1)
    shot = flat @ flat.T * noise_variance(detector)
    light = whole - thermal - diffusion - shot
    return dict(thermal=thermal, diffusion=diffusion, backaction=light, shot=shot)


def sampling_covariance(
    params: Params,
    sequence: Sequence,
    detector: Detector,
    bank: FilterBank,
    *,
    resolution: Resolution | None = None,
    nodes: tuple[int, int] | None = None,
) -> Float[Array, "10 10"]:
    """Return the covariance of one shot's products q_i q_j, upper triangle (rad^4).

    Given its frequencies a shot is Gaussian (Isserlis): with S the covariance of q,
        E[q_i q_j q_k q_l] = E[S_ij S_kl + S_ik S_jl + S_il S_jk],  E over jitter.
    """
    check_bank(bank)
    resolution = choose_resolution(params, sequence) if resolution is None else resolution
    nodes = choose_nodes(params, sequence) if nodes is None else nodes
    z, w = gauss_hermite(nodes)
    s = filter_covariance(params, sequence, detector, bank.weights, bank.stage, z, resolution)
    i, j, k, m = ROWS[:, None], COLUMNS[:, None], ROWS[None], COLUMNS[None]
    fourth = s[:, i, j] * s[:, k, m] + s[:, i, k] * s[:, j, m] + s[:, i, m] * s[:, j, k]
    mean = jnp.einsum("k,kij->ij", w, s)[ROWS, COLUMNS]
    return jnp.einsum("n,nab->ab", w, fourth) - mean[:, None] * mean[None]

"""Posterior: sample all free parameters by the No-U-Turn Sampler, where a parabola is not enough.

The density of the free parameters' values theta, given records y, is

    p(theta | y) = p(y | theta) p(theta),    p(theta) of the priors, and flat where there is none,

with the likelihood that `calibrate` maximises, at the quadrature nodes that it chose.  The sampler
(Hoffman and Gelman, J. Mach. Learn. Res. 15, 1593 (2014); that of NumPyro) moves on the scales
u = u_fit + L z, L L^T the covariance of the fit, on which the posterior is near a unit Gaussian;
p(z) has the Jacobian |d theta/d u|.

This module needs the extra "inference"; `import jaxsde` does not import it.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS

from jaxsde.analysis.systematics import LEVEL
from jaxsde.inference.calibrate import Calibration
from jaxsde.inference.likelihood import log_likelihood
from jaxsde.inference.point import nodes_of
from jaxsde.inference.problem import Problem, model_at, prior_loss
from jaxsde.inference.transform import LogNormal, value_of, values_of
from jaxsde.inference.uncertainty import problem_of

# Beyond these a chain has not converged (Vehtari et al., Bayesian Anal. 16, 667 (2021)).
RHAT, SAMPLES_OF_CHAIN = 1.01, 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Posterior:
    """Hold samples of the posterior of a calibration's free parameters, SI units.

    samples: (chains, samples, free).  lower, upper: central 68 % intervals.
    rhat: split Gelman-Rubin factor, near 1 when chains agree.  ess: effective sample sizes.
    divergences: of trajectories, 0 unless the sampler left a region out.
    converged, reason: whether all of these allow to trust the intervals, and if not, why.
    """

    free: tuple[str, ...]
    samples: np.ndarray
    mean: np.ndarray
    stdev: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    rhat: np.ndarray
    ess: np.ndarray
    divergences: int
    converged: bool
    reason: str


def log_posterior(fit: Calibration) -> Callable[[Float[Array, "free"]], Float[Array, ""]]:
    """Return u -> log p(u | y) on the unconstrained scales, up to a constant; pure, differentiable.

    Raises ValueError for a calibration by another objective than "likelihood".
    """
    problem, at = problem_of(fit)
    nodes = [nodes_of(problem, at, data, fit.level) for data in range(len(problem.models))]

    def density(u: Float[Array, "free"]) -> Float[Array, ""]:
        total = _log_jacobian(problem, u) - prior_loss(problem, u)
        for data, record in enumerate(problem.records):
            model = model_at(problem, u, data)
            total = total + log_likelihood(
                model.params,
                record,
                sequence=model.sequence,
                detector=model.detector,
                nodes=nodes[data],
                resolution=problem.resolutions[data],
            )
        return total

    return density


def _log_jacobian(problem: Problem, u: Float[Array, "free"]) -> Float[Array, ""]:
    """Return log |d theta/d u|; of log theta where the prior is a density of that."""
    total = jnp.zeros(())
    for i, free in enumerate(problem.frees):
        slope = jax.grad(lambda at, free=free: jnp.asarray(value_of(free, at), float))(u[i])
        if isinstance(problem.priors.get(free.field), LogNormal):
            slope = slope / value_of(free, u[i])
        total = total + jnp.log(jnp.abs(slope))
    return total


def sample_posterior(
    fit: Calibration,
    key: Array,
    *,
    n_samples: int = 1000,
    n_warmup: int = 300,
    chains: int = 2,
    target_accept: float = 0.9,
    progress: bool = False,
) -> Posterior:
    """Return samples of the posterior by NUTS, begun at the fit; see the module.

    key: JAX random key.  n_samples, n_warmup: of each chain.  chains: one after another, each from
    a place of its own within the fit's errors.  progress: show a bar.
    Takes some 10 gradients of the likelihood a sample: of 200 shots x 1,000 samples a minute for
    some tens of samples on two cores.
    Raises ValueError for counts that cannot be, for a calibration by another objective than
    "likelihood", that did not converge, or that has parameters at the edge of their range.
    """
    for name, value, least in (
        ("n_samples", n_samples, 4),
        ("n_warmup", n_warmup, 1),
        ("chains", chains, 1),
    ):
        if value < least:
            raise ValueError(f"{name}: wanted {least} or more, got {value}")
    problem, at = problem_of(fit)
    if not fit.converged or fit.at_edge:
        why = fit.reason or f"{', '.join(fit.at_edge)} at the edge of the range"
        raise ValueError(
            f"fit: wanted a converged calibration inside its range, to start from, got: {why}; "
            "free fewer parameters or add priors"
        )
    density, root = log_posterior(fit), jnp.linalg.cholesky(jnp.asarray(fit.covariance))
    best = density(jnp.asarray(at))

    def potential(z: Float[Array, "free"]) -> Float[Array, ""]:
        return best - density(at + root @ z)

    begin, run = jax.random.split(key)
    start = jax.random.normal(begin, (chains, len(at)))
    sampler = MCMC(
        NUTS(potential_fn=potential, target_accept_prob=target_accept),
        num_warmup=n_warmup,
        num_samples=n_samples,
        num_chains=chains,
        chain_method="sequential",
        progress_bar=progress,
    )
    sampler.run(run, init_params=start[0] if chains == 1 else start, extra_fields=("diverging",))
    z = sampler.get_samples(group_by_chain=True)
    u = at + jnp.asarray(z) @ root.T
    samples = np.asarray(jax.vmap(jax.vmap(lambda u: values_of(problem.frees, u)))(u))
    return _summary(fit.free, samples, int(np.sum(sampler.get_extra_fields()["diverging"])))


def _summary(free: tuple[str, ...], samples: np.ndarray, divergences: int) -> Posterior:
    """Return the Posterior of samples (chains, samples, free)."""
    rhat, ess = (np.asarray(f(samples)) for f in (split_gelman_rubin, effective_sample_size))
    flat = samples.reshape(-1, len(free))
    lower, upper = np.quantile(flat, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    reasons = []
    if divergences:
        reasons.append(f"{divergences} trajectories diverged")
    if (rhat > RHAT).any():
        reasons.append(f"chains differ: R-hat {rhat.max():.3f} of {free[int(rhat.argmax())]}")
    if (ess < SAMPLES_OF_CHAIN * len(samples)).any():
        reasons.append(f"{ess.min():.0f} effective samples of {free[int(ess.argmin())]}")
    return Posterior(
        free=free,
        samples=samples,
        mean=flat.mean(axis=0),
        stdev=flat.std(axis=0, ddof=1),
        lower=lower,
        upper=upper,
        rhat=rhat,
        ess=ess,
        divergences=divergences,
        converged=not reasons,
        reason="; ".join(reasons) + ("; take more samples" if reasons else ""),
    )

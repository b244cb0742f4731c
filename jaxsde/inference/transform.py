"""Free parameters on unconstrained scales: value = start exp(u), so that signs and zeros stay."""

import dataclasses
from collections.abc import Sequence as Series

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsde.physics.params import Params


def check_free(params: Params, free: Series[str]) -> tuple[str, ...]:
    """Return the names of the free parameters, checked.

    Raises ValueError for an unknown, doubled or discrete name, none at all, or a start at zero.
    """
    known = [f.name for f in dataclasses.fields(Params) if f.name != "epsilon"]
    names = tuple(free)
    if not names:
        raise ValueError(f"free: wanted at least one of {', '.join(known)}, got none")
    for name in names:
        if name not in known:
            raise ValueError(f"free: wanted names out of {', '.join(known)}, got {name!r}")
        if names.count(name) > 1:
            raise ValueError(f"free: wanted each name once, got {name!r} {names.count(name)} times")
        if float(np.asarray(getattr(params, name))) == 0:
            raise ValueError(
                f"free: {name} starts at 0, where its scale and sign are unknown; start it at a "
                "guess of the right sign and order of magnitude"
            )
    return names


def with_free(params: Params, free: tuple[str, ...], u: Float[Array, "free"]) -> Params:
    """Return params with each free field times exp(u)."""
    factors = jnp.exp(u)
    return dataclasses.replace(
        params, **{name: getattr(params, name) * factors[i] for i, name in enumerate(free)}
    )

"""Outputs: what leaves an engine's loop, and what is asked to."""

import dataclasses

import jax
from jaxtyping import Array, Float, Int

# Shots whose sums are made by one thread, in the order of their indices.
GROUP = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """Say what is to leave the loop; what is not asked for is never stored.

    record: of every sample.  states: at the ends of the stages.
    displacement: sums over shots of D^2 and D^4 at the end of every sample.
    moments: those, and sums of the products of every two components of x.
    """

    record: bool = True
    states: bool = True
    displacement: bool = False
    moments: bool = False

    def features(self, n: int) -> int:
        """Return how many sums there are at every sample, for n states."""
        if self.moments:
            return 2 + n * (n + 1) // 2
        return 2 if self.displacement else 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Outputs:
    """Hold what left the loop; what was not asked for has no elements.

    record: (shots, samples, quadratures), W, or rad/s for the ideal detector.
    filters: (shots, filters), sum_t weights_t y_t.
    states: (shots, stages, n), x at the end of each stage.
    sums: (groups, samples, features), over groups of GROUP shots, at the end of every sample: D^2
        and D^4 with D in rad/s, then x_i x_j, j <= i, row by row.
    clipped: samples of each shot that left the digitiser's range.
    """

    record: Float[Array, "_ _ _"]
    filters: Float[Array, "_ _"]
    states: Float[Array, "_ _ _"]
    sums: Float[Array, "_ _ _"]
    clipped: Int[Array, "shots"]

"""Pulse: when it starts, and the gain that theory gives it."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxsde.lab.spec import Experiment, build_sequence
from jaxsde.physics.sequence import Controls, Sequence
from jaxsde.physics.theory import instability_gain

# Instants at which the gain of a pulse that ramps is averaged.
RAMP_PARTS = 32


def pulse_start(experiment: Experiment, sequence: Sequence) -> float:
    """Return when the pulse starts, s."""
    return sequence.span(str(experiment.analysis.pulse)).start * sequence.sample_interval


def pulse_controls(experiment: Experiment, sequence: Sequence) -> Controls:
    """Return the controls of the pulse in a sequence of the experiment."""
    return next(s for s in sequence.stages if s.name == experiment.analysis.pulse).controls


def pulse_gain(experiment: Experiment, delta: np.ndarray) -> np.ndarray:
    """Return the steady-state gain of the pulse (1/s) at each delta (rad/s).

    Its mean over the pulse where something ramps: what slow growth adds up, over t_c.
    A delta of NaN stands for the trap frequency that the file gives the pulse.
    """

    def one(d):
        controls = pulse_controls(experiment, build_sequence(experiment, delta=d))
        parts = RAMP_PARTS if controls.is_ramp else 1
        at = jnp.asarray((np.arange(parts) + 0.5) / parts)
        gains = jax.vmap(lambda at: instability_gain(experiment.params, controls, at))(at)
        return jnp.mean(gains)

    if np.isnan(delta).any():
        return np.full(delta.shape, float(one(None)))
    return np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(delta)))

"""Strict settings for every test; they must be in force before jaxsde is first imported."""

import jax
import jaxtyping
import matplotlib

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
matplotlib.use("Agg")
# The numeric tower lets an int stand for a float, as PEP 484 and pyright do.
jaxtyping.install_import_hook(
    "jaxsde", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)

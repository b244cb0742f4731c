"""Setup: how the command line, and every worker of a cluster, sets JAX up."""

import os
from pathlib import Path

import jax


def configure() -> None:
    """Switch on float64 and the cache of compiled programs."""
    jax.config.update("jax_enable_x64", True)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(base) / "jaxsde" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

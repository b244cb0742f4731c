"""How the command line and every worker set JAX up."""

import jax

from jaxsde.lab.setup import configure


def test_float64_and_a_cache_that_the_environment_may_move(monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr(jax.config, "update", given.__setitem__)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    configure()
    assert given["jax_enable_x64"] is True
    assert given["jax_compilation_cache_dir"] == str(tmp_path / "jaxsde" / "xla")
    given.clear()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    configure()
    assert given == {"jax_enable_x64": True}

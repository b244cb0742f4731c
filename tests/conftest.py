"""Strict settings for every test; they must be in force before jaxsde is first imported."""

import collections
import pathlib

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

# Every compiled program maps pages of its own, and Linux gives a process 65,530 mappings: without
# a limit the suite would compile until the compiler's next mapping fails, and with it the process.
MAPPINGS = 20_000


def pytest_collection_modifyitems(items):
    """Begin with the files of most slow tests: workers that take files in turn end together."""
    slow = collections.Counter(i.path for i in items if i.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])  # stable: within a file as written


def pytest_runtest_teardown(item, nextitem):
    """Forget the compiled programs between two files once they hold many mappings."""
    if nextitem is not None and nextitem.path == item.path:
        return
    try:
        with pathlib.Path("/proc/self/maps").open("rb") as lines:
            held = sum(1 for _ in lines)
    except OSError:
        return  # no such limit here
    if held > MAPPINGS:
        jax.clear_caches()

"""Floors of the package: imports go down only, without cycles, and each floor has its libraries."""

import ast
import functools
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "jaxsde"
FLOORS = ("physics", "engine", "analysis", "inference", "lab")
BELOW_LAB = {"jax", "numpy", "scipy", "optax", "jaxtyping"}
# Modules that nothing imports, each with the library of its extra.
EXTRA = {"jaxsde.inference.posterior": "numpyro"}
LAB_ONLY = ("pydantic", "zarr", "xarray", "matplotlib", "typer", "rich", "pint", "h5py")


def modules_of(package):
    """Return {dotted module name: path} of every Python file of a package."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(module, path, modules):
    """Return [(imported module, line, inside a function)] of a file, relative ones resolved."""
    found = []

    def visit(node, inside):
        for child in ast.iter_child_nodes(node):
            within = inside or isinstance(
                child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
            )
            if isinstance(child, ast.Import):
                found.extend((alias.name, child.lineno, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    depth = child.level - (path.name == "__init__.py")
                    parent = module.split(".")
                    base = ".".join([*parent[: len(parent) - depth], *filter(None, [base])])
                for alias in child.names:
                    name = f"{base}.{alias.name}"
                    found.append((name if name in modules else base, child.lineno, inside))
            visit(child, within)

    visit(parse(path), False)
    return found


def floor(module):
    """Return the number of a module's floor; None for the package's own root files."""
    parts = module.split(".")
    return FLOORS.index(parts[1]) if len(parts) > 1 and parts[1] in FLOORS else None


def internal(name, package="jaxsde"):
    return name == package or name.startswith(package + ".")


def upward_imports(modules):
    bad = []
    for module, path in modules.items():
        here = floor(module)
        for name, line, _ in imports(module, path, modules) if here is not None else ():
            if internal(name) and (floor(name) is None or floor(name) > here):
                bad.append(f"{module}:{line} imports {name}")
    return bad


def lazy_imports(modules):
    return [
        f"{module}:{line} imports {name} inside a function"
        for module, path in modules.items()
        for name, line, inside in imports(module, path, modules)
        if inside and internal(name)
    ]


def foreign_imports(modules):
    """Return imports below the lab floor from outside its libraries, and private ones anywhere."""
    bad = []
    for module, path in modules.items():
        low = floor(module) is None or FLOORS[floor(module)] != "lab"
        for name, line, _ in imports(module, path, modules):
            top = name.split(".")[0]
            known = internal(name) or top in sys.stdlib_module_names or top in BELOW_LAB
            known = known or EXTRA.get(module) == top
            if low and not known and path.name != "__main__.py":
                bad.append(f"{module}:{line} imports {name}")
        for node in ast.walk(parse(path)):
            private = isinstance(node, ast.Attribute) and node.attr == "_src"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", None) or "", *(a.name for a in node.names)]
                private = any("_src" in name.split(".") for name in names)
            if private:
                bad.append(f"{module}:{node.lineno} reaches into jax._src")
    return bad


def cycle(modules):
    """Return the modules of one import cycle, empty if there is none."""
    graph = {
        module: {name for name, *_ in imports(module, path, modules) if name in modules}
        for module, path in modules.items()
    }
    done = set()

    def walk(module, trail):
        if module in trail:
            return trail[trail.index(module) :]
        if module in done:
            return []
        for name in sorted(graph[module] - {module}):
            if found := walk(name, [*trail, module]):
                return found
        done.add(module)
        return []

    return next((found for module in graph if (found := walk(module, []))), [])


@pytest.fixture(scope="module")
def modules():
    found = modules_of(PACKAGE)
    assert "jaxsde.physics.model" in found
    return found


def test_floors_import_downward_only(modules):
    assert upward_imports(modules) == []


def test_no_import_cycle(modules):
    assert cycle(modules) == []


def test_no_internal_import_inside_a_function(modules):
    assert lazy_imports(modules) == []


def test_third_party_libraries_and_no_private_jax(modules):
    assert foreign_imports(modules) == []
    used = {name for module, path in modules.items() for name, *_ in imports(module, path, modules)}
    assert not used & set(EXTRA)


def test_the_root_does_not_reach_the_lab(modules):
    root = imports("jaxsde", modules["jaxsde"], modules) if "jaxsde" in modules else None
    assert root, "jaxsde/__init__.py imports nothing"
    assert [name for name, *_ in root if name.startswith("jaxsde.lab")] == []


def test_oracles_import_nothing_of_the_package():
    path = ROOT / "tests" / "oracles.py"
    names = {name.split(".")[0] for name, *_ in imports("oracles", path, {})}
    assert names <= {"math", "numpy", "scipy"}


@pytest.mark.parametrize(
    "file, text, check",
    [
        ("physics/bad.py", "from jaxsde.engine import step", upward_imports),
        ("physics/bad.py", "from ..engine import step", upward_imports),
        ("engine/bad.py", "import jaxsde", upward_imports),
        ("analysis/bad.py", "def f():\n    import jaxsde.lab.cli", upward_imports),
        ("lab/bad.py", "def f():\n    from jaxsde.engine import step", lazy_imports),
        ("inference/bad.py", "import matplotlib.pyplot", foreign_imports),
        ("lab/bad.py", "from jax._src import core", foreign_imports),
        ("lab/bad.py", "from jax import _src", foreign_imports),
        ("lab/bad.py", "import jax\njax._src.core", foreign_imports),
        ("engine/step.py", "from jaxsde.engine.bad import f", None),
    ],
)
def test_the_checks_find_what_they_look_for(tmp_path, file, text, check):
    files = {f"{name}/__init__.py": "" for name in FLOORS}
    files |= {"__init__.py": "", "engine/step.py": "", file: text}
    if check is None:
        files["engine/bad.py"] = "from .step import g"
    for name, content in files.items():
        target = tmp_path / "jaxsde" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    found = modules_of(tmp_path / "jaxsde")
    if check is None:
        assert set(cycle(found)) == {"jaxsde.engine.step", "jaxsde.engine.bad"}
    else:
        assert len(check(found)) == 1


def test_importing_jaxsde_is_light_and_configures_nothing():
    code = (
        "import json, sys, jaxsde, jax\n"
        f"heavy = [name for name in {LAB_ONLY!r} if name in sys.modules]\n"
        "print(json.dumps([heavy, jax.config.jax_enable_x64, hasattr(jaxsde, 'simulate')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    heavy, x64, whole = json.loads(done.stdout.splitlines()[-1])
    assert (heavy, x64, whole) == ([], False, True)

"""Native: build the kernels at first use against the JAX that runs, keep them, and register them.

A build is kept under a key of the sources, jaxlib's version, the compiler and what it says of this
machine's processor, so that a folder shared by several machines serves each its own.  Two processes
may build at once: each builds aside, and the last to finish is kept.  Nothing runs at import.
"""

import ctypes
import dataclasses
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence as Series
from importlib import metadata
from pathlib import Path

import jax

SOURCES = ("normals.h", "lanes.h", "shot.h", "interface.h")
LAUNCHERS = {"cpu": "cpu.cc", "cuda": "cuda.cu"}
SYMBOLS = {"cpu": ("advance_f32", "advance_f64"), "cuda": ("advance_f32",)}

# Contraction into fused products is asked for, so that every compiler makes the same ones; nothing
# that would reorder a sum is.
CPU_FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-shared",
)
CUDA_FLAGS = (
    "-std=c++17",
    "-O3",
    "--expt-relaxed-constexpr",
    "-gencode=arch=compute_80,code=sm_80",
    "-gencode=arch=compute_90,code=sm_90",
    "-gencode=arch=compute_90,code=compute_90",
    "-Xcompiler=-fPIC",
    "-shared",
)
# A compiler that takes longer than this is stuck.
TIMEOUT = 600  # s


@dataclasses.dataclass(frozen=True, kw_only=True)
class Build:
    """Hold what came of building a kernel.

    library: the file, or None.  targets: names by which jax.ffi calls its functions.
    compiler, flags: that made it.  cached: found, not built.  message: why there is none, or
    what a user should know of it.
    """

    platform: str
    library: Path | None = None
    targets: dict[str, str] = dataclasses.field(default_factory=dict)
    compiler: str = ""
    flags: tuple[str, ...] = ()
    cached: bool = False
    message: str = ""

    @property
    def ready(self) -> bool:
        """Tell whether it can be called."""
        return self.library is not None


def source_folder() -> Path:
    """Return where the sources are: in an installed package, or beside it in a checkout.

    Raises FileNotFoundError where they are in neither.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "kernels", package.parent / "kernels"):
        if (folder / SOURCES[0]).is_file():
            return folder
    raise FileNotFoundError(
        f"kernels: wanted {SOURCES[0]} in {package / 'kernels'} or {package.parent / 'kernels'}; "
        "install jaxsde again"
    )


def cache_folder() -> Path:
    """Return where builds are kept: JAXSDE_CACHE_DIR, or jaxsde/kernels in the user's cache."""
    own = os.environ.get("JAXSDE_CACHE_DIR")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxsde" / "kernels"


def compilers(kind: str) -> tuple[str, ...]:
    """Return the compilers to try in turn, "cpu" or "cuda": the user's own choice alone, if any."""
    if kind == "cuda":
        own, names = os.environ.get("NVCC"), ("nvcc",)
    else:
        own, names = os.environ.get("CXX"), ("g++", "clang++", "c++")
    found = [shutil.which(name) for name in ((own,) if own else names)]
    return tuple(dict.fromkeys(path for path in found if path is not None))


@functools.cache
def kernel(kind: str, states: int = 6) -> Build:
    """Return the kernel for a kind of device, built and registered if need be.

    kind: "cpu" or "cuda".  states: of the systems it is to move.
    """
    try:
        folder = source_folder()
    except FileNotFoundError as error:
        return Build(platform=kind, message=str(error))
    tried = compilers(kind)
    if not tried:
        wanted = "nvcc" if kind == "cuda" else "g++ or clang++"
        return Build(
            platform=kind, message=f"no compiler: install {wanted}, or name one with "
            f"{'NVCC' if kind == 'cuda' else 'CXX'}",
        )  # fmt: skip
    messages = []
    for compiler in tried:
        made = _with_compiler(kind, states, folder, compiler)
        if made.ready:
            return made
        messages.append(made.message)
    return Build(platform=kind, message="\n".join(messages))


def _with_compiler(kind: str, states: int, folder: Path, compiler: str) -> Build:
    flags = (*(CUDA_FLAGS if kind == "cuda" else CPU_FLAGS), f"-DJAXSDE_N={states}")
    flags = (*flags, *os.environ.get("JAXSDE_FLAGS", "").split())
    sources = [folder / name for name in (*SOURCES, LAUNCHERS[kind])]
    outcome = functools.partial(Build, platform=kind, compiler=compiler, flags=flags)
    try:
        name = f"{kind}-{_key(compiler, flags, sources)}.so"
    except (OSError, subprocess.SubprocessError) as error:
        return outcome(message=f"{compiler}: {error}")
    note, kept = "", cache_folder() / name
    if not kept.is_file():
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=kept.parent):
                pass
        except OSError as error:
            # The folder lasts as long as the process: the next one builds again.
            note = (
                f"the kernel was not kept: {kept.parent} cannot be written ({error.strerror}); "
                "name another folder with JAXSDE_CACHE_DIR"
            )
            kept = Path(_own_folder()) / name
    cached = kept.is_file()
    if not cached:
        failure = _compile(compiler, flags, sources[-1], kept)
        if failure:
            return outcome(message=failure)
    try:
        targets = _register(kind, kept)
    except (OSError, AttributeError, RuntimeError, ValueError) as error:
        return outcome(message=f"{kept}: cannot be loaded: {error}")
    return outcome(library=kept, targets=targets, cached=cached, message=note)


@functools.cache
def _own_folder() -> str:
    """Return a folder of this process alone."""
    return tempfile.mkdtemp(prefix="jaxsde-kernels-")


def _key(compiler: str, flags: Series[str], sources: Series[Path]) -> str:
    """Return the key of a build."""
    parts = [platform.machine(), metadata.version("jaxlib"), compiler, *flags]
    parts.append(_output([compiler, "--version"]))
    if "-march=native" in flags:
        # What the compiler defines for this processor names every feature that it will use.
        parts.append(_output([compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull]))
    made = hashlib.sha256("\0".join(parts).encode())
    for source in sources:
        made.update(source.read_bytes())
    return made.hexdigest()[:24]


def _output(command: Series[str]) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=TIMEOUT
    ).stdout


def _compile(compiler: str, flags: Series[str], source: Path, library: Path) -> str:
    """Build a library aside and move it into place; return what went wrong, or nothing."""
    headers = (f"-I{jax.ffi.include_dir()}", f"-I{source.parent}")
    try:
        with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as aside:
            made = Path(aside) / library.name
            command = [compiler, *flags, *headers, str(source), "-o", str(made)]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
            if done.returncode:
                return f"{' '.join(command)}: failed with status {done.returncode}\n{done.stderr}"
            os.replace(made, library)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{compiler}: {error}"
    return ""


def _register(kind: str, library: Path) -> dict[str, str]:
    """Load a library and tell XLA its functions, under names that no other build has."""
    loaded, targets = ctypes.CDLL(str(library)), {}
    for symbol in SYMBOLS[kind]:
        name = f"jaxsde_{symbol}_{library.stem}"
        function = jax.ffi.pycapsule(getattr(loaded, f"jaxsde_{symbol}"))
        jax.ffi.register_ffi_target(name, function, platform="CUDA" if kind == "cuda" else "cpu")
        targets[symbol] = name
    return targets

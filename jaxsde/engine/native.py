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
import shlex
import shutil
import subprocess
import tempfile
import threading
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
    targets: dict[str, str] = dataclasses.field(default_factory=dict, hash=False)
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
    """Return where builds are kept: JAXSDE_CACHE_DIR, or jaxsde/kernels in the user's cache.

    Raises RuntimeError where a user without a home names neither.
    """
    own = os.environ.get("JAXSDE_CACHE_DIR")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxsde" / "kernels"


def compilers(kind: str) -> tuple[str, ...]:
    """Return the commands to try in turn, "cpu" or "cuda": the user's own choice alone, if any.

    The user's may have arguments of its own ("ccache g++").
    """
    if kind == "cuda":
        own, names = os.environ.get("NVCC"), ("nvcc",)
    else:
        own, names = os.environ.get("CXX"), ("g++", "clang++", "c++")
    wanted = [shlex.split(own)] if own and own.strip() else [[name] for name in names]
    found = [(shutil.which(first), rest) for first, *rest in wanted]
    return tuple(dict.fromkeys(shlex.join([path, *rest]) for path, rest in found if path))


def _no_compiler(kind: str) -> str:
    variable, wanted = ("NVCC", "nvcc") if kind == "cuda" else ("CXX", "g++ or clang++")
    named = os.environ.get(variable)
    if named:
        return f"{variable}: wanted a compiler on PATH, got {named!r}; correct it or take it away"
    return f"no compiler: install {wanted}, or name one with {variable}"


# Threads that ask at the same time wait for one build.
_BUILDING = threading.Lock()


def kernel(kind: str, states: int = 6) -> Build:
    """Return the kernel for a kind of device, built and registered if need be.

    kind: "cpu" or "cuda".  states: of the systems it is to move.
    """
    with _BUILDING:
        return _kernel(kind, states)


@functools.cache
def _kernel(kind: str, states: int) -> Build:
    try:
        folder = source_folder()
    except FileNotFoundError as error:
        return Build(platform=kind, message=str(error))
    messages = []
    for compiler in compilers(kind):
        made = _with_compiler(kind, states, folder, compiler)
        if made.ready:
            return made
        messages.append(made.message)
    return Build(platform=kind, message="\n".join(messages) or _no_compiler(kind))


def _with_compiler(kind: str, states: int, folder: Path, compiler: str) -> Build:
    flags = (*(CUDA_FLAGS if kind == "cuda" else CPU_FLAGS), f"-DJAXSDE_N={states}")
    flags = (*flags, *os.environ.get("JAXSDE_FLAGS", "").split())
    sources, notes = [folder / name for name in (*SOURCES, LAUNCHERS[kind])], []
    if kind == "cpu" and not _says(compiler, *NATIVE):
        flags = tuple(flag for flag in flags if flag != "-march=native")
        notes.append(
            f"{compiler} knows no -march=native: made for the oldest processor of its kind"
        )
    outcome = functools.partial(Build, platform=kind, compiler=compiler, flags=flags)
    try:
        name = f"{kind}-{_key(compiler, flags, sources)}.so"
        kept, note = _place(name)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return outcome(message=f"{compiler}: {_told(error)}")
    if note:
        notes.append(note)
    outcome = functools.partial(outcome, message="; ".join(notes))
    if kept.is_file():
        try:
            return outcome(library=kept, targets=_register(kind, kept), cached=True)
        except (OSError, AttributeError):
            pass  # cut short, or of another system: it is made again
    failure = _compile(compiler, flags, sources[-1], kept)
    if failure:
        return outcome(message=failure)
    try:
        return outcome(library=kept, targets=_register(kind, kept))
    except (OSError, AttributeError, RuntimeError, ValueError) as error:
        return outcome(message=f"{kept}: cannot be loaded: {error}; set JAXSDE_CACHE_DIR elsewhere")


def _place(name: str) -> tuple[Path, str]:
    """Return where a build is or is to be, and what to say if that is not the cache.

    A folder that cannot be written may still hold it.
    """
    try:
        kept = cache_folder() / name
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=kept.parent):
                pass
        return kept, ""
    except (OSError, RuntimeError) as error:
        note = f"the kernel was not kept: {error}; name a folder with JAXSDE_CACHE_DIR"
        return Path(_own_folder().name) / name, note


@functools.cache
def _own_folder() -> tempfile.TemporaryDirectory:
    """Return a folder that lasts as long as this process."""
    return tempfile.TemporaryDirectory(prefix="jaxsde-kernels-")


# What a compiler defines for this processor names every feature that it will use.
NATIVE = ("-march=native", "-dM", "-E", "-x", "c++", os.devnull)


def _key(compiler: str, flags: Series[str], sources: Series[Path]) -> str:
    """Return the key of a build."""
    parts = [platform.machine(), *platform.libc_ver(), metadata.version("jaxlib"), compiler, *flags]
    parts.append(_output(compiler, "--version"))
    if "-march=native" in flags:
        parts.append(_output(compiler, *NATIVE))
    made = hashlib.sha256("\0".join(parts).encode())
    for source in sources:
        made.update(source.read_bytes())
    return made.hexdigest()[:24]


def _output(compiler: str, *arguments: str) -> str:
    command = [*shlex.split(compiler), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=TIMEOUT
    ).stdout


def _says(compiler: str, *arguments: str) -> bool:
    """Tell whether a compiler takes arguments, one that cannot be asked included."""
    try:
        _output(compiler, *arguments)
    except subprocess.CalledProcessError:
        return False
    except (OSError, subprocess.SubprocessError):
        return True  # the next call fails as well, and its message is told
    return True


def _told(error: Exception) -> str:
    """Return an error's text, with what a failing command said."""
    said = getattr(error, "stderr", None)
    return f"{error}\n{said}" if said else str(error)


def _compile(compiler: str, flags: Series[str], source: Path, library: Path) -> str:
    """Build a library aside and move it into place; return what went wrong, or nothing."""
    headers = (f"-I{jax.ffi.include_dir()}", f"-I{source.parent}")
    try:
        with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as aside:
            made = Path(aside) / library.name
            command = [*shlex.split(compiler), *flags, *headers, str(source), "-o", str(made)]
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

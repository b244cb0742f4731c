"""Building the kernel: where it is kept, and what is said when it cannot be had."""

import os
import stat
import subprocess
import sys
import textwrap

import jax
import pytest

import jaxsde
from jaxsde.engine import native

# Without optimisation a build takes a third of the time.
QUICK = "-O0 -DJAXSDE_TEST={}"


def built(monkeypatch, tmp_path, number, **environment):
    """Return a fresh build under its own key, in a cache of its own."""
    monkeypatch.setenv("JAXSDE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAXSDE_FLAGS", QUICK.format(number))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return native._kernel.__wrapped__("cpu", 6)


def test_a_build_is_kept_and_found_again(monkeypatch, tmp_path):
    first = built(monkeypatch, tmp_path, 1)
    assert first.ready and not first.cached and first.message == ""
    assert first.library is not None and first.library.parent == tmp_path / "cache"
    assert set(first.targets) == {"advance_f32", "advance_f64"}
    assert "-march=native" in first.flags and "-DJAXSDE_TEST=1" in first.flags
    # Nothing is left of the making of it.
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [first.library.name]
    key = native._key(first.compiler, first.flags, [native.source_folder() / "shot.h"])
    assert key != native._key(first.compiler, first.flags, [native.source_folder() / "lanes.h"])


def test_a_cache_that_cannot_be_written_is_said(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    made = built(monkeypatch, tmp_path, 2)
    assert made.ready
    assert made.message.startswith("the kernel was not kept: ")
    assert "JAXSDE_CACHE_DIR" in made.message


def test_a_cache_for_reading_alone_serves_what_it_holds(monkeypatch, tmp_path):
    first = built(monkeypatch, tmp_path, 6)
    assert first.library is not None
    (tmp_path / "cache").chmod(0o555)
    try:
        again = built(monkeypatch, tmp_path, 6)
    finally:
        (tmp_path / "cache").chmod(0o755)
    assert again.cached and again.library == first.library and again.message == ""


def test_a_damaged_build_is_made_again(monkeypatch, tmp_path):
    first = built(monkeypatch, tmp_path, 7)
    assert first.library is not None
    size = first.library.stat().st_size
    # Another name for the damaged copy: this process has loaded the sound one.
    monkeypatch.setattr(native, "_key", lambda *_: "damaged")
    (tmp_path / "cache" / "cpu-damaged.so").write_bytes(b"")
    again = built(monkeypatch, tmp_path, 7)
    assert again.ready and not again.cached and again.message == ""
    assert again.library is not None and again.library.stat().st_size == size


def test_a_compiler_may_have_arguments(monkeypatch):
    monkeypatch.setenv("CXX", "env g++ -pipe")
    (command,) = native.compilers("cpu")
    assert command.endswith("/env g++ -pipe") and native._says(command, "--version")
    monkeypatch.setenv("CXX", "ccache-of-nobody g++")
    assert native.compilers("cpu") == ()
    assert native._no_compiler("cpu").startswith("CXX: wanted a compiler on PATH, got 'ccache-of")


def test_without_a_home_the_kernel_is_not_kept(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("JAXSDE_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(native.Path, "home", homeless)
    place, note = native._place("some.so")
    assert "Could not determine home" in note and "JAXSDE_CACHE_DIR" in note
    assert place.parent.is_dir()


def test_a_compiler_without_native_makes_the_baseline(monkeypatch, tmp_path):
    plain = tmp_path / "plain-g++"
    plain.write_text(
        '#!/bin/sh\ncase " $* " in *" -march=native "*) echo no such >&2; exit 1;; esac\n'
        'exec g++ "$@"\n'
    )
    plain.chmod(plain.stat().st_mode | stat.S_IXUSR)
    made = built(monkeypatch, tmp_path, 8, CXX=str(plain))
    assert made.ready and "-march=native" not in made.flags
    assert "knows no -march=native" in made.message


def test_a_compiler_that_fails_has_its_message_shown(monkeypatch, tmp_path):
    broken = tmp_path / "broken-g++"
    broken.write_text('#!/bin/sh\necho "it is $1 I do not like" >&2\nexit 3\n')
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    made = built(monkeypatch, tmp_path, 3, CXX=str(broken))
    assert not made.ready and made.targets == {}
    assert "broken-g++" in made.message and "status 3" in made.message
    assert "I do not like" in made.message


def test_a_source_that_does_not_compile_is_quoted(monkeypatch, tmp_path):
    made = built(monkeypatch, tmp_path, "4 -DJAXSDE_N=0-1")
    assert not made.ready and "error" in made.message and "cpu.cc" in made.message
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_a_compiler_the_scan_runs_and_says_why(tmp_path):
    """In a process of its own: what is built there is built once."""
    program = textwrap.dedent("""
        import jax
        jax.config.update("jax_enable_x64", True)
        import jaxsde as js
        sequence = js.Sequence.kohler2018(
            t_preparation=5e-6, t_c=5e-6, t_ramp=1e-6, t_ringdown=5e-6
        )
        shots = js.simulate(
            jax.random.key(0), js.Params.kohler2018(), sequence, js.Detector(), 2
        )
        print(shots.backend, "|", shots.note)
        try:
            js.simulate(
                jax.random.key(0), js.Params.kohler2018(), sequence, js.Detector(), 2,
                backend="fused",
            )
        except ValueError as error:
            print(error)
    """)
    environment = os.environ | dict(CXX="no-such-compiler", JAXSDE_CACHE_DIR=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    first, second = done.stdout.strip().splitlines()
    reason = "CXX: wanted a compiler on PATH, got 'no-such-compiler'; correct it or take it away"
    assert first == f"scan | {reason}"
    assert second.startswith(f"backend: 'fused' cannot run: {reason}; ")
    assert second.endswith("; take backend='scan', or 'auto', which does")


def test_two_processes_may_build_at_once(tmp_path):
    program = textwrap.dedent("""
        from jaxsde.engine import native
        made = native.kernel("cpu")
        assert made.ready, made.message
        print(made.library)
    """)
    environment = os.environ | dict(
        JAXSDE_CACHE_DIR=str(tmp_path / "cache"), JAXSDE_FLAGS=QUICK.format(5)
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    names = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(names) == 1 and len(list((tmp_path / "cache").iterdir())) == 1


def test_nothing_is_built_at_import(tmp_path):
    program = "import jaxsde, jaxsde.engine.native as n; print(n._kernel.cache_info().currsize)"
    environment = os.environ | dict(JAXSDE_CACHE_DIR=str(tmp_path / "cache"))
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0" and not (tmp_path / "cache").exists()


def test_the_baseline_of_every_machine_compiles(tmp_path):
    """Without the features of this CPU: the narrowest registers that its family has."""
    source = native.source_folder() / "cpu.cc"
    flags = [flag for flag in native.CPU_FLAGS if flag != "-march=native"]
    message = native._compile(
        native.compilers("cpu")[0], [*flags, "-O0"], source, tmp_path / "baseline.so"
    )
    assert message == "" and (tmp_path / "baseline.so").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.skipif(not native.compilers("cuda"), reason="needs nvcc")
def test_cuda_compiles(tmp_path):
    """What a GPU runs; no GPU is needed to compile it."""
    source = native.source_folder() / "cuda.cu"
    flags = [f for f in native.CUDA_FLAGS if "sm_80" not in f and "code=compute" not in f]
    flags = [*flags, "-O1", "--disable-warnings"]
    message = native._compile(native.compilers("cuda")[0], flags, source, tmp_path / "cuda.so")
    assert message == "" and (tmp_path / "cuda.so").stat().st_size > 10_000


def test_the_sources_are_where_the_package_is():
    folder = native.source_folder()
    assert all((folder / name).is_file() for name in (*native.SOURCES, "cpu.cc", "cuda.cu"))
    assert jaxsde.__version__ and jax.__version__

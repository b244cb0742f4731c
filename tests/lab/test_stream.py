"""Streamed runs: interrupted, killed, starved of disk, corrupted, and always the same bits."""

import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

import streams
from jaxsde.lab.chunks import JOURNAL, ZARR, read_journal
from jaxsde.lab.folder import StoreError
from jaxsde.lab.lock import locked
from jaxsde.lab.spec import ExperimentError
from jaxsde.lab.stream import ThisProcess, check_keep, check_room, stream

ROOT = pathlib.Path(__file__).parents[2]
SHOTS, BLOCK = 6000, 1024


def run(folder, keep="records", block_shots=BLOCK, workers=None, resume=True, tell=None, **changes):
    """Run in this process; the rest of a run, the analysis, is not made."""
    folder.mkdir(exist_ok=True)
    with locked(folder):
        return stream(
            streams.experiment(**({"shots": SHOTS} | changes)),
            folder,
            keep,
            workers=workers or ThisProcess(),
            block_shots=block_shots,
            resume=resume,
            command=["test"],
            tell=tell or (lambda task, done, total: None),
        )


def content(folder):
    """Return the digest of every chunk and every line that counts."""
    files = [p for p in (folder / ZARR).rglob("*") if p.is_file()]
    found = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    return found, read_journal(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    made = run(folder)
    assert (made.made, made.kept, made.failed) == (6, 0, ())
    return content(folder)


class Stopping(ThisProcess):
    """Make a few blocks, then stop as a process does on a signal."""

    def make(self, text, blocks, keep, tell):
        for number, outcome in enumerate(super().make(text, blocks, keep, tell)):
            if number == 2:
                raise KeyboardInterrupt
            yield outcome


def test_an_interrupted_run_is_finished_with_the_same_bits(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", workers=Stopping())
    with pytest.raises(StoreError, match=r"holds a run already; add --resume"):
        run(tmp_path / "a", resume=False)
    told = []
    made = run(tmp_path / "a", block_shots=None, tell=lambda *args: told.append(args))
    assert (made.made, made.kept) == (4, 2)
    assert told[0] == ("simulate", 2 * BLOCK, SHOTS) and ("simulate", SHOTS, SHOTS) in told
    assert told[-1] == ("verify", 2, 2)
    assert content(tmp_path / "a") == whole
    made = run(tmp_path / "a")
    assert (made.made, made.kept) == (0, 6) and len(made.manifest["runs"]) == 3


def test_what_was_flipped_torn_or_lost_is_made_again_and_nothing_else(tmp_path, whole):
    run(tmp_path / "a")
    chunks = [p for p in (tmp_path / "a" / ZARR).rglob("*") if p.is_file() and "c" in p.parts]
    generator = random.Random(5)
    hurt = set()
    for path in generator.sample(sorted(chunks), 3):
        data = bytearray(path.read_bytes())
        how = generator.choice(["flip", "tear", "lose"])
        if how == "flip":
            data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
            path.write_bytes(data)
        elif how == "tear":
            path.write_bytes(data[: generator.randrange(len(data))])
        else:
            path.unlink()
        hurt.add(path.parts[path.parts.index("c") + 1])
    made = run(tmp_path / "a")
    assert (made.made, made.kept) == (len(hurt), 6 - len(hurt))
    assert content(tmp_path / "a") == whole


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_of_something_else_is_not_touched(tmp_path, resume):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match=r"holds something that is no run of --keep records"):
        run(tmp_path, resume=resume)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "thesis.tex"]


@pytest.mark.parametrize(
    "changes, shown",
    [
        (dict(g_m='"2pi * 27 kHz"'), "params.g_m was '2pi * 26 kHz', now '2pi * 27 kHz'"),
        (dict(seed=4), "simulation.seed was 3, now 4"),
        (dict(shots=7000), "simulation.shots was 6000, now 7000"),
    ],
)
def test_a_changed_configuration_is_refused_and_the_difference_shown(tmp_path, changes, shown):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", keep="estimates", workers=Stopping())
    before = content(tmp_path / "a")
    with pytest.raises(StoreError, match="cannot be resumed") as caught:
        run(tmp_path / "a", keep="estimates", **changes)
    assert shown in str(caught.value)
    with pytest.raises(StoreError, match="keep was 'estimates', now 'filters'"):
        run(tmp_path / "a", keep="filters")
    with pytest.raises(StoreError, match="--block-shots was 1024, now 512"):
        run(tmp_path / "a", keep="estimates", block_shots=512)
    assert content(tmp_path / "a") == before


def test_a_failed_block_leaves_the_others_and_is_tried_again(tmp_path, whole, monkeypatch):
    class Failing(ThisProcess):
        def make(self, text, blocks, keep, tell):
            for outcome in super().make(text, blocks, keep, tell):
                if outcome.block.number == 3:
                    outcome = type(outcome)(block=outcome.block, arrays={}, why="a cosmic ray")
                yield outcome

    made = run(tmp_path / "a", workers=Failing())
    assert [(e["block"], e["why"], e["shots"]) for e in made.failed] == [
        (3, "a cosmic ray", [3072, 4096])
    ]
    made = run(tmp_path / "a")
    assert (made.made, made.kept, made.failed) == (1, 5, ())
    assert content(tmp_path / "a") == whole


def test_room_is_asked_for_before_it_is_taken(tmp_path, monkeypatch):
    store = run(tmp_path / "a").store
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(StoreError, match=r"wanted 0\.\d+ GB of disk, got 1e-06 GB free"):
        check_room(store)


def test_what_to_keep_is_checked():
    check_keep("records")
    with pytest.raises(ExperimentError, match="wanted one of estimates, moments, filters, records"):
        check_keep("everything")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 12 MB; the records of 6000 shots take 10 MB of it."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("mounting a tmpfs takes privileges that this process lacks")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_stops_a_run_that_then_goes_on(small_disk, whole):
    """The disk is filled by somebody else once the run has begun."""

    class Filling(ThisProcess):
        def make(self, text, blocks, keep, tell):
            for number, outcome in enumerate(super().make(text, blocks, keep, tell)):
                yield outcome
                if number == 1:
                    with pytest.raises(OSError), (small_disk / "ballast").open("wb") as file:
                        while True:
                            file.write(bytes(65536))

    folder = small_disk / "run"
    with pytest.raises(StoreError, match=r"No space left on device; blocks written so far"):
        run(folder, workers=Filling())
    assert not list(folder.rglob("*.partial"))
    with pytest.raises(StoreError, match="No space left"):
        run(folder)  # still full
    (small_disk / "ballast").unlink()
    made = run(folder)
    assert made.kept >= 1 and made.made + made.kept == 6
    assert content(folder) == whole


@pytest.mark.slow
def test_twenty_kills_at_random_times_cost_no_bit(tmp_path):
    """SIGKILL while blocks are made and written, of 20 processes in turn."""
    generator, folder = random.Random(11), tmp_path / "killed"
    folder.mkdir()
    command = [sys.executable, str(ROOT / "tests" / "streams.py"), "lives", str(folder), "records"]
    command += ["512", "120000"]
    # Every life compiles the same programs: they are kept, however small.
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = [0]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as zygote:
        assert zygote.stdin is not None and zygote.stdout is not None
        for _ in range(20):
            zygote.stdin.write("live\n")
            zygote.stdin.flush()
            words, begun = [], None
            while begun is None or words[:2] == ["simulate", begun]:
                words = zygote.stdout.readline().split()
                if words[0] == "pid":
                    pid = int(words[1])
                elif words[0] == "simulate" and begun is None:
                    begun = words[1]
            time.sleep(generator.uniform(0, 0.1))
            os.kill(pid, signal.SIGKILL)
            while words[0] != "ended":
                words = zygote.stdout.readline().split()
            assert words[1] == str(-signal.SIGKILL)
            done.append(len(read_journal(folder)))
        zygote.stdin.close()
    assert done == sorted(done) and 20 < done[-1] < 235
    made = run(folder, block_shots=512, shots=120000)
    assert made.kept >= 0.95 * done[-1] and made.made + made.kept == 235
    plain = tmp_path / "plain"
    run(plain, block_shots=512, shots=120000)
    assert content(folder) == content(plain)
    assert not [e for e in made.entries.values() if e["state"] != "done"]
    assert (folder / JOURNAL).read_bytes().endswith(b"\n")


def test_the_manifest_says_what_was_run(tmp_path):
    run(tmp_path / "a", keep="estimates")
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    told = manifest["stream"]
    assert told["parts"] == {"main": {"shots": 6000, "blocks": 6}}
    assert len(told["config_sha256"]) == 64 and told["config"]["simulation.seed"] == 3
    assert {"jax", "jaxlib", "jaxsde"} <= told["config"].keys()
    assert manifest["runs"][0]["command"] == ["test"] and told["journal"] == JOURNAL

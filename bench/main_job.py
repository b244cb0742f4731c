"""How long does the default main job take, compilation included? Cold and warm program cache."""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent
ROUNDS = 3


def seconds(command: list[str], cache: str) -> float:
    """Return the wall time of a jaxsde command whose compiled programs are cached in `cache`."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "from jaxsde.lab.cli import main; main()", *command],
        check=True,
        cwd=ROOT,
        env=os.environ | {"XDG_CACHE_HOME": cache},
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def main() -> None:
    """Alternate cold and warm runs of run, then of calibrate."""
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as scratch:
            out = str(pathlib.Path(scratch) / "result")
            jobs = {
                "run": ["run", "examples/kohler2018.toml", "--out", out, "--force"],
                "calibrate, both objectives": ["calibrate", out, "--force"],
                "verify, 20,000 shots": ["verify"],
            }
            for name, command in jobs.items():
                for state in ("cold", "warm"):
                    times.setdefault(f"{name}, {state} cache", []).append(seconds(command, scratch))
    for name, values in times.items():
        print(
            f"{name:42} {statistics.median(values):5.1f} s "
            f"({min(values):.1f} to {max(values):.1f}, {len(values)} runs)"
        )


if __name__ == "__main__":
    main()

"""How long does `import jaxsde` take? Median of fresh interpreters, beside `import jax` alone."""

import statistics
import subprocess
import sys
import time

STATEMENTS = ("import jax", "import jaxsde", "import jaxsde.lab.cli")
ROUNDS = 7


def seconds(statement: str) -> float:
    """Return the wall time of a fresh interpreter that runs statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Interleave the statements, so that a busy moment hits all of them."""
    times: dict[str, list[float]] = {s: [] for s in ("pass", *STATEMENTS)}
    for _ in range(ROUNDS):
        for statement in times:
            times[statement].append(seconds(statement))
    bare = statistics.median(times["pass"])
    for statement in STATEMENTS:
        spread = [t - bare for t in times[statement]]
        print(
            f"{statement:24} {statistics.median(spread):.2f} s "
            f"({min(spread):.2f} to {max(spread):.2f}, interpreter's {bare:.2f} s taken off)"
        )


if __name__ == "__main__":
    main()

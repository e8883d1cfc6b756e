"""Import time of ttt_jax beside that of what it stands on: the ratio of medians over fresh processes, in turn.

python benchmarks/import_time.py --repeats 9

Exit status 1 if the ratio is 1.5 or more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from statistics import median

STATEMENTS = {"floor": "import jax, flax", "package": "import jax, flax, ttt_jax"}
TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
LIMIT = 1.5


def seconds(statement: str) -> float:
    """How long a fresh process takes for an import statement, the start of Python not counted."""
    command = [sys.executable, "-c", TIMED.format(statement)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    """Print both medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="processes of each kind (default: 9)")
    options = parser.parse_args()
    for statement in STATEMENTS.values():
        seconds(statement)  # fills the disk cache
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(options.repeats):
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    medians = {name: median(values) for name, values in times.items()}
    ratio = medians["package"] / medians["floor"]
    for name, statement in STATEMENTS.items():
        print(f"{statement:28}{medians[name]:6.2f} s")
    print(f"ratio {ratio:.2f}, limit {LIMIT}")
    return int(ratio >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())

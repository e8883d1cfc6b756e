"""`python -m experiments NAME ... --preset quick|paper --out DIR`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

from ttt_jax.cli import OneLineParser
from ttt_jax.problem import seed_integer

NAMES = ("fig1a", "fig1b", "fig2a", "fig2b", "fig2c")
EXAMPLES = """examples:
  python -m experiments fig1a
  python -m experiments fig1a fig1b --preset paper --out results
  python -m experiments all --seed 1
"""


def main(argv: list[str] | None = None) -> int:
    """Run the named experiments; 0 if every one agrees with theory, 1 if one does not, 2 for bad input."""
    parser = OneLineParser(
        prog="python -m experiments",
        description="Reproduce a figure of the paper: a table of agreement, NAME.png, NAME.svg and NAME.csv.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"all, or some of: {', '.join(NAMES)}")
    parser.add_argument("--preset", choices=("quick", "paper"), default="quick", help="sizes (default: quick)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="directory for the files (default: out)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in (*NAMES, "all")]
    if unknown:
        parser.error(f"NAME must be all or one of {', '.join(NAMES)}, got {unknown[0]!r}")
    try:
        seed_integer(arguments.seed)
        arguments.out.mkdir(parents=True, exist_ok=True)
        if not os.access(arguments.out, os.W_OK):
            raise PermissionError(f"{arguments.out} is not writable")
    except (ValueError, OSError) as error:
        parser.error(f"--{'seed' if isinstance(error, ValueError) else 'out'}: {error}")
    names = NAMES if "all" in arguments.names else dict.fromkeys(arguments.names)
    try:
        agree = [run_one(name, arguments) for name in names]
    except KeyboardInterrupt:
        print("python -m experiments: interrupted; finished figures are kept", file=sys.stderr)
        return 130
    return 0 if all(agree) else 1


def run_one(name: str, arguments: argparse.Namespace) -> bool:
    """Run one experiment, print its table, write its files."""
    started = time.perf_counter()
    result = importlib.import_module(f"experiments.{name}").run(arguments.preset, arguments.seed)
    print(f"{name}, preset {arguments.preset}\n{result.table()}")
    for file in result.save(arguments.out):
        print(f"wrote {file}")
    print(f"{time.perf_counter() - started:.0f} s\n", flush=True)
    return result.agrees


if __name__ == "__main__":
    sys.exit(main())

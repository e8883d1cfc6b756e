"""The command line."""

import sys

try:
    import ttt_jax.cli.main  # noqa: F401
except KeyboardInterrupt:  # as in ttt_jax itself, whose imports come before these
    print("ttt-jax: interrupted", file=sys.stderr)
    sys.exit(130)

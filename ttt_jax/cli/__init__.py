"""The command line."""

from ttt_jax._internal.imports import one_line_interrupt

with one_line_interrupt():
    import ttt_jax.cli.main  # noqa: F401

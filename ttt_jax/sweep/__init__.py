"""Grids of problems: specification, store, run, report."""

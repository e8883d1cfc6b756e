"""Flags of XLA for programs that run for less time than they take to compile."""

from __future__ import annotations

import jaxlib.version

QUICK_TO_COMPILE = "--xla_backend_optimization_level=1"
if jaxlib.version.__version_info__ < (0, 11):  # a later one ends the process at a flag that it does not know
    QUICK_TO_COMPILE += " --xla_cpu_use_fusion_emitters=false"

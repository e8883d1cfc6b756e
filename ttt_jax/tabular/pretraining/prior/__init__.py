"""Synthetic classification tables to pretrain on: what the network believes a table can be.

`sample_tables` draws them in JAX, for an accelerator; `host_tables` in a worker process, with labels by scikit-learn's
trees. Both draw the same kinds of table in the shares of a `PriorConfig`.
"""

from ttt_jax.tabular.pretraining.prior.config import KINDS, MAX_CLASSES, MAX_FEATURES, PriorConfig
from ttt_jax.tabular.pretraining.prior.tables import Tables, host_tables, sample_tables

__all__ = ["KINDS", "MAX_CLASSES", "MAX_FEATURES", "PriorConfig", "Tables", "host_tables", "sample_tables"]

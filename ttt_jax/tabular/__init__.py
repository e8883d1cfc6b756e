"""Prior-data fitted networks for tables: the TabPFN v2 classifier in Flax. Needs the extra `ttt_jax[tabular]`."""

from ttt_jax.tabular.checkpoint import load_tabpfn_checkpoint
from ttt_jax.tabular.config import PFNConfig
from ttt_jax.tabular.estimators import PFNClassifier
from ttt_jax.tabular.network import Table
from ttt_jax.tabular.pfn import PFN
from ttt_jax.tabular.torch_file import CheckpointError
from ttt_jax.tabular.ttt_classifier import TTTClassifier

__all__ = ["PFN", "CheckpointError", "PFNClassifier", "PFNConfig", "TTTClassifier", "Table", "load_tabpfn_checkpoint"]

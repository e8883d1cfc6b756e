"""Prior-data fitted networks for tables: the TabPFN v2 classifier in Flax. Needs the extra `ttt_jax[tabular]`."""

from ttt_jax.tabular.classify.estimators import PFNClassifier
from ttt_jax.tabular.classify.ttt_classifier import TTTClassifier
from ttt_jax.tabular.network.config import PFNConfig
from ttt_jax.tabular.network.pfn import PFN
from ttt_jax.tabular.network.v2 import Table
from ttt_jax.tabular.official.checkpoint import load_tabpfn_checkpoint
from ttt_jax.tabular.official.torch_file import CheckpointError

__all__ = ["PFN", "CheckpointError", "PFNClassifier", "PFNConfig", "TTTClassifier", "Table", "load_tabpfn_checkpoint"]

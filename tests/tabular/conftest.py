"""Where scikit-learn or pandas is missing there is nothing to test; without PyTorch, its scripts are not collected."""

import jax
import pytest

collect_ignore = ["official.py", "make_fixtures.py", "make_blob_pfn.py"]


@pytest.fixture(scope="module")
def quick_compilation():
    """For small tables of many shapes: compilation is the cost."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)

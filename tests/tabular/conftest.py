"""Without PyTorch its scripts are not collected; networks take long to compile and are hardly used."""

import pytest

from ttt_jax.tabular.network import pfn

collect_ignore = ["official.py", "make_fixtures.py", "make_blob_pfn.py"]


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation(quick_compilation):
    """In the processes that tests start, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        yield


@pytest.fixture(scope="module")
def few_sizes():
    """Tables are padded to one of fewer sizes than usual, so that more of them share a compilation."""
    usual = pfn.bucket
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pfn, "bucket", lambda size: next((s for s in (4, 16, 64, 256) if size <= s), usual(size)))
        yield patch

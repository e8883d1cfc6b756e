"""Without PyTorch its scripts are not collected; networks take long to compile and are hardly used."""

import pytest

collect_ignore = ["official.py", "make_fixtures.py", "make_blob_pfn.py"]


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation(quick_compilation):
    pass

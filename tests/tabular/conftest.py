"""Where scikit-learn or pandas is missing there is nothing to test; without PyTorch, its scripts are not collected."""

collect_ignore = ["official.py", "make_fixtures.py", "make_blob_pfn.py"]

"""scikit-learn classifiers around a PFN: prediction in context, and after test-time training."""

"""Official TabPFN v2 classifier checkpoints, read without PyTorch."""

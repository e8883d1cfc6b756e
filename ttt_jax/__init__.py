"""Test-time training of linear transformers: theory and simulation in JAX."""

"""Pretraining of a PFN on synthetic tables."""

"""Pretraining of a PFN on a synthetic prior."""

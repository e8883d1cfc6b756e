"""Every formula of the package and of the paper, checked three ways; run with `python -m proofs_check`."""

"""The paper's figures, one module each: `python -m experiments fig1a --preset quick`."""

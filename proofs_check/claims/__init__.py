"""One module per claim: its docstring states it, CLAIM checks it."""

"""Closed forms: the exact and the leading-order risk, the paper's results by number, decisions drawn from them."""

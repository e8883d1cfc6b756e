"""Kinds of claim: an equality at every size, a leading order, a threshold; each makes a `Claim` of a formula."""

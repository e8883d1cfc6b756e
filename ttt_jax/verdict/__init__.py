"""Theory against simulation: comparisons, claims on trial, and the rule that decides."""

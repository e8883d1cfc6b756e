"""Three kinds of evidence that share no formula: symbolic algebra, exact rational arithmetic, simulated data."""

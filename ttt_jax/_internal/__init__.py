"""What the packages share and users do not call."""

"""Monte Carlo of test-time training: samplers of one task, and the one driver that runs them all."""

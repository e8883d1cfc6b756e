"""Models, prompts, test-time training steps and pretraining, each a pure function of arrays."""

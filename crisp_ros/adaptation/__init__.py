"""Self-training: a model learns from its own certified estimates, under guard."""

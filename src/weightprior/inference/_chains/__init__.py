"""Markov chains: kernels, warm-up, runs, and their checkpoints."""

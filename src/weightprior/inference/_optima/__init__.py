"""Optima of a density."""

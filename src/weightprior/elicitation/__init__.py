"""Choosing a prior: where it sits, how wide it is, and what it believes before data."""

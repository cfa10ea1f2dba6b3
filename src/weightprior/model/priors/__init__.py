"""Priors, one family per file; `base` is their base class."""

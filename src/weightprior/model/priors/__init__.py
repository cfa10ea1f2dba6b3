"""Priors, a family per file; `base` is what they are written against."""

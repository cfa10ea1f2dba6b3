"""Likelihoods, a file each; `base` is what they are written against."""

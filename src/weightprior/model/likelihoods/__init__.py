"""Likelihoods, one file each; `base` is their base class."""

"""Predictions, their scores, and whether a fit function finds the posterior."""

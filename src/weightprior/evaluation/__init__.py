"""Predictions, their scores, and checks that a fit function finds the posterior."""

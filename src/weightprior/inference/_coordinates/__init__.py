"""Coordinates that methods work in."""

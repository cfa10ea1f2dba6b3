"""Fits as DataTrees: built, read, evaluated, and judged."""

"""The evidence of data under a prior, codes by it, and which prior it prefers."""

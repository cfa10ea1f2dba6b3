"""Evidence of the data under a prior, code lengths, and comparisons of priors by them."""

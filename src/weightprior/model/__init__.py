"""Models: networks, likelihoods, priors, and their density. Arrays only."""

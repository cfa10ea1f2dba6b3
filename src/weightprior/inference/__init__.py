"""Ways to fit a model. One file per method; methods do not know each other."""

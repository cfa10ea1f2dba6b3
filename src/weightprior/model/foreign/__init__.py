"""Networks of other libraries: Flax, Equinox, or a function of any pytree of parameters."""

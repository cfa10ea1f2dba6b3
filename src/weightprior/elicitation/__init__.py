"""Choice of a prior: its centre, its scale, and its predictions before data."""

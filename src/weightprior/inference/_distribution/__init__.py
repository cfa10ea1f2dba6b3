"""Parts of a stacked prior, fitted by workers that an executor has."""

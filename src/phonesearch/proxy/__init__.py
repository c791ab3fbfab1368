"""A short training of a scaled-down candidate, and its loss."""

"""The model shelf: weights that a user brings, where they come from, and that they are right."""

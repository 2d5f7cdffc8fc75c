"""Enlargement held against the truth: photos reduced, squeezed and enlarged again, and its cost."""

"""A small catalog of photos, damaged as shops see it, whose undamaged truth is known."""

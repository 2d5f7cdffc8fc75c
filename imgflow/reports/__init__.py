"""What the whole catalog looks like: the lineage table, and the quality report made of it."""

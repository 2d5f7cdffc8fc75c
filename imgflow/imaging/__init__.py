"""Pixels: reading, writing, colour, masks, tiles and measures. Knows nothing above itself."""

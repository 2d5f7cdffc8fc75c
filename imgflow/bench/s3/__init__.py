"""The line with its store in a bucket: how fast, and what it makes of a bad network."""

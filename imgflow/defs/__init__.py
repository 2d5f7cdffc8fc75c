"""All that Dagster sees. Thin: what happens to a photo is in the chain."""

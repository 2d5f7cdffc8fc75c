"""All installed engines on photos with a known truth: quality, time, memory; and which to use."""

"""Benchmarks: what the README claims, measured. Each prints a table and one line of JSON."""

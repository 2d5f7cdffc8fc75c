"""Lineage: the record that says how every version of every photo came to be."""

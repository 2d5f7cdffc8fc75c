"""Originals, objects and records behind one protocol."""

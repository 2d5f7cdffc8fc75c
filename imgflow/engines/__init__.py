"""Engines: whatever finds or makes pixels, behind small protocols, chosen by name."""

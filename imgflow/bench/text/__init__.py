"""Text removal held against the truth: overlays rendered on photos, and text that must stay."""

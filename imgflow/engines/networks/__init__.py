"""imgflow's own networks. Import these modules only where torch may be loaded."""

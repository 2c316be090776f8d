"""From raw frames to photons per pulse and beam."""

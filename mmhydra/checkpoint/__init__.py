"""Checkpoints that explain themselves: stamp, verification, comparison. No torch."""

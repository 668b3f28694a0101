"""Sweeps: the points of one command line, what was recorded of them, and how they are."""

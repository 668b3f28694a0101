"""Sweeps on the side that submits: all points composed, named and frozen before the first is submitted, once each."""

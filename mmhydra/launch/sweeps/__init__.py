"""Sweeps on the side that submits: all points composed, named and frozen before the first is submitted, once each."""

from mmhydra.launch.sweeps.asked import Asked, planned_points
from mmhydra.launch.sweeps.compiling import compiled
from mmhydra.launch.sweeps.submitting import advance, submit_points, submit_sweep

__all__ = ["Asked", "advance", "compiled", "planned_points", "submit_points", "submit_sweep"]

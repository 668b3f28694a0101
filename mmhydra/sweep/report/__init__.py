"""The page of `python -m mmhydra.report`."""

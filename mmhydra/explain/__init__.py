"""Who set each value of a command line: `python -m mmhydra.explain [overrides] [KEY ...]`."""

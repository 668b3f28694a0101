"""What differs between two runs, checkpoints, command lines or revisions of conf/: `python -m mmhydra.diff A B`."""

"""`python -m mmhydra.drill`: breaks something under a run on the development SLURM, and measures what that costs."""

"""How each point of a sweep is, from its files and one question to SLURM."""

"""What runs inside of a SLURM job beside the ranks; it knows neither submitit nor Hydra."""

"""A run on disk: who it is, where it is, what made it. Shared by the submit side and the job side; no torch."""

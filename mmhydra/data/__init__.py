"""Datasets from shards to batches: manifest, WebDataset shards, sequences, the global stream, the demo.

Nothing here imports torch, and `manifest` and `mixture` not even numpy: they are read where jobs are submitted.
"""

"""Shards: documents as WebDataset tars with their indexes and the manifest of a dataset version, written and read.

`manifest` imports no numpy: it is read where jobs are submitted.
"""

"""Datasets: from records to shards, and from shards to batches.

Codecs, and what encodes and shows with them, import torch; nothing else here does, and `manifest` and `mixture` not
even numpy: they are read where jobs are submitted.
"""

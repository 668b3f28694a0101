"""Filters: a configured chain that refuses or mends records, each filter counted; duplicates last."""

"""Trace: from a step of a run back to its samples, and from a record to the steps that see it, without any log."""

"""Searches: Optuna proposes trials, each is a run of its sweep, and bad ones are ended early."""

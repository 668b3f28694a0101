"""mmhydra: one command line becomes one verified, frozen, reproducible pre-training run."""

__version__ = "0.1.0"

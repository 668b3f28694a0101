"""Composing many points at once, with stock composition's results."""

from mmhydra.compose.many.compiler import Compiler, NotStock, Tiers, new_seed, recheck, unlike

__all__ = ["Compiler", "NotStock", "Tiers", "new_seed", "recheck", "unlike"]

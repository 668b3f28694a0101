"""Composing many points at once, with stock composition's results."""

from mmhydra.compose.many.compiler import Compiler, NotStock, Tiers, recheck, unlike

__all__ = ["Compiler", "NotStock", "Tiers", "recheck", "unlike"]

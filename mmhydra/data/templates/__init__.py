"""A record and its media as one document of ids, and a document as text and signals again."""

from mmhydra.data.templates.decoding import Part, Signal, describe, signals, to_text
from mmhydra.data.templates.draw import draw
from mmhydra.data.templates.media import Caption, EncodedMedia, Unrenderable
from mmhydra.data.templates.renderer import Renderer, fitting_templates

__all__ = [
    "Caption",
    "EncodedMedia",
    "Part",
    "Renderer",
    "Signal",
    "Unrenderable",
    "describe",
    "draw",
    "fitting_templates",
    "signals",
    "to_text",
]

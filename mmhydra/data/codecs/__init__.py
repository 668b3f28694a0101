"""Codecs: pictures, sounds and videos as ids, and back. They import torch and transformers, which takes seconds."""

from mmhydra.data.codecs.build import build_codec, codec_from_info, info_of
from mmhydra.data.codecs.files import save_signal
from mmhydra.data.codecs.protocol import Codec, CodecError, Signal

__all__ = ["Codec", "CodecError", "Signal", "build_codec", "codec_from_info", "info_of", "save_signal"]

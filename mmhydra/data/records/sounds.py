"""Sounds by libsndfile: WAV, FLAC, Ogg (Vorbis, Opus) and MP3."""

from pathlib import Path

import numpy as np
import soundfile

from mmhydra.config.filters import MediaLimits
from mmhydra.data.records.containers import cut_off
from mmhydra.data.records.media import Budget, Sound
from mmhydra.data.records.reasons import BadRecord, said_by

_MAX_CHANNELS = 64
_LOUDEST = 1000.0  # times full scale: beyond it float files hold something else than sound


def load_sound(path: Path, limits: MediaLimits, budget: Budget) -> Sound:
    """All channels, float32 [channels, n], at the file's own rate. Raises BadRecord.

    Length and rate are looked at before anything is decoded.
    """
    try:
        if cut := cut_off(path):
            raise BadRecord("corrupt_audio", f"{path.name}: cut off: {cut}")
        with soundfile.SoundFile(path) as file:
            _check(path, file.frames, file.samplerate, file.channels, limits)
            budget.take(file.frames * file.channels * 4)
            samples = file.read(file.frames, dtype="float32", always_2d=True)
            if len(samples) < file.frames:
                raise BadRecord("corrupt_audio", f"{path.name}: {len(samples)} of {file.frames} samples can be decoded")
            rate_hz = int(file.samplerate)
    # TypeError: a name that ends in .raw is taken for samples without a header, whatever is in the file.
    except (soundfile.LibsndfileError, OSError, ValueError, RuntimeError, TypeError) as error:
        raise BadRecord("corrupt_audio", f"{said_by(error, path)} (WAV, FLAC, Ogg, Opus, MP3 are read)") from error
    if not np.isfinite(samples).all():
        raise BadRecord("corrupt_audio", f"{path.name}: samples that are no numbers")
    if np.abs(samples).max() > _LOUDEST:
        raise BadRecord("corrupt_audio", f"{path.name}: samples of {np.abs(samples).max():.3g}, full scale is 1")
    return Sound(np.ascontiguousarray(samples.T), rate_hz)


def _check(path: Path, num_samples: int, rate_hz: int, channels: int, limits: MediaLimits) -> None:
    if rate_hz < limits.min_sample_rate_hz:
        raise BadRecord(
            "sample_rate_too_low", f"{path.name}: {rate_hz} Hz, min_sample_rate_hz is {limits.min_sample_rate_hz}"
        )
    if channels > _MAX_CHANNELS or num_samples <= 0:
        raise BadRecord("corrupt_audio", f"{path.name}: {channels} channels, {num_samples} samples")
    check_seconds(path, num_samples / rate_hz, limits)


def check_seconds(path: Path, seconds: float, limits: MediaLimits) -> None:
    """Refuses sounds and videos outside the limits."""
    if seconds < limits.min_seconds:
        raise BadRecord("too_short", f"{path.name}: {seconds:.3f} s, min_seconds is {limits.min_seconds:g}")
    if seconds > limits.max_seconds:
        raise BadRecord("too_long", f"{path.name}: {seconds:.3f} s, max_seconds is {limits.max_seconds:g}")

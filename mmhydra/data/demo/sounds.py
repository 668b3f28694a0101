"""Sounds that are made of sines, noise and clicks, with a description of exactly what was made."""

import math
import random
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.demo.record_file import record

SOUNDS = "sounds"
Samples = NDArray[np.float64]  # [n] for one channel, [n, 2] for two; between -1 and 1

_NOTES = {"C4": 261.63, "D4": 293.66, "E4": 329.63, "F4": 349.23, "G4": 392.0, "A4": 440.0, "B4": 493.88, "C5": 523.25}
_CHORDS = {"major": (0, 4, 7), "minor": (0, 3, 7), "diminished": (0, 3, 6), "augmented": (0, 4, 8)}  # semitones
_STEREO_EVERY = 12  # 44.1 kHz in two channels, so that channels are mixed and rates converted


def described_sounds(folder: Path, num_sounds: int) -> Iterator[dict[str, Any]]:
    """Writes WAV files (16 bit) below `folder`/sounds and yields their records.

    They last 1 to 3 s. Rates take turns, 16 and 24 kHz; the last of each 12 has 44.1 kHz and two channels.
    """
    (folder / "sounds").mkdir()
    for index in range(num_sounds):
        dice = random.Random(f"{SOUNDS}/{index}")
        stereo = index % _STEREO_EVERY == _STEREO_EVERY - 1
        rate_hz = 44100 if stereo else (16000, 24000)[index % 2]
        duration_s = dice.choice((1.2, 1.5, 2.0, 2.5, 3.0))
        make = _KINDS[index % len(_KINDS)]
        samples, text, language = make(dice, np.arange(round(duration_s * rate_hz)) / rate_hz, duration_s)
        if stereo:
            side = dice.choice(("left", "right"))
            quiet, loud = 0.2 * samples, samples
            samples = np.stack((loud, quiet) if side == "left" else (quiet, loud), axis=1)
            text += f" It is louder on the {side}."
        path = f"sounds/{index:05d}.wav"
        write_wav(folder / path, samples, rate_hz)
        yield record(
            SOUNDS,
            f"{index:05d}",
            {"audio": path},
            text,
            title=make.__name__.removeprefix("_").replace("_", " "),
            language=language,
            duration_seconds=duration_s,
            sample_rate_hz=rate_hz,
        )


def write_wav(path: Path, samples: Samples, rate_hz: int) -> None:
    """Writes samples as 16-bit PCM."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


_Made = tuple[Samples, str, str]  # samples, description, its language


def _tone(dice: random.Random, t: Samples, duration_s: float) -> _Made:
    note = dice.choice(list(_NOTES))
    language = dice.choice(("en", "en", "zh", "de", "fr", "es"))
    samples = 0.5 * _faded(np.sin(2 * np.pi * _NOTES[note] * t), t)
    hz, seconds = f"{_NOTES[note]:g}", f"{duration_s:g}"
    text = {
        "en": f"A steady sine tone at {hz} Hz, the note {note}, for {seconds} seconds.",
        "zh": f"频率为{hz}赫兹的稳定正弦音，音名{note}，持续{seconds}秒。",  # noqa: RUF001
        "de": f"Ein gleichmäßiger Sinuston von {hz} Hz, die Note {note}, {seconds} Sekunden lang.",
        "fr": f"Un son sinusoïdal constant de {hz} Hz, la note {note}, pendant {seconds} secondes.",
        "es": f"Un tono sinusoidal constante de {hz} Hz, la nota {note}, durante {seconds} segundos.",
    }[language]
    return samples, text, language


def _chord(dice: random.Random, t: Samples, duration_s: float) -> _Made:
    note, quality = dice.choice(list(_NOTES)), dice.choice(list(_CHORDS))
    parts = [np.sin(2 * np.pi * _NOTES[note] * 2 ** (step / 12) * t) for step in _CHORDS[quality]]
    text = f"Three sine tones sound together for {duration_s:g} seconds: the {quality} chord on {note}."
    return 0.25 * _faded(np.sum(parts, axis=0), t), text, "en"


def _melody(dice: random.Random, t: Samples, duration_s: float) -> _Made:
    notes = [dice.choice(list(_NOTES)) for _ in range(4)]
    place = np.minimum((t / duration_s * len(notes)).astype(int), len(notes) - 1)
    frequency = np.array([_NOTES[note] for note in notes])[place]
    within_s = t - place * duration_s / len(notes)
    samples = 0.5 * np.sin(2 * np.pi * frequency * t) * np.exp(-4 * within_s)
    text = f"Four plucked notes, one after another, in {duration_s:g} seconds: {', '.join(notes[:-1])} and {notes[-1]}."
    return samples, text, "en"


def _sweep(dice: random.Random, t: Samples, duration_s: float) -> _Made:
    low, high = dice.choice((100, 200, 300)), dice.choice((1000, 2000, 4000))
    rises = dice.random() < 0.5
    start, end = (low, high) if rises else (high, low)
    # A chirp whose frequency changes by the same factor in equal times.
    growth = math.log(end / start) / duration_s
    samples = 0.5 * _faded(np.sin(2 * np.pi * start * np.expm1(growth * t) / growth), t)
    verb = "rises" if rises else "falls"
    return samples, f"A tone {verb} smoothly from {start} Hz to {end} Hz within {duration_s:g} seconds.", "en"


def _noise(dice: random.Random, t: Samples, duration_s: float) -> _Made:
    color = dice.choice(("white", "brown"))
    louder = dice.random() < 0.5
    samples = np.random.default_rng(dice.getrandbits(32)).uniform(-1, 1, len(t))
    if color == "brown":
        samples = np.cumsum(samples)
        samples -= np.linspace(samples[0], samples[-1], len(samples))
        samples /= np.abs(samples).max()
    change = t / duration_s if louder else 1 - t / duration_s
    becomes = "louder" if louder else "softer"
    return 0.4 * samples * change, f"{color.title()} noise that becomes {becomes} during {duration_s:g} seconds.", "en"


def _rhythm(dice: random.Random, t: Samples, duration_s: float) -> _Made:
    per_minute = dice.choice((120, 180, 240))
    beat_s = 60 / per_minute
    clicks = math.ceil(duration_s / beat_s - 1e-9)
    samples = 0.7 * np.sin(2 * np.pi * 1000 * t) * np.exp(-60 * np.mod(t, beat_s))
    return samples, f"{clicks} short clicks at {per_minute} beats per minute, the first one at the very start.", "en"


def _faded(samples: Samples, t: Samples) -> Samples:
    """Without the click that a sudden start or end makes: 20 ms up, 20 ms down."""
    ramp: Samples = np.minimum(1, np.minimum(t, t[-1] - t) / 0.02)
    return samples * ramp


_KINDS = (_tone, _chord, _melody, _sweep, _noise, _rhythm)

"""How fast each codec encodes on one core, beside the library's own call on the same tensors.

    python benchmarks/codecs.py

ours: `codec.encode(signal)`, from the array that a record's file decodes to, to local ids.
library: the network of transformers on the tensors that `codec.encode` makes of that signal. Signals have the codec's
own size and rate already, so that both arms do the same work; what resizing and resampling cost stands beside it.
Times are CPU time of one thread, which other work on the machine disturbs least. Weights are random; the work does not
depend on them.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import soxr
import torch
import yaml
from harness import ROOT, Median, interleaved, median_of, progress, project_environment, run_timed, verdict, write_block

from mmhydra.config.codecs import AudioCodec, ImageCodec, VideoCodec
from mmhydra.data.codecs import Codec, build_codec
from mmhydra.data.codecs.pictures import square, to_network
from mmhydra.data.records.media import Clip, Picture, Sound

FULL = {"vqgan_f16_16384": ImageCodec, "encodec_24khz": AudioCodec, "video_vq_4096": VideoCodec}
DEMO = {"image_demo": ImageCodec, "audio_demo": AudioCodec, "video_demo": VideoCodec}
GOAL_RATIO = 1.05  # ours at most so many times as long as the library: at least 0.95 of its speed
MIN_ARM_S = 0.1  # a faster call is repeated within an arm
SOUND_S = 10.0
CLIP_STEPS = 4
PICTURE_PIXELS = (384, 512)  # of the picture whose resizing is timed
SOUND_HZ = 44100  # of the sound whose resampling is timed

Call = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One codec: both arms, what one call encodes, and the resizing or resampling that such a signal may need."""

    name: str
    codec: Codec
    ours: Call
    bare: Call
    fitting: Call
    amount: float  # pictures, or seconds of signal
    unit: str


@dataclass(frozen=True)
class Measured:
    """Seconds a call; ratios of pairs."""

    ours_s: float
    bare_s: float
    fitting_s: float
    ratio: Median
    num_pairs: int


def main() -> None:
    """Measures, checks that both arms give the same codes, writes the result block."""
    arguments = _arguments()
    torch.set_num_threads(1)
    imports = [import_seconds(module) for module in ("torch", "mmhydra.data.codecs")]
    rows = []
    with torch.inference_mode():
        for name, section in {**DEMO, **FULL}.items():
            case = make_case(
                name, section.model_validate(yaml.safe_load((ROOT / f"conf/codec/{name}.yaml").read_text()))
            )
            measured = measure(case, arguments.pairs if name in DEMO else arguments.full_pairs)
            progress(f"{name}: ours {measured.ours_s:.4f} s, library {measured.bare_s:.4f} s")
            rows.append(_row(case, measured))
    write_block("codecs", "codecs.py", sys.argv[1:], report(rows, imports))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15, help="pairs of runs of the small codecs")
    parser.add_argument("--full-pairs", type=int, default=3, help="pairs of runs of the full-size codecs")
    return parser.parse_args()


def make_case(name: str, settings: ImageCodec | AudioCodec | VideoCodec) -> Case:
    """Signals for one codec, and its two arms."""
    codec: Any = build_codec(settings)
    draw = np.random.default_rng(0)
    model = codec.model
    if isinstance(settings, ImageCodec):
        picture: Picture = draw.integers(0, 256, (settings.resolution, settings.resolution, 3), dtype=np.uint8)
        large: Picture = draw.integers(0, 256, (*PICTURE_PIXELS, 3), dtype=np.uint8)
        pixels = to_network(picture[None])
        bare: Call = lambda: model.encode(pixels).image_tokens  # noqa: E731
        signal: Any = picture
        fitting: Call = lambda: square(large, settings.resolution, settings.resample)  # noqa: E731
        amount, unit = 1.0, "picture"
    elif isinstance(settings, AudioCodec):
        samples = draw.normal(0, 0.1, round(SOUND_S * settings.sample_rate_hz)).astype(np.float32)
        values = torch.from_numpy(samples)[None, None]
        bandwidth = model.config.target_bandwidths[-1]
        bare = lambda: model.encode(values, bandwidth=bandwidth).audio_codes[0, 0].T  # noqa: E731
        signal = Sound(samples[None], settings.sample_rate_hz)
        stereo = draw.normal(0, 0.1, (2, round(SOUND_S * SOUND_HZ))).astype(np.float32)
        fitting = lambda: soxr.resample(stereo.mean(axis=0), SOUND_HZ, settings.sample_rate_hz)  # noqa: E731
        amount, unit = SOUND_S, "s of sound"
    else:
        num_frames = CLIP_STEPS * settings.tubelet[0]
        frames = draw.integers(0, 256, (num_frames, settings.resolution, settings.resolution, 3), dtype=np.uint8)
        tensors = to_network(frames)[None]
        bare = lambda: bare_video(model, tensors)  # noqa: E731
        signal = Clip(frames, settings.frame_rate)
        large_frames = draw.integers(0, 256, (num_frames, *PICTURE_PIXELS, 3), dtype=np.uint8)
        fitting = lambda: [square(frame, settings.resolution, settings.resample) for frame in large_frames]  # noqa: E731
        amount, unit = CLIP_STEPS * settings.step_s, "s of video"
    ours: Call = lambda: codec.encode(signal)  # noqa: E731
    require_same_codes(codec, ours(), bare())
    return Case(name, codec, ours, bare, fitting, amount, unit)


def bare_video(model: Any, frames: torch.Tensor) -> torch.Tensor:
    """Codes of a clip as the modules of transformers give them; with one codebook by Emu3VQVAE.encode itself."""
    if not hasattr(model.quantize, "layers"):
        return model.encode(frames, image_sizes=[[10**6, 10**6]]).image_tokens[0]
    latents = model.quant_conv(model.encoder(frames).permute(0, 2, 1, 3, 4))
    return model.quantize.encode(latents.flatten(2))[:, 0].T


def require_same_codes(codec: Codec, ids: np.ndarray, codes: torch.Tensor) -> None:
    """Both arms have to give the same result, or the comparison means nothing."""
    flat = codes.reshape(-1, codec.num_codebooks).numpy() + np.arange(codec.num_codebooks) * codec.codebook_size
    assert (ids == flat.reshape(-1)).all(), f"{codec.modality}: the arms give different codes"


def measure(case: Case, num_pairs: int) -> Measured:
    """Interleaved pairs of both arms."""
    once = seconds_of(case.bare, 1)  # also the warm-up: make_case has called both
    repeats = max(1, round(MIN_ARM_S / once))
    pairs = list(interleaved(num_pairs, lambda: seconds_of(case.ours, repeats), lambda: seconds_of(case.bare, repeats)))
    fitting_s = statistics.median(seconds_of(case.fitting, 1) for _ in range(5))
    ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Measured(ours, bare, fitting_s, median_of([a / b for a, b in pairs]), num_pairs)


def seconds_of(call: Call, repeats: int) -> float:
    """Mean CPU time of a call."""
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats


def import_seconds(module: str) -> float:
    """Median CPU time of a process that imports a module and ends."""
    command = [sys.executable, "-c", f"import {module}"]
    return statistics.median(run_timed(command, project_environment(), ROOT).cpu_s for _ in range(3))


def _row(case: Case, measured: Measured) -> str:
    speed = f"{case.amount / measured.ours_s:.3g}"
    return (
        f"| {case.name} | {case.amount:.3g} {case.unit} | {len(case.ours())} | {measured.ours_s * 1000:.1f} | "
        f"{measured.bare_s * 1000:.1f} | {measured.ratio.text()}, {verdict(measured.ratio, GOAL_RATIO)} | "
        f"{speed} {'a second' if case.unit == 'picture' else 'x real time'} | {measured.fitting_s * 1000:.1f} | "
        f"{measured.num_pairs} |"
    )


def report(rows: list[str], imports: list[float]) -> str:
    """The body of the result block."""
    return "\n".join(
        [
            f"CPU time of one thread, transformers {version('transformers')}, float32, random weights; medians. "
            "The ratio says how many times as long as the library's own call on the same tensors `codec.encode` takes, "
            f"from interleaved pairs with the 95% bootstrap interval. Goal: at most {GOAL_RATIO}.",
            "",
            "| codec | one call encodes | ids | ours, ms | library, ms | ratio, goal | speed | fitting, ms | pairs |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            "Fitting comes on top when a signal has another size or rate: here pictures and frames of "
            f"{PICTURE_PIXELS[1]} x {PICTURE_PIXELS[0]} pixels, sound of {SOUND_HZ} Hz with two channels.",
            "",
            f"`import mmhydra.data.codecs` takes {imports[1]:.1f} s of CPU time, of which {imports[0]:.1f} s are "
            "`import torch` and most of the rest is the base class of all models of transformers.",
        ]
    )


if __name__ == "__main__":
    main()

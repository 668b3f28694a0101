"""Videos: files by FFmpeg (PyAV), animations by Pillow, or a list of images that are the frames."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import av.error
import numpy as np

from mmhydra.config.filters import MediaLimits
from mmhydra.data.records.containers import cut_off
from mmhydra.data.records.images import check_pixels, constant_rate, load_animation, load_picture
from mmhydra.data.records.media import Budget, Clip, Picture
from mmhydra.data.records.reasons import BadRecord, said_by
from mmhydra.data.records.sounds import check_seconds

# FFmpeg also reads lists of other files and addresses (HLS, DASH, concat, SDP): none of them is opened.
_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,ivf,ogg,flv,asf,mxf,dv,nut"
_CONFINED = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
_NOMINAL_RATE = 25.0  # frames/s of a stream that states none and has a single frame


def load_clip(paths: Sequence[Path], frame_rate: float | None, limits: MediaLimits, budget: Budget) -> Clip:
    """One video file or animation, or several images at `frame_rate`. Raises BadRecord."""
    if len(paths) > 1:
        clip = _from_images(paths, frame_rate, limits, budget)
    elif _is_animation(paths[0]):
        clip = load_animation(paths[0], limits, budget)
    else:
        clip = _from_video(paths[0], limits, budget)
    check_seconds(paths[0], clip.seconds, limits)
    return clip


def _is_animation(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(12)
    return head[:4] == b"GIF8" or head[:8] == b"\x89PNG\r\n\x1a\n" or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


def _from_images(paths: Sequence[Path], frame_rate: float | None, limits: MediaLimits, budget: Budget) -> Clip:
    if frame_rate is None:
        raise BadRecord("missing_frame_rate", f"{len(paths)} frames and no metadata.frame_rate")
    if len(paths) > limits.max_frames:
        raise BadRecord("too_many_frames", f"{len(paths)} frames, max_frames is {limits.max_frames}")
    frames: list[Picture] = []
    for path in paths:
        frames.append(load_picture(path, limits, budget))
        if frames[-1].shape != frames[0].shape:
            sizes = [f"{frame.shape[1]} x {frame.shape[0]}" for frame in (frames[0], frames[-1])]
            raise BadRecord("frame_size_mismatch", f"{path.name}: {sizes[1]}, the first is {sizes[0]}")
    return Clip(np.stack(frames), frame_rate)


def _from_video(path: Path, limits: MediaLimits, budget: Budget) -> Clip:
    try:
        if cut := cut_off(path):
            raise BadRecord("corrupt_video", f"{path.name}: cut off: {cut}")
        with av.open(str(path), options=_CONFINED, metadata_errors="replace") as container:
            if not container.streams.video:
                raise BadRecord("corrupt_video", f"{path.name}: no video stream")
            stream = container.streams.video[0]
            if not stream.codec_context:
                raise BadRecord("corrupt_video", f"{path.name}: a codec that FFmpeg does not know")
            stream.thread_type = "NONE"  # builds are parallel over processes
            stream.codec_context.options = {"err_detect": "explode"}
            rate = float(stream.average_rate or stream.guessed_rate or _NOMINAL_RATE)
            stated = stream.frames
            if stated > limits.max_frames:
                raise BadRecord("too_many_frames", f"{path.name}: {stated}, max_frames is {limits.max_frames}")
            frames: list[Picture] = []
            times: list[float] = []
            for frame, time_s in _frames(path, container, limits, budget):
                frames.append(frame)
                times.append(len(times) / rate if time_s is None else time_s)
    except (av.error.FFmpegError, OSError, ValueError, EOFError, OverflowError) as error:
        raise BadRecord("corrupt_video", said_by(error, path)) from error
    if not frames or len(frames) < stated:
        raise BadRecord("corrupt_video", f"{path.name}: {len(frames)} of {stated or 'no'} frames can be decoded")
    return _clip(path, frames, np.array(times), rate, limits, budget)


def _frames(
    path: Path, container: "av.container.InputContainer", limits: MediaLimits, budget: Budget
) -> Iterator[tuple[Picture, float | None]]:
    """Decoded frames with their time in seconds, never more than the limits allow."""
    num_frames, first_s, size = 0, None, None
    for packet in container.demux(video=0):
        if packet.is_corrupt:
            raise BadRecord("corrupt_video", f"{path.name}: a damaged packet")
        for frame in packet.decode():
            num_frames += 1
            if num_frames > limits.max_frames:
                raise BadRecord("too_many_frames", f"{path.name}: more than max_frames = {limits.max_frames}")
            if size is None:
                check_pixels(path, frame.width, frame.height, limits)
                size, first_s = (frame.width, frame.height), frame.time
            if frame.is_corrupt or (frame.width, frame.height) != size:
                raise BadRecord("corrupt_video", f"{path.name}: frame {num_frames} is damaged or of another size")
            if frame.time is not None and frame.time - (first_s or 0) > limits.max_seconds:
                raise BadRecord("too_long", f"{path.name}: more than max_seconds = {limits.max_seconds:g}")
            budget.take(frame.width * frame.height * 3)
            yield np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8), frame.time


def _clip(
    path: Path,
    frames: list[Picture],
    times_s: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    rate: float,
    limits: MediaLimits,
    budget: Budget,
) -> Clip:
    times_s = times_s - times_s[0]
    if (np.diff(times_s) <= 0).any():  # timing that says nothing: as many frames a second as the stream states
        times_s = np.arange(len(frames)) / rate
    end_s = float(times_s[-1]) + (float(np.median(np.diff(times_s))) if len(frames) > 1 else 1 / rate)
    return constant_rate(path, np.stack(frames), times_s, end_s, limits, budget)

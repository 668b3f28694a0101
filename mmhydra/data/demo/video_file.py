"""Frames to video files whose bytes depend on the frames alone."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray


def write_video(path: Path, frames: NDArray[np.uint8], frame_rate: int) -> None:
    """Writes frames, uint8 [time, height, width, 3], at `frame_rate` frames/s.

    `.mkv`: FFV1, lossless. `.mp4`: MPEG-4 part 2, which is small and changes the colors a little.
    """
    codec, pixels = {".mkv": ("ffv1", "bgr0"), ".mp4": ("mpeg4", "yuv420p")}[path.suffix]
    # bitexact: no random ids, no time of day, no version of the library in the file.
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=frame_rate)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixels
        stream.time_base = Fraction(1, frame_rate)
        context = stream.codec_context
        context.thread_count = 1  # how a frame is cut into slices follows the number of threads
        context.options = {"flags": "+bitexact"} | ({"qscale": "2"} if codec == "mpeg4" else {})
        if codec == "mpeg4":
            context.bit_rate = 2_000_000
        for index, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())

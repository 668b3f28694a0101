"""Why a record is refused: short words that are counted, each with what it means."""

from pathlib import Path

# Of the line or row itself, and of what it says.
RECORD_REASONS = {
    "line_too_long": "a line of more bytes than MAX_LINE_BYTES",
    "bad_encoding": "bytes that are no UTF-8, or an escape of half a surrogate pair",
    "nul_character": "a NUL in the line or in one of its strings",
    "truncated_line": "the file's last line ends in the middle of a record",
    "not_json": "a line that is no JSON, or nested too deep",
    "not_an_object": "JSON that is no object",
    "duplicate_key": "one key twice in one object: which value is meant?",
    "not_finite": "NaN or Infinity, or a number beyond a float's range",
    "schema": "a field that is missing, unknown or of a wrong type",
    "unknown_modality": "a modality that is not text, image, audio or video",
    "bad_path": "a data path that is empty, has '..', is an address, or leads out of the folder and limits.roots",
    "modality_mismatch": "modalities that do not match the data that is there",
    "placeholder_mismatch": "more or fewer <|image|> placeholders in the text than images",
}
# Of the files that a record names.
MEDIA_REASONS = {
    "missing_file": "a file that is not there, cannot be read, or is no regular file",
    "empty_file": "a file of zero bytes",
    "empty_text": "text of white space alone",
    "corrupt_text": "text that is no UTF-8, or holds a NUL",
    "text_too_large": "more bytes of text than limits.max_text_bytes",
    "corrupt_captions": "captions that cannot be read, or that end before they start",
    "corrupt_image": "an image that is no image, cut off, or damaged",
    "corrupt_audio": "a sound that is no sound, cut off, or damaged",
    "corrupt_video": "a video that is no video, cut off, or damaged",
    "too_few_pixels": "an image or frame of fewer pixels than limits.min_pixels",
    "too_many_pixels": "an image or frame of more pixels than limits.max_pixels",
    "too_short": "less sound or video than limits.min_seconds",
    "too_long": "more sound or video than limits.max_seconds",
    "too_many_frames": "a video of more frames than limits.max_frames",
    "media_too_large": "more decoded bytes in one record than limits.max_decoded_mb",
    "sample_rate_too_low": "a sound of fewer samples a second than limits.min_sample_rate_hz",
    "sample_rate_mismatch": "another sample rate than metadata.sample_rate_hz",
    "duration_mismatch": "another duration than metadata.duration_seconds",
    "resolution_mismatch": "another width or height than metadata.resolution",
    "missing_frame_rate": "a list of frames without metadata.frame_rate",
    "frame_size_mismatch": "frames of one video that are not all of one size",
}
REASONS = RECORD_REASONS | MEDIA_REASONS


def said_by(error: Exception, path: Path) -> str:
    """What a library says of a file, without the folder: the same in a copy of the data elsewhere."""
    text = str(error) or type(error).__name__
    return f"{path.name}: {text.replace(str(path), path.name)}"


class BadRecord(Exception):
    """One record is refused: `reason` is a key of REASONS, `detail` says what exactly is wrong, for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(reason, detail)  # both, so that it survives pickling between processes
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"

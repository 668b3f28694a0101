"""Why the build itself refuses a record that could be read and that no filter refused."""

from mmhydra.data.filters.reasons import FILTER_REASONS
from mmhydra.data.records.reasons import REASONS

DUPLICATE_ID, TEMPLATE_MISMATCH, NOT_ENCODED = "duplicate_id", "template_mismatch", "not_encoded"

BUILD_REASONS = {
    TEMPLATE_MISMATCH: "no template of the source takes what the record has",
    DUPLICATE_ID: "the unique_id of an earlier record, of whichever source",
    NOT_ENCODED: "a signal that its codec can't take",
    "no_text": "a template that needs text, of which there is none",
    "no_image": "a template that needs an image, and there is none",
    "no_audio": "a template that needs a sound, and there is none; or captions with times, and there are several",
    "no_video": "a template that needs a video, and there is none",
    "no_captions": "a template that needs captions with times, and there are none",
    "missing_camera": "a template that needs a camera that the record lacks",
    "camera_mismatch": "cameras of which some are longer than others, in steps of video",
    "bad_codes": "ids that are outside of their modality's range, or no whole number of units",
    "bad_caption_time": "a caption whose begin is no number of seconds",
}
_ALL = REASONS | FILTER_REASONS | BUILD_REASONS


def known(reason: str) -> str:
    """A reason that is about to be counted: each has its line in a table."""
    assert reason in _ALL, reason
    return reason

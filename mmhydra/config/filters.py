"""Limits on the media of records, and the filters of a build's chain. What they do: docs/filters.md."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from mmhydra.config.base import Count, Folder, Fraction, PositiveCount, PositiveFloat, Section, kind_of

PiiKind = Literal["email", "phone", "card", "iban", "us_ssn", "cn_resident_id", "ip_address"]
NonNegative = Annotated[float, Field(ge=0)]


class MediaLimits(Section):
    """What a record's media may be; outside of it the record is refused, and counted."""

    max_text_bytes: PositiveCount
    min_pixels: PositiveCount  # width x height of an image or frame
    max_pixels: PositiveCount
    min_seconds: NonNegative  # of sounds and videos
    max_seconds: PositiveFloat
    max_frames: PositiveCount  # decoded of one video
    max_decoded_mb: PositiveFloat  # of one record; decoding takes a few times as much for a moment
    min_sample_rate_hz: PositiveCount
    sample_rate_tolerance_hz: Count  # between metadata and file
    duration_tolerance_s: NonNegative
    # Folders that data paths may lead into, besides that of the record's file: absolute, or relative to that one.
    roots: list[Folder]


class LicenseFilter(Section):
    """Lets licences pass that are on the list: SPDX identifiers, or LicenseRef-... for one's own."""

    kind: Literal["license"]
    allow: Annotated[list[str], Field(min_length=1)]


class PiiFilter(Section):
    """Personal data in texts: the record is refused, or what was found is overwritten by its kind."""

    kind: Literal["pii"]
    find: Annotated[list[PiiKind], Field(min_length=1)]
    # Countries (ISO 3166) whose national phone numbers are looked for; numbers with + always are.
    phone_regions: list[Annotated[str, Field(pattern="^[A-Z]{2}$")]]
    action: Literal["reject", "redact"]


class LanguageFilter(Section):
    """Languages that may pass, as ISO 639-1 codes or what metadata.language says (`python`)."""

    kind: Literal["language"]
    allow: Annotated[list[str], Field(min_length=1)]
    no_model: list[str]  # of these, what metadata.language says counts unchecked: python
    min_confidence: Fraction  # below it the stated language counts
    min_characters: Count  # letters; in shorter texts the stated language counts, `unknown` where there is none


class QualityFilter(Section):
    """Bounds of text and of quality_scores. Records without text or score pass the bounds on them."""

    kind: Literal["quality"]
    min_characters: Count
    max_characters: PositiveCount
    max_symbol_share: Fraction  # characters that are no letter, digit or white space
    min_scores: dict[str, float]
    max_scores: dict[str, float]


class ToxicityFilter(Section):
    """Words of a list."""

    kind: Literal["toxicity"]
    words_file: Folder | None  # one word or phrase a line; null: the list that comes with mmhydra
    max_share: Fraction  # of a text's words


class DecontaminationFilter(Section):
    """Texts that share an n-gram with an evaluation set."""

    kind: Literal["decontamination"]
    files: Annotated[list[Folder], Field(min_length=1)]  # .jsonl: every string in it; else: every line
    num_words: PositiveCount
    num_characters: PositiveCount  # in scripts without spaces between words
    min_words: PositiveCount  # shorter items of an evaluation set are no evidence
    min_characters: PositiveCount


class ExactDuplicatesFilter(Section):
    """Records of equal text and equal decoded media: the first stays."""

    kind: Literal["exact_duplicates"]


class NearDuplicatesFilter(Section):
    """Texts that share most of their shingles (MinHash): the first stays. Records with media are left alone."""

    kind: Literal["near_duplicates"]
    num_perm: Annotated[int, Field(ge=16, le=1024)]
    threshold: Annotated[float, Field(gt=0, lt=1)]  # Jaccard similarity
    shingle_words: PositiveCount
    min_words: PositiveCount  # shorter texts pass


RecordFilter = LicenseFilter | PiiFilter | LanguageFilter | QualityFilter | ToxicityFilter | DecontaminationFilter
DuplicatesFilter = ExactDuplicatesFilter | NearDuplicatesFilter
Filter = Annotated[
    Annotated[LicenseFilter, Tag("license")]
    | Annotated[PiiFilter, Tag("pii")]
    | Annotated[LanguageFilter, Tag("language")]
    | Annotated[QualityFilter, Tag("quality")]
    | Annotated[ToxicityFilter, Tag("toxicity")]
    | Annotated[DecontaminationFilter, Tag("decontamination")]
    | Annotated[ExactDuplicatesFilter, Tag("exact_duplicates")]
    | Annotated[NearDuplicatesFilter, Tag("near_duplicates")],
    Discriminator(
        kind_of,
        custom_error_type="unknown_filter",
        custom_error_message="no such kind of filter; legal: license, pii, language, quality, toxicity, "
        "decontamination, exact_duplicates, near_duplicates",
    ),
]


def chain_problems(filters: Sequence[RecordFilter | DuplicatesFilter]) -> list[str]:
    """What is wrong with the order of a chain; nothing where all is well."""
    kinds = [entry.kind for entry in filters]
    problems = [
        f"filter {kind} is there {n} times; a chain has each once" for kind, n in Counter(kinds).items() if n > 1
    ]
    late = False
    for entry in filters:
        if isinstance(entry, DuplicatesFilter):
            late = True
        elif late:
            problems.append(
                f"filter {entry.kind} stands after a filter of duplicates; duplicates are found among the records that "
                f"all other filters let through, so exact_duplicates and near_duplicates come last"
            )
    if kinds.count("near_duplicates") and "exact_duplicates" in kinds[kinds.index("near_duplicates") :]:
        problems.append("filter exact_duplicates stands after near_duplicates; the cheap one comes first")
    return problems

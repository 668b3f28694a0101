"""Why a filter refuses a record: short words that are counted, each with what it means."""

FILTER_REASONS = {
    "license_missing": "no licence is stated",
    "license_unknown": "a licence that is no SPDX identifier and no known name",
    "license_not_allowed": "a licence that is not on the list",
    "pii": "personal data in a text, where the action is reject, or in unique_id",
    "language_not_allowed": "a language that is not on the list, or `unknown` in a short text without one",
    "language_mismatch": "a text that is surely in another language than metadata.language",
    "language_uncertain": "a text whose language is neither sure nor stated",
    "too_few_characters": "less text than min_characters",
    "too_many_characters": "more text than max_characters",
    "too_many_symbols": "a larger share of symbols than max_symbol_share",
    "score_too_low": "a quality score below min_scores",
    "score_too_high": "a quality score above max_scores",
    "toxic": "a larger share of listed words than max_share",
    "contaminated": "an n-gram that an evaluation set has too",
    "duplicate_exact": "the same text and media as an earlier record",
    "duplicate_near": "nearly the same text as an earlier record",
}

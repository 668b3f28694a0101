"""The language of a text, by py3langid's model of 97 languages."""

from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from mmhydra.config.filters import LanguageFilter
from mmhydra.data.filters.verdict import Verdict
from mmhydra.data.records.media import LoadedRecord
from mmhydra.errors import UserError

_UNKNOWN = "unknown"  # of a text that is too short to tell and states none
_UNSTATED = {"", "und", _UNKNOWN}  # und: ISO 639-2 for undetermined
_ENOUGH = 4000  # characters: more of a text makes it no surer


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def primary(tag: str) -> str:
    """`zh` of `zh-Hans` and `zh_CN`; lower case."""
    return tag.replace("_", "-").partition("-")[0].strip().lower()


class LanguageJudge:
    """A sure finding counts, and has to be what is stated; else what is stated counts."""

    def __init__(self, config: LanguageFilter) -> None:
        self._config = config
        self._allowed = {primary(tag) for tag in config.allow}
        self._no_model = {primary(tag) for tag in config.no_model}
        self._known = set(_identifier().labels)
        if strange := sorted(self._allowed - self._known - self._no_model - {_UNKNOWN}):
            raise UserError(
                f"filter language: allow has {', '.join(strange)}, which the model does not know; type an ISO 639-1 "
                "code such as en, or add it to no_model if metadata.language is to be believed unchecked"
            )

    def judge(self, loaded: LoadedRecord) -> Verdict:
        """The verdict's language is the one that counted; records without text have the stated one."""
        text = loaded.full_text
        tag = loaded.record.metadata.language
        stated = primary(tag) if tag and primary(tag) not in _UNSTATED else None
        if not text and not stated:
            return Verdict()
        if sum(map(str.isalpha, text[:_ENOUGH])) < max(1, self._config.min_characters):
            return self._listed(stated or _UNKNOWN)
        if stated and (stated in self._no_model or stated not in self._known):  # the latter is never on the list
            return self._listed(stated)
        found, confidence = _identifier().classify(text[:_ENOUGH])
        if confidence >= self._config.min_confidence:
            if stated and found != stated:
                return Verdict("language_mismatch", f"{found} ({confidence:.2f}), metadata says {tag}", language=found)
            return self._listed(found)
        if stated:
            return self._listed(stated)
        return Verdict("language_uncertain", f"{found} at {confidence:.2f}, min_confidence is not reached")

    def _listed(self, language: str) -> Verdict:
        if language in self._allowed:
            return Verdict(language=language)
        return Verdict("language_not_allowed", language, language=language)

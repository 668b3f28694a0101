import pytest

from mmhydra.config.filters import LanguageFilter, QualityFilter, ToxicityFilter
from mmhydra.data.filters.language import LanguageJudge
from mmhydra.data.filters.quality import QualityJudge, symbol_share
from mmhydra.data.filters.toxicity import ToxicityJudge
from mmhydra.data.records.media import LoadedRecord
from mmhydra.data.records.record import Record
from mmhydra.errors import UserError

ENGLISH = "The old baker crosses the bridge and tells his friends a long story about the harbour."
GERMAN = "Der alte Bäcker geht über die Brücke und erzählt seinen Freunden eine lange Geschichte."
CHINESE = "老面包师走过小桥，给朋友们讲了一个关于港口的很长很长的故事，大家都听得很认真，很高兴。"  # noqa: RUF001
GIBBERISH = "Qxv zrm plk wuzt ejq kolb nrix tavu qez mirp holz vex nuqa bried sool kwarp"


def loaded(text, scores=None, **metadata):
    record = {"unique_id": "a", "source": "s", "modalities": ["text"], "text": text, "metadata": metadata}
    return LoadedRecord(Record.model_validate({**record, "quality_scores": scores or {}}), text=text)


@pytest.mark.parametrize(
    ("text", "stated", "reason", "language"),
    [
        (ENGLISH, None, None, "en"),
        (ENGLISH, "en-GB", None, "en"),
        (ENGLISH, "de", "language_mismatch", "en"),
        (CHINESE, "zh-Hans", None, "zh"),
        (CHINESE, None, None, "zh"),
        (GERMAN, None, "language_not_allowed", "de"),
        (GERMAN, "de", "language_not_allowed", "de"),
        (GIBBERISH, None, "language_uncertain", None),
        (GIBBERISH, "en", None, "en"),
        ("Hallo", None, None, None),
        ("Hallo", "de", "language_not_allowed", "de"),
        (ENGLISH, "python", None, "python"),
        (ENGLISH, "cobol", "language_not_allowed", "cobol"),
        ("1234567890 " * 20, None, None, None),
    ],
)
def test_language(text, stated, reason, language):
    config = LanguageFilter(kind="language", allow=["en", "zh", "python"], min_confidence=0.6, min_characters=30)
    verdict = LanguageJudge(config).judge(loaded(text, language=stated))
    assert (verdict.reason, verdict.language) == (reason, language)


@pytest.mark.parametrize(
    ("text", "scores", "reason"),
    [
        (ENGLISH, {}, None),
        ("short", {}, "too_few_characters"),
        ("long " * 100, {}, "too_many_characters"),
        ("ab " + "=-" * 10, {}, "too_many_symbols"),
        (CHINESE, {}, None),
        (
            "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
            {},
            None,
        ),  # vowel signs are no symbols
        (ENGLISH, {"snr": 9.9}, "score_too_low"),
        (ENGLISH, {"snr": 10.0, "perplexity": 100.0}, None),
        (ENGLISH, {"perplexity": 100.1}, "score_too_high"),
    ],
)
def test_quality(text, scores, reason):
    config = QualityFilter(
        kind="quality",
        min_characters=8,
        max_characters=200,
        max_symbol_share=0.3,
        min_scores={"snr": 10.0},
        max_scores={"perplexity": 100.0},
    )
    assert QualityJudge(config).judge(loaded(text, scores)).reason == reason


def test_a_record_without_text_passes_the_bounds_of_text():
    config = QualityFilter(
        kind="quality", min_characters=8, max_characters=9, max_symbol_share=0.0, min_scores={}, max_scores={}
    )
    record = Record.model_validate(
        {"unique_id": "a", "source": "s", "modalities": ["image"], "data_paths": {"image": "a.png"}}
    )
    assert QualityJudge(config).judge(LoadedRecord(record)).reason is None


def test_symbol_share():
    assert symbol_share("ab #") == 0.25
    assert symbol_share("äß #") == 0.25


def toxicity(max_share=0.0, words_file=None, folder=None):
    return ToxicityJudge(ToxicityFilter(kind="toxicity", words_file=words_file, max_share=max_share), folder)


@pytest.mark.parametrize(
    ("text", "is_toxic"),
    [
        ("You IDIOT!", True),
        ("Shut  up.", True),
        ("shut_up", True),
        ("They shut the upper door; idiotic, the classic bastardisation.", False),
        ("\uff49\uff44\uff49\uff4f\uff54", True),  # full width
        ("你这个混蛋！", True),  # noqa: RUF001
        ("A fine day.", False),
        ("", False),
    ],
)
def test_toxicity(text, is_toxic):
    verdict = toxicity().judge(loaded(text))
    assert (verdict.reason == "toxic") == is_toxic
    assert "idiot" not in verdict.detail.lower()


def test_toxicity_by_share(tmp_path):
    (tmp_path / "words.txt").write_text("# a comment\nbad word\n\nWorse\n", encoding="utf-8")
    judge = toxicity(0.25, "words.txt", tmp_path)
    assert judge.judge(loaded("a bad word in a text of eight words")).reason is None
    assert judge.judge(loaded("worse and a bad word in eight words")).reason == "toxic"


def test_word_lists_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"cannot read words_file nowhere\.txt .*; give a text file"):
        toxicity(0.0, "nowhere.txt", tmp_path)
    (tmp_path / "empty.txt").write_text("#\n")
    with pytest.raises(UserError, match=r"words_file empty\.txt has no word in it"):
        toxicity(0.0, "empty.txt", tmp_path)

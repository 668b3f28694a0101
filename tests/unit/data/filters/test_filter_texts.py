import pytest

from mmhydra.config.filters import LanguageFilter, QualityFilter, ToxicityFilter
from mmhydra.data.filters.language import LanguageJudge
from mmhydra.data.filters.quality import QualityJudge, symbol_share
from mmhydra.data.filters.toxicity import ToxicityJudge
from mmhydra.data.filters.words import words_of
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
        ("Hallo", None, "language_not_allowed", "unknown"),
        ("Hallo", "en", None, "en"),
        ("Hallo", "de", "language_not_allowed", "de"),
        (ENGLISH, "python", None, "python"),
        (ENGLISH, "cobol", "language_not_allowed", "cobol"),
        (GERMAN, "unknown", "language_not_allowed", "de"),
        (GERMAN, "und", "language_not_allowed", "de"),
        ("1234567890 " * 20, None, "language_not_allowed", "unknown"),
        ("", None, None, None),
    ],
)
def test_language(text, stated, reason, language):
    verdict = language_judge("en", "zh", "python").judge(loaded(text, language=stated))
    assert (verdict.reason, verdict.language) == (reason, language)


def language_judge(*allow):
    config = LanguageFilter(
        kind="language", allow=list(allow), no_model=["python"], min_confidence=0.6, min_characters=30
    )
    return LanguageJudge(config)


def test_short_texts_without_a_language_pass_where_they_are_listed():
    verdict = language_judge("en", "unknown").judge(loaded("Hallo"))
    assert (verdict.reason, verdict.language) == (None, "unknown")


def test_a_name_that_no_model_knows_is_no_way_around_it():
    with pytest.raises(
        UserError, match=r"allow has pyton, which the model does not know; type .* or add it to no_model"
    ):
        language_judge("en", "pyton")


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


HINDI = "\u092a\u0941\u0930\u093e\u0928\u093e \u092a\u0941\u0932 \u0928\u0926\u0940 \u0915\u0947 \u090a\u092a\u0930"
ARABIC = "\u0627\u0644\u062c\u0650\u0633\u0652\u0631\u064f \u0627\u0644\u0642\u064e\u062f\u0650\u064a\u0645\u064f"


@pytest.mark.parametrize(
    "text", [HINDI, ARABIC, "nai\u0308ve cafe\u0301", "t\u00eate-\u00e0-t\u00eate".replace("-", " ")]
)
def test_marks_belong_to_their_words(text):
    assert len(words_of(text)) == len(text.split())


@pytest.mark.parametrize("inside", ["\u00ad", "\u200b", "\u200d", "\ufeff", "\u2060", "\ufe0f", "\u034f"])
def test_what_nobody_sees_parts_no_words(inside):
    assert words_of(inside.join("The old bridge")) == ["the", "old", "bridge"]


def test_text_in_ascii_has_the_same_words_as_part_of_another():
    text = "".join(map(chr, range(128))) + " shut_up 3.14 x86-64 a1b2"
    assert words_of(f"{text} \u00e9") == [*words_of(text), "\u00e9"]


def test_placeholders_are_no_words():
    assert words_of("The <|image|> old<|image|>bridge") == ["the", "old", "bridge"]


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

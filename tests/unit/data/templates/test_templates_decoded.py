"""A document as people read it, and its signals as a codec takes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhydra.data.shards.document import Document, from_json, to_json
from mmhydra.data.templates import EncodedMedia, describe, signals, to_text
from mmhydra.data.vocabulary import VocabularyError

FORM = "<|image_start|>{image}<|image_end|>{text}<|audio_start|>{audio}<|audio_end|>"
MEDIA = EncodedMedia(image=([1, 2], [3, 4]), audio=([5, 300], [6, 301]), units={"audio": 2})


@pytest.fixture
def parts(renderer, vocabulary, tokenizer):
    _, document = renderer(FORM, ["text"]).render("id", MEDIA, "Hé, <|image|>")
    return describe(document, vocabulary, tokenizer)


def test_one_string_to_read(parts):
    whole = (
        "<|image_start|><image 2 ids><|image_end|><|image_start|><image 2 ids><|image_end|>Hé, <|image|>"
        "<|audio_start|><audio 2 ids><|audio_end|><|audio_start|><audio 2 ids><|audio_end|><|endoftext|>"
    )
    assert to_text(parts, 1000) == to_text(parts, len(whole)) == whole
    for length in range(1, len(whole)):
        assert to_text(parts, length) == f"{whole[: length - 1]}…"
    assert to_text([], 10) == ""


def test_signals_for_a_codec(parts):
    assert [(signal.modality, signal.name, signal.ids.tolist()) for signal in signals(parts)] == [
        ("image", "", [1, 2]),
        ("image", "", [3, 4]),
        ("audio", "", [5, 300]),
        ("audio", "", [6, 301]),
    ]


@given(text=st.text(min_size=1, max_size=80))
def test_any_text_is_decoded_exactly(renderer, vocabulary, tokenizer, text):
    _, document = renderer("{text}").render("id", text=text)
    stored = Document(document.ids.astype(np.uint32).astype(np.int64), from_json(to_json(document.segments)))
    part, end = describe(stored, vocabulary, tokenizer)
    assert (part.modality, part.text, end.text) == ("text", text, "<|endoftext|>")
    assert tokenizer.decode(part.ids.tolist()) == text


def test_ids_outside_the_vocabulary_are_refused(vocabulary, tokenizer):
    document = Document(np.array([10**6]), from_json([["text", 0, 1, 1, True, -1]]))
    with pytest.raises(VocabularyError, match="id 1000000 is not in the vocabulary"):
        describe(document, vocabulary, tokenizer)

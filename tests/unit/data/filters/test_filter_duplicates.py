import random

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH

from mmhydra.config.filters import ExactDuplicatesFilter, NearDuplicatesFilter
from mmhydra.data.filters.duplicates import Deduplicator
from mmhydra.data.filters.fingerprint import exact_key, signature
from mmhydra.data.records.media import Clip, LoadedRecord, Sound
from mmhydra.data.records.record import Record

EXACT = ExactDuplicatesFilter(kind="exact_duplicates")
NEAR = NearDuplicatesFilter(kind="near_duplicates", num_perm=128, threshold=0.7, shingle_words=2, min_words=10)
RECORD = Record(unique_id="a", source="s", modalities=("text",), text="x")


def loaded(text=None, **media):
    return LoadedRecord(RECORD, text=text, **media)


def words(draw, number):
    return [f"w{draw.randrange(5000)}" for _ in range(number)]


def test_exact_key_is_of_content():
    picture, sound = np.zeros((4, 6, 3), np.uint8), Sound(np.zeros((1, 8), np.float32), 8000)
    same = exact_key(loaded("Straße  und\nBrücke"))
    assert len(same) == 16
    assert exact_key(loaded("Straße  und\nBru\u0308cke")) == same
    others = [
        loaded("Straße und\nBrücke"),
        loaded("straße  und\nbrücke"),
        loaded("Straße  und\nBrücke\n"),
        loaded(None, images=(picture,)),
        loaded(None, images=(picture.reshape(6, 4, 3),)),
        loaded(None, images=(picture, picture)),
        loaded(None, sounds=(sound,)),
        loaded(None, sounds=(Sound(sound.samples, 16_000),)),
        loaded(None, clips={"video": Clip(picture[None], 8.0)}),
        loaded(None, clips={"camera_front": Clip(picture[None], 8.0)}),
        loaded("x", images=(picture,)),
        loaded(None),
    ]
    assert len({same, *map(exact_key, others)}) == len(others) + 1


def test_signature_is_datasketch_s():
    text = " ".join(words(random.Random(1), 40))
    made = signature(loaded(text), NEAR)
    assert made.dtype == np.uint32
    assert made.shape == (128,)
    assert (signature(loaded(text.upper() + " !"), NEAR) == made).all()


@pytest.mark.parametrize("between", [" \u6865 ", "\u00ad", "\u200b", " <|image|> "])
def test_strangers_between_words_do_not_hide_a_duplicate(between):
    text = words(random.Random(1), 40)
    made = signature(
        loaded(
            between.join(text)
            if between.isspace() or " " in between
            else " ".join(word[:2] + between + word[2:] for word in text)
        ),
        NEAR,
    )
    assert (made == signature(loaded(" ".join(text)), NEAR)).mean() > 0.9


def test_texts_of_which_no_shingle_can_be_made_are_not_alike():
    config = NEAR.model_copy(update={"min_words": 2, "shingle_words": 5})
    assert signature(loaded("one two three 古老的"), config) is None


def test_short_texts_and_records_with_media_have_no_signature():
    text = " ".join(words(random.Random(1), 40))
    assert signature(loaded("one two three"), NEAR) is None
    assert signature(loaded(text, images=(np.zeros((4, 4, 3), np.uint8),)), NEAR) is None


def test_signatures_estimate_similarity_also_of_long_texts():
    draw = random.Random(2)
    base = words(draw, 12_000)
    other = base[:9000] + words(draw, 3000)
    one, two = (signature(loaded(" ".join(text)), NEAR) for text in (base, other))
    assert (one == two).mean() == pytest.approx(9000 / 15_000, abs=0.13)


def test_first_one_stays():
    dedup = Deduplicator([EXACT, NEAR])
    draw = random.Random(3)
    text = words(draw, 60)
    texts = [text, words(draw, 60), text, [*text[:-2], "x"], text[:30] + words(draw, 30)]
    fed = [
        dedup.feed(10 + index, exact_key(made), signature(made, NEAR))
        for index, made in enumerate(loaded(" ".join(text)) for text in texts)
    ]
    assert fed == [None, None, ("duplicate_exact", 10), ("duplicate_near", 10), None]


def test_only_what_is_configured():
    made = loaded(" ".join(words(random.Random(4), 40)))
    for filters, expected in (([], None), ([EXACT], "duplicate_exact"), ([NEAR], "duplicate_near")):
        dedup = Deduplicator(filters)
        dedup.feed(0, exact_key(made), signature(made, NEAR))
        found = dedup.feed(1, exact_key(made), signature(made, NEAR))
        assert found == (expected and (expected, 0))
    assert Deduplicator([EXACT, NEAR]).feed(0, None, None) is None


def test_near_duplicates_are_those_of_datasketch():
    draw = np.random.default_rng(5)
    signatures = [draw.integers(0, 2**32, 128, dtype=np.uint32) for _ in range(60)]
    for base in range(60):  # shares of 0.5 to 1 of an earlier one
        mask = draw.random(128) < 0.5 + base / 120
        signatures.append(np.where(mask, signatures[base], draw.integers(0, 2**32, 128, dtype=np.uint32)))
    lsh = MinHashLSH(threshold=NEAR.threshold, num_perm=128)
    kept, expected = {}, []
    for index, values in enumerate(signatures):
        made = MinHash(num_perm=128, hashvalues=values, scheme="affine32")
        near = sorted(n for n in lsh.query(made) if kept[n].jaccard(made) >= NEAR.threshold)
        expected.append(near[0] if near else None)
        if not near:
            kept[index] = made
            lsh.insert(index, made)
    dedup = Deduplicator([NEAR])
    fed = [dedup.feed(index, None, values) for index, values in enumerate(signatures)]
    assert [found and found[1] for found in fed] == expected
    assert 20 < sum(found is not None for found in fed) < 55


def test_pages_of_one_template_are_not_all_compared():
    # Quadratic without a bound: 0.64 alike pairwise, threshold 0.7.
    draw = np.random.default_rng(6)
    template = draw.integers(0, 2**32, 128, dtype=np.uint32)
    dedup = Deduplicator([NEAR])
    for index in range(3000):
        other = draw.integers(0, 2**32, 128, dtype=np.uint32)
        dedup.feed(index, None, np.where(draw.random(128) < 0.8, template, other))
    longest = max(len(rows) for bucket in dedup._near._buckets for rows in bucket.values() if isinstance(rows, list))
    assert longest == 100

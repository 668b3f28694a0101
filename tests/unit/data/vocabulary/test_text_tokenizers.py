"""Text comes back as it was; what does not give it back, does not fit or is not there is refused."""

import hashlib
import json
import pickle
import re
import sys
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from mmhydra.config.tokens import Tokens
from mmhydra.data.vocabulary import (
    VocabularyError,
    check_exact,
    load_tokenizer,
    open_tokenizer,
    train_bpe,
    vocabulary_digest,
)
from mmhydra.data.vocabulary.protocol import EXACT_PROBES

HELLO = "Hello, World! It's 3.14."
TEXT = "The quick brown fox, naïve café 中文 <|endoftext|>\r\n\x00"
PIECES = ["<|endoftext|>", "<|im_start|>", "<|", "|>", "\r\n", "\x00", " ", "\t", "\n", "'s", "1", "a", "\u6c49"]
PIECES += ["\u00e9", "e\u0301", "\u2581", "\u0120", "\ufeff", "\U0001f469\u200d\U0001f467", "\U0010ffff"]
ANY = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=60).map("".join))


@pytest.fixture(params=["bpe", "qwen"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


@given(text=ANY)
@example(text="")
@example(text="<|endoftext|>")
@example(text=" " * 5000 + "\n" * 5000)
def test_the_trained_bpe_gives_any_text_back(bpe, text):
    assert bpe.decode(bpe.encode(text)) == text


@given(text=ANY)
@example(text="")
@example(text="<|endoftext|><|im_start|>")
@example(text="e\u0301 \u212b \ufb01")  # Qwen's own code would bring it to NFC
def test_qwen_gives_any_text_back(qwen, text):
    ids = qwen.encode(text)
    assert qwen.decode(ids) == text
    assert all(0 <= number < 151_643 for number in ids)


def test_known_ids_of_qwen(qwen):
    """Bytes come first in its table, by their printable characters; the rest is what dashscope's own class gives."""
    assert qwen.num_ids == 151_643
    assert qwen.encode("!") == [0]
    assert qwen.encode("hello world") == [14990, 1879]
    assert qwen.encode("\u4f60\u597d\uff0c\u4e16\u754c") == [108386, 3837, 99489]
    assert len(qwen.encode("<|endoftext|>")) > 1


LINES = st.lists(st.sampled_from(["word ", "x\n", "  \n ", "\n\n", "'s", "\u4e2d", " ", "!\r\n"]), max_size=60)


@given(LINES.map("".join))
def test_a_long_text_is_cut_where_a_line_begins_and_no_id_changes(qwen, text):
    module = sys.modules[type(qwen).__module__]
    whole = qwen.encode(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LONGEST", 40)
        parts = module._parts(text)
        cut = qwen.encode(text)
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 40
    assert all(part.endswith("\n") or len(part) == 40 for part in parts[:-1])
    assert qwen.decode(cut) == text
    if all(part.endswith("\n") and not after[0].isspace() for part, after in pairwise(parts)):
        assert cut == whole


@pytest.mark.parametrize("text", [" " * 600_000, "a" * 300_000, "line\n" * 100_000, "\n" * 300_000, "汉" * 200_000])
def test_long_texts_without_a_place_to_cut(tokenizer, text):
    """tiktoken overflows its stack on 600,000 spaces at once."""
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_half_a_surrogate_pair_is_refused(tokenizer):
    with pytest.raises(VocabularyError, match=r"no UTF-8: character 2 is '\\ud83d'"):
        tokenizer.encode("ab\ud83d")


def test_saved_and_pickled_ones_are_the_same(tokenizer, tmp_path):
    path = tokenizer.save(tmp_path)
    assert path.name == tokenizer.file_name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == tokenizer.digest
    for again in (load_tokenizer(path), pickle.loads(pickle.dumps(tokenizer))):
        assert again.digest == tokenizer.digest
        assert again.num_ids == tokenizer.num_ids
        assert again.encode(TEXT) == tokenizer.encode(TEXT)
        assert again.decode(again.encode(TEXT)) == TEXT


def test_the_digest_of_a_vocabulary_covers_layout_and_text(bpe, qwen):
    digests = {vocabulary_digest(layout, tokenizer) for layout in ("a", "b") for tokenizer in (bpe, qwen)}
    assert len(digests) == 4
    assert vocabulary_digest("a", bpe) in digests


# ---------------------------------------------------------------- trained on the spot


def test_training_depends_on_the_texts_and_their_order_alone():
    texts = [f"some text of {n} words " * 3 for n in range(50)]
    assert train_bpe(texts, 280).digest == train_bpe(iter(texts), 280).digest
    assert train_bpe(texts, 280).digest != train_bpe([text.upper() for text in texts], 280).digest


def test_sizes_that_training_can_not_give():
    with pytest.raises(VocabularyError, match="at least 256 ids, one a byte, not 255"):
        train_bpe(["ab"], 255)
    assert train_bpe(["ab"], 300).num_ids == 257  # there is one pair to merge
    assert train_bpe([], 256).num_ids == 256  # bytes alone


def test_a_declared_bpe_fills_the_text_range(demo):
    demo["ranges"][0]["size"] = 270
    texts = [f"{a}{b} {b}{a}" for a in "abcdefgh" for b in "abcdefgh"]
    assert open_tokenizer(Tokens.model_validate(demo), texts).num_ids == 270


# ---------------------------------------------------------------- folders of Hugging Face


@pytest.fixture
def folder(tmp_path):
    """Writes a tokenizer.json; the config section that reads it."""

    def write(tokenizer: Tokenizer, exact: bool = True, size: int = 2048) -> Tokens:
        (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
        return tokens_of(str(tmp_path), exact, size)

    return write


def tokens_of(path: str, exact: bool = True, size: int = 2048) -> Tokens:
    ranges = [
        {"name": "text", "modality": "text", "size": size, "start": None},
        {"name": "special", "modality": "special", "size": 4, "start": None},
    ]
    text = {"kind": "hf", "folder": path, "exact": exact}
    tree = {
        "name": "x",
        "ranges": ranges,
        "special": ["<|endoftext|>"],
        "codebooks": {"image": 1, "audio": 1, "video": 1},
    }
    return Tokens.model_validate(tree | {"pad_multiple": 64, "text": text})


def byte_level() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def test_special_tokens_of_the_file_are_text(folder):
    made = byte_level()
    made.add_special_tokens(["<|endoftext|>", "[CLS]"])
    tokenizer = open_tokenizer(folder(made))
    assert tokenizer.num_ids == 258
    assert max(tokenizer.encode("a<|endoftext|>[CLS]")) < 256
    assert tokenizer.decode(tokenizer.encode("a<|endoftext|>[CLS]")) == "a<|endoftext|>[CLS]"


def test_truncation_and_padding_of_the_file_are_left_out(folder):
    made = byte_level()
    made.enable_truncation(max_length=4)
    made.enable_padding(length=64)
    tokenizer = open_tokenizer(folder(made))
    assert tokenizer.decode(tokenizer.encode("longer than four")) == "longer than four"
    assert len(tokenizer.encode("longer than four")) == 16


def lower_casing() -> Tokenizer:
    made = byte_level()
    made.normalizer = normalizers.Lowercase()
    return made


def composing() -> Tokenizer:
    made = byte_level()
    made.normalizer = normalizers.NFC()
    return made


def prefixing() -> Tokenizer:
    made = byte_level()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return made


def with_stripping_token() -> Tokenizer:
    made = byte_level()
    made.add_tokens([AddedToken("tabs", lstrip=True)])
    return made


def word_pieces() -> Tokenizer:
    made = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece()
    return made


@pytest.mark.parametrize("make", [lower_casing, composing, prefixing, with_stripping_token, word_pieces])
def test_a_tokenizer_that_changes_text_is_refused_with_an_example(folder, make):
    with pytest.raises(VocabularyError, match=r"does not give texts back as they were: .* comes back as ") as refusal:
        open_tokenizer(folder(make()))
    assert "tokens.text.exact=false" in str(refusal.value)
    assert open_tokenizer(folder(make(), exact=False)).num_ids > 1


def test_the_example_is_what_was_lost(folder):
    tokenizer = open_tokenizer(folder(lower_casing(), exact=False))
    with pytest.raises(VocabularyError, match=re.escape(f"{HELLO!a} comes back as {HELLO.lower()!a}")):
        check_exact(tokenizer, "it")


def test_probes_come_back_from_those_that_are_exact(tokenizer):
    check_exact(tokenizer, "it")
    assert len(EXACT_PROBES) == len({*EXACT_PROBES})


def test_a_tokenizer_larger_than_the_text_range(folder):
    with pytest.raises(VocabularyError, match=r"has 256 ids, text has a range of 250: the last 6 .*size=256"):
        open_tokenizer(folder(byte_level(), size=250))


def test_folders_without_a_tokenizer(tmp_path):
    with pytest.raises(VocabularyError, match=r"holds no tokenizer.json .it is empty or not there"):
        open_tokenizer(tokens_of(str(tmp_path / "none")))
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(VocabularyError, match=r"it has tokenizer.model.*save_pretrained"):
        open_tokenizer(tokens_of(str(tmp_path)))
    with pytest.raises(VocabularyError, match=r"tokenizer.model holds no tokenizer.json"):
        open_tokenizer(tokens_of(str(tmp_path / "tokenizer.model")))


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff", json.dumps({"model": {"type": "Nope"}}).encode()])
def test_files_that_are_no_tokenizer(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(VocabularyError, match=r"is no tokenizer.json that tokenizers can read"):
        open_tokenizer(tokens_of(str(tmp_path)))


def test_a_missing_or_damaged_file_of_a_dataset(tmp_path):
    with pytest.raises(VocabularyError, match="is not there: the dataset is not whole"):
        load_tokenizer(tmp_path / "tokenizer.json")
    for content in (b"", b"IQ== 0\n", b"no base64 at all\n", b"IQ==\n"):
        (tmp_path / "qwen.tiktoken").write_bytes(content)
        with pytest.raises(VocabularyError, match="is not Qwen's vocabulary"):
            load_tokenizer(tmp_path / "qwen.tiktoken")


# ---------------------------------------------------------------- what is optional


def test_without_a_tokenizer_declared(demo):
    with pytest.raises(VocabularyError, match=r"declares no text tokenizer; type tokens.text.kind=KIND"):
        open_tokenizer(Tokens.model_validate({**demo, "text": None}))


@pytest.mark.parametrize("package", ["tiktoken", "dashscope"])
def test_a_missing_package_is_named_with_its_extra(qwen_full, package, monkeypatch):
    for name in [*sys.modules]:
        if name == "mmhydra.data.vocabulary.qwen" or name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)

    class Absent:
        """As if it was not installed: nobody finds it."""

        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.partition(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=package)

    monkeypatch.setattr("sys.meta_path", [Absent, *sys.meta_path])
    with pytest.raises(VocabularyError, match=rf"lacks its package {package}: pip install 'mmhydra\[qwen\]'"):
        open_tokenizer(Tokens.model_validate(qwen_full))

"""The text tokenizer of a dataset: trained on its own text, or taken over as it is."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mmhydra.data.build.lines import read_lines, texts_of
from mmhydra.data.build.plan import READ, Batch, Context, read_counts
from mmhydra.data.build.verdicts import TRAIN, Verdicts
from mmhydra.data.vocabulary import open_tokenizer
from mmhydra.files import write_atomic

_TRAINING_BYTES = 20_000_000  # of text: more changes a small vocabulary little, and has to fit the memory

# Learning takes time in the square of the longest word: base64, minified code, a page of dashes.
_LONG_RUN = re.compile(r"\S{1000,}|\s{1000,}")
_WORD_CHARS = 500


def make_tokenizer(
    context: Context, batches: Sequence[Batch], verdicts: Verdicts, on_line: Callable[[str], None]
) -> None:
    """Leaves the tokenizer in the dataset's folder, once. Raises UserError where it can't be had."""
    if context.tokenizer is not None:
        return
    if context.tokens.text is not None and context.tokens.text.kind == "train_bpe":
        on_line("training a text tokenizer")
    tokenizer = open_tokenizer(context.tokens, _texts(context, batches, verdicts))
    # Not saved in its place: one that is there is whole.
    with TemporaryDirectory() as temporary:
        path = tokenizer.save(Path(temporary))
        write_atomic(context.building / path.name, path.read_bytes())


def _texts(context: Context, batches: Sequence[Batch], verdicts: Verdicts) -> Iterator[str]:
    """Texts and captions of the train split: all, or as many as may be used, spread evenly over the records."""
    total = sum(int(str(read_counts(batch.file(context, READ, ".json"))["text_bytes"])) for batch in batches)
    share = min(1.0, _TRAINING_BYTES / max(1, total))
    passed = taken = 0
    for batch, splits in zip(batches, verdicts.splits, strict=True):
        for line, split in zip(read_lines(batch.file(context, READ, ".jsonl")), splits.tolist(), strict=True):
            if split != TRAIN:
                continue
            for text in texts_of(line):
                size_bytes = len(text.encode())
                if taken <= passed * share:
                    taken += size_bytes
                    yield _LONG_RUN.sub(_cut, text)
                passed += size_bytes


def _cut(run: re.Match[str]) -> str:
    """A run without a break, in words."""
    text, gap = run.group(), "\n" if run.group().isspace() else " "
    return gap.join(text[start : start + _WORD_CHARS] for start in range(0, len(text), _WORD_CHARS))

"""The vocabulary as a table for a terminal: which ids are what."""

from rich import box
from rich.table import Table

from mmhydra.config.tokens import Tokens
from mmhydra.data.vocabulary.layout import Vocabulary


def table(tokens: Tokens) -> Table:
    """Ranges, special tokens, sizes and digest. Raises VocabularyError for a layout that is wrong."""
    vocabulary = Vocabulary.of(tokens)
    tokenizer = f", text by {tokens.text.kind}" if tokens.text else ""
    view = Table(title=f"tokens={tokens.name}{tokenizer}", box=box.SIMPLE_HEAD, title_justify="left")
    for heading in ("range", "modality"):
        view.add_column(heading, no_wrap=True)
    for heading in ("codebooks x size", "first id", "last id", "share"):
        view.add_column(heading, justify="right", no_wrap=True)
    stop = 0
    for span in tokens.spans:
        if span.start > stop:
            view.add_row("(unused)", "", f"{span.start - stop:,}", f"{stop:,}", f"{span.start - 1:,}", "")
        each = f"{span.codebooks} x {span.size // span.codebooks:,}"
        share = f"{span.size / vocabulary.padded_size:.1%}"
        view.add_row(span.name, span.modality, each, f"{span.start:,}", f"{span.stop - 1:,}", share)
        stop = span.stop
    if vocabulary.padded_size > vocabulary.size:
        padding = vocabulary.padded_size - vocabulary.size
        share = f"{padding / vocabulary.padded_size:.1%}"
        last = f"{vocabulary.padded_size - 1:,}"
        view.add_row("(padding)", "", f"{padding:,}", f"{vocabulary.size:,}", last, share)
    view.add_section()
    for token in vocabulary.special:
        view.add_row(token, "special", "", f"{vocabulary.special_id(token):,}", "", "")
    view.add_section()
    view.add_row("used", "", "", "", f"{vocabulary.size:,}", f"{vocabulary.size / vocabulary.padded_size:.1%}")
    view.add_row("padded", "", f"multiple of {tokens.pad_multiple}", "", f"{vocabulary.padded_size:,}", "100.0%")
    view.caption = f"digest of the layout {vocabulary.layout_digest}"
    return view

"""Documents decoded for a person to look at: made by the processes that encode, which have the codecs."""

import base64
from collections.abc import Iterator, Sequence
from typing import Any

from mmhydra.data.build.lines import read_lines
from mmhydra.data.build.plan import ENCODE, EXAMPLE_BATCHES, Batch, Context
from mmhydra.data.report.examples import Example, MediaExample
from mmhydra.data.shards.document import Document
from mmhydra.data.templates import Signal, describe, signals, to_text
from mmhydra.data.vocabulary import TextTokenizer, Vocabulary
from mmhydra.files import write_atomic

EXAMPLES = "examples"
_MAX_CHARS = 2000


def describe_example(
    document: Document, template: str, vocabulary: Vocabulary, tokenizer: TextTokenizer
) -> tuple[dict[str, Any], list[Signal]]:
    """A document as JSON, its text with specials spelled out; and its media, as yet ids."""
    parts = describe(document, vocabulary, tokenizer)
    return {"template": template, "text": to_text(parts, _MAX_CHARS), "media": []}, signals(parts)


def keep_examples(context: Context, batches: Sequence[Batch]) -> list[Example]:
    """The first document of each template of each source, in the order of the recipe; media go into the dataset."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for batch in batches:
        if batch.number < EXAMPLE_BATCHES:
            for line in read_lines(batch.file(context, ENCODE, ".examples.jsonl")):
                found.setdefault((batch.source, line["template"]), line)
    order = [(source.name, template.name) for source in context.recipe.sources for template in source.templates]
    examples = []
    for source, template in order:
        if (source, template) in found:
            line = found[source, template]
            examples.append(Example(source, template, line["text"], list(_media(context, source, line))))
    return examples


def _media(context: Context, source: str, line: dict[str, Any]) -> Iterator[MediaExample]:
    """Files below `examples/`."""
    folder = context.building / EXAMPLES / source
    for number, entry in enumerate(line["media"]):
        path = folder / f"{line['template']}-{number}{entry['suffix']}"
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, base64.b64decode(entry["content"]))
        yield MediaExample(entry["modality"], path, entry["note"])

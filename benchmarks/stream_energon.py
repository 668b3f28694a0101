"""megatron-energon's arm of benchmarks/stream.py; run it with a Python that has energon beside this project's packages.

    PYTHON benchmarks/stream_energon.py FOLDER

energon is not among the dependencies: it needs packages in versions that others here exclude. It reads the same tars
through links in FOLDER/energon, where its own index lies too.
"""

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from megatron.energon import (
    Cooker,
    DefaultTaskEncoder,
    Sample,
    WorkerConfig,
    basic_sample_keys,
    get_loader,
    get_train_dataset,
    stateless,
)
from megatron.energon.flavors.webdataset.prepare import WebdatasetPreparator
from stream_arms import BATCH, IGNORE_INDEX, SHUFFLE_BUFFER, Clock
from stream_data import DATASET, SEQ_LEN, SOURCES, build

PACKING_BUFFER = 100  # samples among which energon packs
NUM_SEQUENCES = 4000  # to take: a part of an epoch, it is slow
WARM_UP = 80  # batches before the clock starts: buffers are full then


@dataclass
class Document(Sample):
    """Pairs of inputs and labels of one document, or of a packed row, with positions."""

    inputs: Any
    labels: Any
    positions: Any


@stateless
def cook(sample: dict[str, Any]) -> Document:
    """Ids and segments to inputs and labels, as the webdataset arm does it."""
    ids = sample["tokens.npy"].astype(np.int32)
    labels = ids[1:]
    segments = sample["json"]["segments"]
    if not all(segment[4] for segment in segments):
        loss = np.repeat([bool(segment[4]) for segment in segments], [segment[2] for segment in segments])
        labels = np.where(loss[1:], labels, IGNORE_INDEX)
    inputs = ids[:-1]
    return Document(
        **basic_sample_keys(sample), inputs=inputs, labels=labels, positions=np.arange(len(inputs), dtype=np.int32)
    )


class Packing(DefaultTaskEncoder):  # type: ignore[misc]
    """Packs documents of at most SEQ_LEN; longer ones are cut first."""

    cookers = (Cooker(cook),)
    num_pairs = 0  # of inputs and labels in all rows so far

    @stateless
    def preencode_sample(self, sample: Document) -> Any:
        """Pieces of at most SEQ_LEN."""
        for begin in range(0, len(sample.inputs), SEQ_LEN):
            part = slice(begin, begin + SEQ_LEN)
            size = len(sample.inputs[part])
            yield Document(
                __key__=f"{sample.__key__}/{begin}",
                __restore_key__=(),
                inputs=sample.inputs[part],
                labels=sample.labels[part],
                positions=np.arange(size, dtype=np.int32),
            )

    def select_samples_to_pack(self, samples: list[Document]) -> list[list[Document]]:
        """Next fit."""
        packs: list[list[Document]] = [[]]
        room = SEQ_LEN
        for sample in samples:
            if len(sample.inputs) > room:
                packs.append([])
                room = SEQ_LEN
            packs[-1].append(sample)
            room -= len(sample.inputs)
        return [pack for pack in packs if pack]

    @stateless
    def pack_selected_samples(self, samples: list[Document]) -> Document:
        """One row."""
        filled = sum(len(sample.inputs) for sample in samples)
        padding = SEQ_LEN - filled
        Packing.num_pairs += filled
        return Document(
            __key__=samples[0].__key__,
            __restore_key__=(),
            inputs=np.concatenate([*(s.inputs for s in samples), np.zeros(padding, np.int32)]),
            labels=np.concatenate([*(s.labels for s in samples), np.full(padding, IGNORE_INDEX, np.int32)]),
            positions=np.concatenate([*(s.positions for s in samples), np.arange(padding, dtype=np.int32)]),
        )

    @stateless
    def batch(self, samples: list[Document]) -> Any:
        """Rows stacked."""
        return tuple(np.stack([getattr(s, name) for s in samples]) for name in ("inputs", "labels", "positions"))


def prepare(folder: Path) -> Path:
    """energon's index of the same tars, and a blend of both sources; returns the blend's file."""
    base = folder / "energon"
    blend = base / "blend.yaml"
    if blend.exists():
        return blend
    manifest = build(folder)
    parts = []
    for source in SOURCES:
        own = base / source
        own.mkdir(parents=True, exist_ok=True)
        shards = manifest.shards_of(source, "train")
        names = [Path(shard.path).name for shard in shards]
        for shard, name in zip(shards, names, strict=True):
            if not (own / name).exists():
                os.link(folder / DATASET / shard.path, own / name)
        WebdatasetPreparator.prepare_dataset(own, names, split_parts_ratio=[("train", 1.0)], workers=2)
        (own / ".nv-meta" / "dataset.yaml").write_text(
            "__module__: megatron.energon\n__class__: CrudeWebdataset\nsubflavors: {}\n"
        )
        count = sum(shard.num_documents for shard in shards)
        parts.append(f"    - {{path: {source}, weight: {count}}}\n")
    blend.write_text(
        "__module__: megatron.energon\n__class__: MetadatasetV2\nsplits:\n  train:\n    blend:\n"
        + "".join("  " + part for part in parts)
    )
    return blend


def main() -> None:
    """Prints one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    dataset = get_train_dataset(
        prepare(folder),
        worker_config=WorkerConfig(rank=0, world_size=1, num_workers=0),
        batch_size=BATCH,
        packing_buffer_size=PACKING_BUFFER,
        shuffle_buffer_size=SHUFFLE_BUFFER,
        max_samples_per_sequence=100,
        task_encoder=Packing(),
    )
    found = iter(get_loader(dataset))
    for _ in range(WARM_UP):
        next(found)
    before, clock = Packing.num_pairs, Clock()
    for _ in range(NUM_SEQUENCES // BATCH):
        next(found)
    print(json.dumps({**clock.seconds(), "pairs": Packing.num_pairs - before}))


if __name__ == "__main__":
    main()

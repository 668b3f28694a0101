"""Datasets from shards to batches: manifest, WebDataset shards, sequences, the global stream, the demo.

Nothing here imports torch: manifests and mixtures are also read where jobs are submitted.
"""

from mmhydra.data.dataset_folder import DatasetError
from mmhydra.data.demo import build_demo
from mmhydra.data.index import ShardError
from mmhydra.data.manifest import (
    Manifest,
    ManifestError,
    Shard,
    Source,
    Vocabulary,
    load_manifest,
    verify_shards,
    verify_vocabulary,
    write_manifest,
)
from mmhydra.data.mixture import Mixture
from mmhydra.data.permutation import permute
from mmhydra.data.sequences import IGNORE_INDEX, FixedSequences, to_batch
from mmhydra.data.shards import DocumentInfo, ShardWriter, TokenShards
from mmhydra.data.stream import SampleRef, Stream, batch_slice

__all__ = [
    "IGNORE_INDEX",
    "DatasetError",
    "DocumentInfo",
    "FixedSequences",
    "Manifest",
    "ManifestError",
    "Mixture",
    "SampleRef",
    "Shard",
    "ShardError",
    "ShardWriter",
    "Source",
    "Stream",
    "TokenShards",
    "Vocabulary",
    "batch_slice",
    "build_demo",
    "load_manifest",
    "permute",
    "to_batch",
    "verify_shards",
    "verify_vocabulary",
    "write_manifest",
]

"""A rank that only loads, over gloo, with its own copy of the data. Started by torch elastic: CONFIG.yaml FOLDER DP.

The world is DP times as many ranks of one model, as tensor- or pipeline-parallel ones are: those read the same rows.
Rank N reads FOLDER/data-N and writes what it saw to FOLDER/rank-N.json.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import mmhydra.titan  # noqa: F401  (puts torchtitan on the CPU, so it comes before it)

# isort: split
import torch
import torch.distributed as dist

from mmhydra.config.frozen import from_yaml
from mmhydra.titan.data import RunData

NUM_STEPS = 6


def main(config_file: str, folder: str, dp: int) -> None:
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    config = from_yaml(Path(config_file).read_bytes())
    paths = config.paths.model_copy(update={"data": f"{folder}/data-{rank}"})
    config = config.model_copy(update={"paths": paths})
    events: list[Any] = []
    data = RunData(config, lambda kind, message, **values: events.append([kind, message, values]))
    told: dict[str, Any] = {"events": events}

    def load(name: str, loader: Any, num_steps: int) -> None:
        batches = iter(loader)
        per_step = config.training.global_batch_size // dp // config.training.microbatch_size
        steps = []
        for _ in range(num_steps):
            digest, num_labels = hashlib.sha256(), 0
            for _ in range(per_step):
                inputs, labels = next(batches)
                digest.update(inputs["input"].numpy().tobytes() + labels.numpy().tobytes())
                num_labels += int((labels >= 0).sum())
            steps.append([digest.hexdigest(), num_labels])
        told[name] = {"steps": steps, "state": loader.state_dict()}

    shape: dict[str, Any] = {
        "dp_world_size": dp,
        "dp_rank": rank // (world_size // dp),
        "local_batch_size": config.training.microbatch_size,
    }
    train = data.train_loader().build(**shape)
    load("train", train, NUM_STEPS)
    for name in ("first", "second"):  # torchtitan makes a loader for each validation
        load(name, data.heldout_loader().build(**shape), 2)
    told["tokens"] = data.tokens(NUM_STEPS * config.training.global_batch_size, train.batches.skips).model_dump()
    # Another loader, as after a restart: on other threads, from the middle.
    again = data.train_loader().build(**shape)
    again.load_state_dict({**train.state_dict(), "sample": 3 * config.training.global_batch_size})
    load("again", again, NUM_STEPS - 3)
    for loader in (train, again):
        loader.close()
    data.close()
    (Path(folder) / f"rank-{rank}.json").write_text(json.dumps(told))
    assert torch.distributed.is_initialized()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

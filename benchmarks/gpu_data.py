"""Random tokens packed into documents, for the trainer and for attention in benchmarks/gpu.py."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DOCUMENT = 1000  # tokens, the mean length


def documents(batch: int, seq_len: int, vocab_size: int, seed: int) -> tuple[Any, Any, Any]:
    """Ids, positions and labels, int64 (B, L): documents of random length, the last one of a sequence is cut."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocab_size, (batch, seq_len + 1), generator=generator)
    begins = torch.rand(batch, seq_len, generator=generator) < 1 / min(DOCUMENT, seq_len / 4)
    begins[:, 0] = True
    place = torch.arange(seq_len).expand(batch, seq_len)
    positions = place - torch.where(begins, place, 0).cummax(1).values
    return tokens[:, :-1].contiguous(), positions.contiguous(), tokens[:, 1:].contiguous()


def documents_class() -> Any:
    """Made when torchtitan can be imported."""
    from torchtitan.components.dataloader import BaseDataLoader

    class Documents(BaseDataLoader):
        """The same few batches of random tokens again and again."""

        @dataclass(kw_only=True, slots=True)
        class Config(BaseDataLoader.Config):
            """Ids are drawn below `vocab_size`."""

            vocab_size: int

        def __init__(self, config: Config, *, seq_len: int, local_batch_size: int, **_: Any) -> None:
            shape = (local_batch_size, seq_len)
            self._batches = [documents(*shape, config.vocab_size, seed) for seed in range(8)]

        def __iter__(self) -> Iterator[Any]:
            """Yields ({"input", "positions"}, labels), int64 (B, L) each."""
            while True:
                for ids, positions, labels in self._batches:
                    yield {"input": ids, "positions": positions}, labels

        def state_dict(self) -> dict[str, Any]:
            """Nothing."""
            return {}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            """Takes nothing."""

    return Documents

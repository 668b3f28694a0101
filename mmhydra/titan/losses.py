"""Cross entropy whose terms are also summed by modality, in the one pass over the logits that training needs anyway.

Legend: B batch, L sequence, N = B * L tokens, V vocabulary, R ranges of the vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining import PipelineStageInfo
from torchtitan.components.loss import IGNORE_INDEX, CrossEntropyLoss, _LossParallelCrossEntropy
from torchtitan.config import CompileConfig
from torchtitan.distributed import utils as dist_utils
from torchtitan.distributed.spmd_types import current_spmd_mesh, spmd_mesh_size
from torchtitan.tools import utils

from mmhydra.config.tokens import Tokens


class ByModality(NamedTuple):
    """Mean loss in nats a token and number of labels; a modality without labels is in neither."""

    loss: dict[str, float]
    tokens: dict[str, int]


def modality_edges(tokens: Tokens) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Where each range of a declared vocabulary begins, ascending, and its modality."""
    return tuple(span.start for span in tokens.spans), tuple(span.modality for span in tokens.spans)


class ModalityTally:
    """Sums of losses and numbers of labels by range since the last `reset`, on the device until a record wants them."""

    def __init__(self, starts: tuple[int, ...], modalities: tuple[str, ...]) -> None:
        self._modalities = modalities
        self.starts_R = torch.tensor(starts, device=utils.device_type)
        # Allocated once and changed in place: a captured CUDA graph adds to this very memory in each replay.
        self._totals_2R = torch.zeros(2, len(starts), dtype=torch.float64, device=utils.device_type)
        self._is_rehearsal = False

    def reset(self) -> None:
        """Begins another step, or a validation."""
        self._totals_2R.zero_()

    def add(self, sums_2R: torch.Tensor) -> None:
        """Adds what `sums_by_range` returned for a microbatch."""
        if not self._is_rehearsal:
            self._totals_2R.add_(sums_2R)

    @contextmanager
    def watch(self, stage: PipelineStageInfo) -> Iterator[None]:
        """Forward context of the last pipeline stage.

        To learn its shapes torch sends uninitialised memory through each stage before the first step, loss included.
        A real forward comes before each real loss, so what was seen last says which of the two a loss is.
        """
        self._is_rehearsal = stage.is_metadata_inference
        yield

    def read(self, mesh: DeviceMesh | None) -> ByModality:
        """The totals of all data-parallel ranks (`mesh`; None where there is one). A collective, and waits for it."""
        sums, counts = dist_utils.dist_sum_tensor(self._totals_2R, mesh).tolist()
        total: dict[str, float] = {}
        tokens: dict[str, int] = {}
        for modality, loss, count in zip(self._modalities, sums, counts, strict=True):
            if count > 0:
                total[modality] = total.get(modality, 0.0) + loss
                tokens[modality] = tokens.get(modality, 0) + round(count)
        return ByModality({modality: total[modality] / tokens[modality] for modality in tokens}, tokens)

    def highest_mean(self, mesh: DeviceMesh | None) -> float:
        """The highest mean loss of a data-parallel rank in nats a token; -inf where none has a label. A collective."""
        loss, count = self._totals_2R.sum(1)
        return float(dist_utils.dist_max(torch.where(count > 0, loss / count, -torch.inf), mesh))


class ModalityLoss(CrossEntropyLoss):
    """torchtitan's CrossEntropyLoss, to the bit, with a tally by modality."""

    @dataclass(kw_only=True, slots=True)
    class Config(CrossEntropyLoss.Config):
        """`modality_edges` of the vocabulary."""

        starts: tuple[int, ...]
        modalities: tuple[str, ...]

    def __init__(self, config: Config, *, compile_config: CompileConfig | None = None) -> None:
        self.fn = loss_and_sums
        self._maybe_compile(compile_config)
        self.global_vocab_size = config.global_vocab_size
        self.tally = ModalityTally(config.starts, config.modalities)

    def __call__(
        self, pred: torch.Tensor, labels: torch.Tensor, global_valid_tokens: torch.Tensor | None = None, **_: Any
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The summed loss of logits (B, L, V) and labels (B, L), over the number of labels if that is given.

        A step without any label has a loss and gradients of 0.
        """
        loss, sums_2R = self.fn(pred, labels, self.tally.starts_R, global_vocab_size=self.global_vocab_size)
        self.tally.add(sums_2R)
        return (loss if global_valid_tokens is None else loss / global_valid_tokens.clamp(min=1)), {}


def loss_and_sums(
    pred: torch.Tensor, labels_BL: torch.Tensor, starts_R: torch.Tensor, *, global_vocab_size: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed loss of logits (B, L, V), and its `sums_by_range`.

    Under TP the logits are this rank's share of the vocabulary, and the results the same on all ranks of a group.
    """
    labels_N = labels_BL.flatten()
    logits_NV = pred.flatten(0, 1).float()
    if spmd_mesh_size("tp") > 1:
        group = current_spmd_mesh().get_group("tp")
        loss_N = _LossParallelCrossEntropy.apply(logits_NV, labels_N, group, global_vocab_size, "none")
        return loss_N.sum(), sums_by_range(loss_N.detach(), labels_N, starts_R)
    # The two halves of F.cross_entropy, which does not give the sum and its terms at once. Adding up the terms here
    # would give other last bits: nll_loss adds in an order of its own.
    log_probs_NV = F.log_softmax(logits_NV, dim=-1)
    loss = F.nll_loss(log_probs_NV, labels_N, reduction="sum", ignore_index=IGNORE_INDEX)
    loss_N = F.nll_loss(log_probs_NV.detach(), labels_N, reduction="none", ignore_index=IGNORE_INDEX)
    return loss, sums_by_range(loss_N, labels_N, starts_R)


def sums_by_range(loss_N: torch.Tensor, labels_N: torch.Tensor, starts_R: torch.Tensor) -> torch.Tensor:
    """Summed losses and numbers of labels in each range, float64 (2, R). Labels below the first start count nowhere."""
    range_N = torch.bucketize(labels_N, starts_R, right=True) - 1
    is_in_RN = range_N == torch.arange(len(starts_R), device=labels_N.device)[:, None]
    # Not a scatter: on GPUs that adds in the order of arrival, another one in each run.
    return torch.stack([torch.where(is_in_RN, loss_N, 0.0).sum(1, dtype=torch.float64), is_in_RN.sum(1).double()])

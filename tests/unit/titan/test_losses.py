"""The loss is torchtitan's to the bit, and its terms by modality add up to it."""

import pytest

import mmhydra.titan  # noqa: F401  (puts torchtitan on the CPU, so it comes before it)

# isort: split
import torch
import torch.nn.functional as F
from torch.distributed.pipelining import PipelineStageInfo
from torchtitan.components.loss import IGNORE_INDEX, cross_entropy_loss

from mmhydra.titan.losses import ModalityLoss, modality_edges

VOCAB_SIZE = 1000
STARTS = (0, 600, 610, 800, 900)
MODALITIES = ("text", "special", "audio", "audio", "video")  # audio has two ranges, as of two codebooks


@pytest.fixture
def loss() -> ModalityLoss:
    return ModalityLoss.Config(global_vocab_size=VOCAB_SIZE, starts=STARTS, modalities=MODALITIES).build()


def batch(seed: int = 0, high: int = VOCAB_SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, L, V) in bfloat16, as a GPU's model gives them, and labels below `high` of which a part is ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits_BLV = torch.randn(3, 64, VOCAB_SIZE, generator=generator).to(torch.bfloat16).requires_grad_()
    labels_BL = torch.randint(high, (3, 64), generator=generator)
    labels_BL[:, ::5] = IGNORE_INDEX
    return logits_BLV, labels_BL


@pytest.mark.parametrize("num_labels", [None, torch.tensor(150)])
def test_loss_and_gradient_are_those_of_torchtitan(loss: ModalityLoss, num_labels: torch.Tensor | None) -> None:
    logits_BLV, labels_BL = batch()
    expected = cross_entropy_loss(logits_BLV, labels_BL, global_vocab_size=VOCAB_SIZE)
    expected = expected if num_labels is None else expected / num_labels
    (gradient,) = torch.autograd.grad(expected, logits_BLV)
    ours, _ = loss(logits_BLV, labels_BL, num_labels)
    assert torch.equal(ours, expected)
    assert torch.equal(torch.autograd.grad(ours, logits_BLV)[0], gradient)


def test_each_label_counts_for_the_modality_of_its_id(loss: ModalityLoss) -> None:
    microbatches = [batch(seed) for seed in range(3)]
    total = sum(loss(*microbatch)[0].item() for microbatch in microbatches)
    told = loss.tally.read(None)

    losses_N = torch.cat(
        [F.cross_entropy(x.flatten(0, 1).float(), y.flatten(), reduction="none") for x, y in microbatches]
    )
    labels = [label for _, y in microbatches for label in y.flatten().tolist()]
    expected: dict[str, list[float]] = {}
    for label, term in zip(labels, losses_N.tolist(), strict=True):
        if label != IGNORE_INDEX:
            modality = "text" if label < 600 else "special" if label < 610 else "audio" if label < 900 else "video"
            expected.setdefault(modality, []).append(term)
    assert told.tokens == {modality: len(terms) for modality, terms in expected.items()}
    assert list(told.loss) == ["text", "special", "audio", "video"], "in the order of the vocabulary"
    for modality, terms in expected.items():
        assert told.loss[modality] == pytest.approx(sum(terms) / len(terms), rel=1e-6)
    assert sum(told.tokens[name] * told.loss[name] for name in told.loss) == pytest.approx(total, rel=1e-6)


def test_a_modality_without_labels_is_left_out_and_a_reset_forgets(loss: ModalityLoss) -> None:
    loss(*batch(high=600))
    assert loss.tally.read(None).loss.keys() == loss.tally.read(None).tokens.keys() == {"text"}
    loss.tally.reset()
    assert loss.tally.read(None) == ({}, {})
    assert loss.tally.highest_mean(None) == -torch.inf


@pytest.mark.parametrize("num_labels", [None, torch.tensor(0), torch.tensor(7)])
def test_padding_alone_has_a_loss_of_zero_and_no_gradient(loss: ModalityLoss, num_labels: torch.Tensor | None) -> None:
    logits_BLV, labels_BL = batch()
    ours, _ = loss(logits_BLV, torch.full_like(labels_BL, IGNORE_INDEX), num_labels)
    ours.backward()
    assert ours.item() == 0
    assert torch.equal(logits_BLV.grad, torch.zeros_like(logits_BLV))
    assert loss.tally.read(None) == ({}, {})


def test_what_pipeline_stages_rehearse_counts_for_nothing(loss: ModalityLoss) -> None:
    for is_rehearsal in (True, False):
        with loss.tally.watch(PipelineStageInfo(stage_index=1, microbatch_index=0, is_metadata_inference=is_rehearsal)):
            pass
        loss(*batch(0))
    once = loss.tally.read(None)
    loss.tally.reset()
    loss(*batch(0))
    assert loss.tally.read(None) == once


def test_edges_are_those_of_the_declared_vocabulary(default_config) -> None:
    ranges = [
        {"name": "video", "modality": "video", "size": 10, "start": 90},
        {"name": "text", "modality": "text", "size": 50, "start": 0},
        {"name": "sound", "modality": "audio", "size": 20, "start": 50},
    ]
    tokens = default_config.tokens.model_dump() | {"special": ["<|endoftext|>"]}
    declared = type(default_config.tokens).model_validate(tokens | {"ranges": ranges})
    # No range of their own: the first ids of the text range.
    assert modality_edges(declared) == ((0, 1, 50, 90), ("special", "text", "audio", "video"))

"""Documents that share a sequence don't see each other, on CPU and by the masks that GPUs compute with.

The same under tensor and pipeline parallelism: tests/titan/test_isolation.py.
"""

import pytest

import mmhydra.titan  # noqa: F401  (puts torchtitan on the CPU, so it comes before it)

# isort: split
import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, create_mask, flex_attention
from torchtitan.models.common import attention as titan_attention
from torchtitan.models.common.attention import FlexAttention

from mmhydra.config.schema import RunConfig
from mmhydra.titan import cpu
from mmhydra.titan.attention import DocumentAttention, document_mask
from mmhydra.titan.model import model_spec

VOCAB_SIZE = 64
LENGTHS = (12, 1, 19, 8)  # documents of a sequence of 40; one is a single token
FIRST, LAST = slice(0, 12), slice(32, 40)


def positions_of(*lengths: int) -> torch.Tensor:
    return torch.cat([torch.arange(length) for length in lengths])[None]


@pytest.fixture(scope="module")
def spec(default_config: RunConfig):
    small = {"dim": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "ffn_dim": 64}
    model = default_config.model.model_copy(update=small)
    return model_spec(model, default_config.precision, vocab_size=VOCAB_SIZE, max_seq_len=40, compile=False)


@pytest.fixture(scope="module")
def model(spec):
    torch.manual_seed(0)
    built = spec.model.build()
    with torch.no_grad():
        built.init_weights(buffer_device=None)
    return built


def logits(model, ids: torch.Tensor, positions_BL: torch.Tensor) -> torch.Tensor:
    masks = model.get_attention_masks(positions_BL)
    return model(ids, positions=positions_BL, attention_masks=masks)


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(VOCAB_SIZE, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("changed", "others"), [(FIRST, slice(12, 40)), (LAST, slice(0, 32))])
def test_a_changed_document_changes_nothing_in_the_others(model, ids, changed: slice, others: slice) -> None:
    other = ids.clone()
    other[:, changed] = (ids[:, changed] + 1) % VOCAB_SIZE
    before, after = (logits(model, each, positions_of(*LENGTHS)) for each in (ids, other))
    assert torch.equal(before[:, others], after[:, others])
    assert not torch.equal(before[:, changed], after[:, changed])


def test_the_change_would_be_seen_in_one_long_document(model, ids) -> None:
    other = ids.clone()
    other[:, FIRST] = (ids[:, FIRST] + 1) % VOCAB_SIZE
    before, after = (logits(model, each, positions_of(sum(LENGTHS))) for each in (ids, other))
    # Every later token sees the change, through the mask that would have hidden it.
    assert bool((before[:, 12:] != after[:, 12:]).any(-1).all())


def test_no_gradient_crosses_the_edge_of_a_document(model, ids) -> None:
    hidden_BLD = model.tok_embeddings(ids).detach().requires_grad_()
    positions_BL = positions_of(*LENGTHS)
    masks, x_BLD = model.get_attention_masks(positions_BL), hidden_BLD
    for layer in model.layers.values():
        x_BLD = layer(x_BLD, masks, positions_BL)
    x_BLD[:, LAST].sum().backward()
    assert torch.count_nonzero(hidden_BLD.grad[:, :32]) == 0
    assert bool((hidden_BLD.grad[:, LAST] != 0).any(-1).all())


def test_a_document_is_the_same_wherever_it_is_packed(model, ids) -> None:
    """Positions restart: what a document gets does not depend on its place in the sequence."""
    packed = logits(model, ids, positions_of(*LENGTHS))
    begin = 0
    for length in LENGTHS:
        alone = logits(model, ids[:, begin : begin + length], positions_of(length))
        torch.testing.assert_close(packed[:, begin : begin + length], alone, rtol=1e-5, atol=1e-5)
        begin += length


def test_positions_matter(model, ids) -> None:
    """RoPE turns by distance: tokens of one document that are numbered further apart attend otherwise."""
    mask = document_mask(positions_of(*LENGTHS))
    torn_BL = positions_of(*LENGTHS)
    torn_BL[:, 16:32] += 5  # in the middle of a document
    before, after = (model(ids, positions=p, attention_masks=mask) for p in (positions_of(*LENGTHS), torn_BL))
    assert not torch.allclose(before[:, 16:32], after[:, 16:32], rtol=1e-5, atol=1e-5)


# Documents of B sequences of 40; torchtitan has a mask of its own for one sequence. Padding is documents of one token.
PACKED = {
    "one sequence": [LENGTHS],
    "one document": [(40,)],
    "several sequences": [LENGTHS, (40,), (1, 39), (39, 1)],
    "padding": [(25, *[1] * 15), tuple([1] * 40)],
}


@pytest.fixture
def gpu_masks(spec, model, default_config, monkeypatch: pytest.MonkeyPatch):
    """From positions to the mask of a GPU's model, as the trainer makes it, but not compiled."""
    monkeypatch.setattr(cpu, "is_active", lambda: False)
    monkeypatch.setattr(titan_attention, "_compiled_create_block_mask", create_block_mask)
    on_gpu = model_spec(
        default_config.model, default_config.precision, vocab_size=VOCAB_SIZE, max_seq_len=40, compile=True
    )
    # What torchtitan's trainer looks at before it asks a model for masks.
    assert isinstance(on_gpu.model.first_attention.inner_attention, FlexAttention.Config)
    with torch.device("meta"):
        built = on_gpu.model.build()
    return built.get_attention_masks


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_a_gpu_masks_what_a_cpu_masks(gpu_masks, packed: list[tuple[int, ...]]) -> None:
    positions_BL = torch.cat([positions_of(*lengths) for lengths in packed])
    mask = gpu_masks(positions_BL)
    assert isinstance(mask, BlockMask)
    allowed = create_mask(mask.mask_mod, len(packed), 1, 40, 40, device="cpu")
    assert torch.equal(allowed, document_mask(positions_BL))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_a_gpu_attends_as_a_cpu_attends(gpu_masks, packed: list[tuple[int, ...]]) -> None:
    """FlexAttention with its blocks, forward, in plain torch: what the kernel of a GPU is compiled from."""
    positions_BL = torch.cat([positions_of(*lengths) for lengths in packed])
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(len(packed), 40, heads, 8, generator=generator) for heads in (4, 2, 2))
    flex = flex_attention(*(x.transpose(1, 2) for x in (q, k, v)), block_mask=gpu_masks(positions_BL), enable_gqa=True)
    here = DocumentAttention.Config().build()(q, k, v, attention_masks=document_mask(positions_BL), enable_gqa=True)
    torch.testing.assert_close(flex.transpose(1, 2), here, rtol=1e-5, atol=1e-5)

"""Attention in benchmarks/gpu.py: as it is built for a GPU (flex) beside what is built without one, numbers and times.

torch, torchtitan and mmhydra are imported when a part begins: an older torch is given its missing names before that.
"""

import statistics
from collections.abc import Callable
from typing import Any
from unittest import mock

from gpu_data import documents
from gpu_device import card, find_device, peak_of, time_of


def attention(rehearse: bool) -> dict[str, Any]:
    """Outputs, gradients and speed of attention as it is built for a GPU, beside what is built without one."""
    import mmhydra.titan  # noqa: F401 - first, as in gpu_training.py

    # isort: split
    import torch

    found: dict[str, Any] = {"card": card(), "torch": torch.__version__}
    _without_autotuning()
    shapes = [(2, 256)] if rehearse else [(2, 4096), (2, 8192)]
    found["speed"] = [time_attention(*shape, repeats=3 if rehearse else 20) for shape in shapes]
    # torchtitan writes the mask of one sequence in another way than that of several.
    seq_len = 256 if rehearse else 1024
    found["numbers"] = [compare_attention(2, seq_len, ("float32", "bfloat16"))]
    found["numbers"].append(compare_attention(1, seq_len, ("bfloat16",)))
    found["model"] = compare_models(rehearse)
    return found


def _without_autotuning() -> None:
    """What torchtitan does to flex attention for training.deterministic=true: tuning takes minutes a shape."""
    import torch
    from torch.nn.attention.flex_attention import flex_attention
    from torchtitan.models.common.attention import FlexAttention

    FlexAttention.inductor_configs |= {"max_autotune": False, "coordinate_descent_tuning": False}
    FlexAttention._compiled_flex_attn = torch.compile(flex_attention, options=FlexAttention.inductor_configs)


def _paths() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Attention by the mask of positions (B, L): as built for a GPU, and as built without one. q, k, v (B, L, N, H)."""
    import torch

    from mmhydra.titan.attention import DocumentAttention, document_mask

    dense = DocumentAttention(DocumentAttention.Config())
    if not torch.cuda.is_available():  # a rehearsal
        return (lambda positions: document_mask(positions)), dense
    from torchtitan.models.common.attention import FlexAttention

    model = build_model(debug_config(64), on_cpu=False)
    return model.get_attention_masks, FlexAttention(FlexAttention.Config())


def debug_config(seq_len: int) -> Any:
    """The debug model with sequences of this length, in float32."""
    from mmhydra.testing import assert_legal

    return assert_legal("model=debug", "precision=fp32", f"training.seq_len={seq_len}", "optim.warmup_steps=2")


def build_model(config: Any, *, on_cpu: bool) -> Any:
    """The model as mmhydra builds it with or without an accelerator, on meta."""
    import torch

    from mmhydra.titan import cpu
    from mmhydra.titan.model import model_spec

    with mock.patch.object(cpu, "is_active", return_value=on_cpu):
        spec = model_spec(
            config.model,
            config.precision,
            vocab_size=config.tokens.vocab_size,
            max_seq_len=config.training.seq_len,
            compile=False,
        )
        with torch.device("meta"):
            return spec.model.build()


def compare_attention(batch: int, seq_len: int, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Relative errors of the output and of the gradients of a loss, against float64 on CPU."""
    import torch

    from mmhydra.titan.attention import DocumentAttention, document_mask

    torch._dynamo.reset()  # else another shape makes sizes dynamic, which a run of one shape never has
    heads, head_dim = 4, 128
    generator = torch.Generator().manual_seed(batch)
    shape = (batch, seq_len, heads, head_dim)
    q, k, v, weight = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4))
    _, positions, _ = documents(batch, seq_len, 2, seed=batch)
    dense = DocumentAttention(DocumentAttention.Config())
    make_mask, fast = _paths()

    def run(path: Callable[..., Any], mask: Any, device: str, kind: Any) -> list[Any]:
        leaves = [part.to(kind).to(device).detach().clone().requires_grad_() for part in (q, k, v)]
        out = path(*leaves, attention_masks=mask)
        (out.double() * weight.to(device)).sum().backward()
        return [part.detach().double().cpu() for part in (out, *(leaf.grad for leaf in leaves))]

    true = run(dense, document_mask(positions), "cpu", torch.float64)
    device = find_device()
    sides = {
        "CPU": (dense, document_mask(positions), "cpu"),
        "GPU": (fast, make_mask(positions.to(device)), device),
    }
    names = ("output", "dq", "dk", "dv")
    errors: dict[str, Any] = {}
    for kind in kinds:
        for side, arm in sides.items():
            try:
                found = run(*arm, getattr(torch, kind))
            except Exception as error:  # told with the others
                errors[f"{side}, {kind}"] = {"failed": f"{type(error).__name__}: {str(error)[:600]}"}
                continue
            pairs = zip(names, found, true, strict=True)
            errors[f"{side}, {kind}"] = {
                name: float((mine - right).norm() / right.norm()) for name, mine, right in pairs
            }
    return {"shape": shape, "documents": int((positions == 0).sum()), "errors": errors}


def compare_models(rehearse: bool) -> dict[str, Any]:
    """One batch through the debug model on both paths with the same weights, in float32."""
    import torch
    import torch.nn.functional as F

    torch._dynamo.reset()
    seq_len = 128 if rehearse else 1024
    config = debug_config(seq_len)
    ids, positions, labels = documents(2, seq_len, config.tokens.vocab_size, seed=7)
    on_cpu = build_model(config, on_cpu=True).to_empty(device="cpu")
    torch.manual_seed(1)
    with torch.no_grad():
        on_cpu.init_weights(buffer_device=None)
    device = find_device()
    other = build_model(config, on_cpu=device == "cpu").to_empty(device=device)
    with torch.no_grad():
        other.init_weights(buffer_device=None)
    other.load_state_dict(on_cpu.state_dict())

    def run(model: Any, place: str) -> tuple[Any, float, dict[str, Any]]:
        where = positions.to(place)
        logits = model(ids.to(place), positions=where, attention_masks=model.get_attention_masks(positions=where))
        loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.to(place).flatten())
        loss.backward()
        gradients = {name: part.grad.double().cpu() for name, part in model.named_parameters()}
        return logits.detach().double().cpu(), loss.item(), gradients

    logits, loss, gradients = run(on_cpu, "cpu")
    logits_2, loss_2, gradients_2 = run(other, device)
    differences = {name: float((gradients_2[name] - one).norm() / one.norm()) for name, one in gradients.items()}
    total = torch.stack([one.norm() for one in gradients.values()]).norm()
    apart = torch.stack([(gradients_2[name] - one).norm() for name, one in gradients.items()]).norm()
    # Other tokens in the first document of each row: nothing that a later document computes may move.
    changed = ids.clone()
    first = (positions == 0).cumsum(1) == 1
    changed[first] = (changed[first] + 1) % config.tokens.vocab_size
    with torch.no_grad():
        where = positions.to(device)
        masks = other.get_attention_masks(positions=where)
        moved = other(changed.to(device), positions=where, attention_masks=masks).double().cpu() - logits_2
    return {
        "seq_len": seq_len,
        "loss_on_cpu": loss,
        "loss_on_gpu": loss_2,
        "logits": float((logits_2 - logits).norm() / logits.norm()),
        "gradients": float(apart / total),
        "worst_gradient": max(differences.items(), key=lambda item: item[1]),
        "moved_in_changed_document": float(moved[first].abs().max()),
        "moved_in_other_documents": float(moved[~first].abs().max()),
    }


def time_attention(batch: int, seq_len: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of forward and backward in bfloat16 with the heads of the 1b line; arms take turns."""
    import torch
    import torch.nn.functional as F

    from mmhydra.titan.attention import DocumentAttention, document_mask

    torch._dynamo.reset()
    heads, head_dim = (2, 32) if not torch.cuda.is_available() else (16, 128)
    device = find_device()
    shape = (batch, seq_len, heads, head_dim)
    q, k, v, slope = (torch.randn(shape, dtype=torch.bfloat16, device=device) for _ in range(4))
    for leaf in (q, k, v):
        leaf.requires_grad_()
    positions = documents(batch, seq_len, 2, seed=3)[1].to(device)
    make_mask, fast = _paths()
    dense = DocumentAttention(DocumentAttention.Config())
    block_mask, dense_mask = make_mask(positions), document_mask(positions)

    def causal(q: Any, k: Any, v: Any, **_: Any) -> Any:
        parts = (part.transpose(1, 2) for part in (q, k, v))
        return F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2)

    def both(path: Callable[..., Any], mask: Any) -> Callable[[], None]:
        def call() -> None:
            path(q, k, v, attention_masks=mask).backward(slope)
            q.grad = k.grad = v.grad = None

        return call

    def forward(path: Callable[..., Any], mask: Any) -> Callable[[], None]:
        def call() -> None:
            with torch.no_grad():
                path(q, k, v, attention_masks=mask)

        return call

    arms = {
        "gpu path": both(fast, block_mask),
        "dense mask": both(dense, dense_mask),
        "causal, no documents": both(causal, None),
        "gpu path, forward": forward(fast, block_mask),
        "dense mask, forward": forward(dense, dense_mask),
        "causal, no documents, forward": forward(causal, None),
        "block mask made": lambda: make_mask(positions),
        "dense mask made": lambda: document_mask(positions),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    peaks = {}
    for name, call in arms.items():
        for _ in range(3):
            call()
        peaks[name] = peak_of(call)
    for turn in range(repeats):
        for name in arms if turn % 2 == 0 else reversed(arms):
            times[name].append(time_of(arms[name]))
    return {
        "shape": shape,
        "documents": int((positions == 0).sum()),
        "ms": {name: statistics.median(values) for name, values in times.items()},
        "spread_ms": {name: (min(values), max(values)) for name, values in times.items()},
        "peak_bytes": peaks,
    }

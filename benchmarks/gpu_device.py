"""The device and its torch, for the parts of benchmarks/gpu.py: name, times, peaks, shims for an older torch."""

import inspect
import time
from collections.abc import Callable
from typing import Any


def stand_in() -> list[str]:
    """Gives an older torch the names that torchtitan and mmhydra import from a newer one, and says which.

    On one rank they are annotations and a time limit, and nothing that is measured depends on them.
    """
    import torch.distributed as dist
    import torch.distributed.fsdp as fsdp
    import torch.distributed.pipelining as pipelining
    import torch.nn.attention.flex_attention as flex

    wanted: list[tuple[Any, str, Any]] = [
        (fsdp, "DataParallelMeshDims", type("DataParallelMeshDims", (), {"__init__": _refuse})),
        (pipelining, "PipelineStageInfo", type("PipelineStageInfo", (), {"__init__": _refuse})),
        (dist, "set_timeout", lambda timeout, group=None: None),
    ]
    missing = [(module, name, value) for module, name, value in wanted if not hasattr(module, name)]
    create = flex.create_block_mask
    if "separate_full_blocks" not in inspect.signature(create).parameters:

        def create_block_mask(*args: Any, separate_full_blocks: bool, **kwargs: Any) -> Any:
            assert separate_full_blocks  # what an older torch always does
            return create(*args, **kwargs)

        missing.append((flex, "create_block_mask", create_block_mask))
    for module, name, value in missing:
        setattr(module, name, value)
    return [f"{module.__name__}.{name}" for module, name, _ in missing]


def _refuse(self: Any, *args: Any, **kwargs: Any) -> None:
    raise NotImplementedError("this torch is too old for more than one rank")


def card() -> str:
    """What the device calls itself."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def find_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def time_of(call: Callable[[], Any]) -> float:
    """Milliseconds of one call."""
    import torch

    if not torch.cuda.is_available():
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    began.record()
    call()
    ended.record()
    ended.synchronize()
    return float(began.elapsed_time(ended))


def peak_of(call: Callable[[], Any]) -> int:
    """Bytes that a call needs beyond what was there."""
    import torch

    if not torch.cuda.is_available():
        call()
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)

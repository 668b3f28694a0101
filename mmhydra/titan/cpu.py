"""torchtitan 0.3.0 on CPU over gloo: all that differs from a GPU run, and nothing else.

torchtitan falls back to "cuda" where it finds no accelerator, asks the device for memory figures, and uses reductions
that gloo lacks. On a machine with a GPU nothing here is installed.
"""

import os
import resource
import types
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed
from torch import nn
from torch.distributed.fsdp import FSDPModule

_KIB = 1024


def is_active() -> bool:
    """Whether this process computes on CPU because there is no accelerator."""
    return bool(getattr(torch.cpu, "_mmhydra", False))


def install_without_accelerator() -> None:
    """Makes torchtitan see a CPU device; does nothing where there is an accelerator."""
    if is_active() or torch._utils._get_available_device_type() is not None:
        return
    torch._utils._get_available_device_type = lambda: "cpu"  # type: ignore[assignment]
    torch.distributed.barrier = _barrier_without_device  # type: ignore[assignment]
    torch.nn.utils.get_total_norm = _total_norm  # type: ignore[assignment]
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    properties = types.SimpleNamespace(total_memory=memory_bytes)
    for name, value in {
        "get_device_name": lambda device=None: "cpu",
        "get_device_properties": lambda device=None: properties,
        "reset_peak_memory_stats": lambda device=None: None,
        "empty_cache": lambda: None,
        "memory_stats": lambda device=None: {"reserved_bytes.all.peak": _peak_rss_bytes()},
        "_mmhydra": True,
    }.items():
        setattr(torch.cpu, name, value)


def _peak_rss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


_barrier = torch.distributed.barrier


def _barrier_without_device(*args: Any, device_ids: Any = None, **kwargs: Any) -> Any:
    """gloo refuses `device_ids`."""
    return _barrier(*args, **kwargs)


def _total_norm(
    tensors: Iterable[torch.Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> torch.Tensor:
    """torch's get_total_norm with sums in float64.

    On CPU torch adds the squares of a float32 tensor in few lanes: for an embedding of 262,144 values the norm is off
    by 2e-5, and differently for each sharding. (The GPU kernels add in a tree.)
    """
    norms = [torch.linalg.vector_norm(tensor, norm_type, dtype=torch.float64) for tensor in tensors]
    total = torch.linalg.vector_norm(torch.stack(norms), norm_type)
    if error_if_nonfinite and not total.isfinite():
        raise RuntimeError(f"the total norm of order {norm_type} is {total}")
    return total


def reduce_by_sum(model: nn.Module) -> None:
    """FSDP2 pre-multiplies gradients with NCCL's PREMUL_SUM; gloo only sums. The scaling stays the same."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_force_sum_reduction_for_comms(True)


class Contiguous(torch.autograd.Function):
    """Identity with contiguous memory in both directions: gloo sends only contiguous tensors.

    Between pipeline stages sequence parallelism leaves views, in forward and in backward.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return x.contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return gradients[0].contiguous()

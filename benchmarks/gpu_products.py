"""Single matrix products in benchmarks/gpu.py, with the shapes of the 1b and 10b lines: float8 beside bfloat16."""

import statistics
from collections.abc import Callable
from typing import Any

from gpu_device import card, find_device, time_of

PRODUCTS = [  # rows, inner size, columns: forward of 1b, two gradients of weights, a larger microbatch, 10b, a square
    (8192, 2048, 6144),
    (8192, 2048, 2048),
    (8192, 2048, 5632),
    (8192, 5632, 2048),
    (2048, 8192, 5632),
    (2048, 8192, 6144),
    (16384, 2048, 5632),
    (8192, 4096, 11008),
    (8192, 8192, 8192),
]


def products(rehearse: bool) -> dict[str, Any]:
    """Milliseconds of the matrix products of the 1b and 10b lines in bfloat16 and in float8 with a scale a row."""
    import torch

    rows = [(64, 64, 64)] if rehearse else PRODUCTS
    found = []
    for m, k, n in rows:
        x, w = (torch.randn(size, k, device=find_device(), dtype=torch.bfloat16) for size in (m, n))
        x8, w8 = x.to(torch.float8_e4m3fn), w.to(torch.float8_e4m3fn)
        scales = {"scale_a": torch.ones(m, 1, device=find_device()), "scale_b": torch.ones(1, n, device=find_device())}
        row: dict[str, Any] = {"shape": (m, k, n), "bf16": _median_ms(lambda x=x, w=w: x @ w.t())}
        for name, fast in (("float8, fast sums", True), ("float8", False)):

            def multiply(x8: Any = x8, w8: Any = w8, scales: Any = scales, fast: bool = fast) -> Any:
                if not torch.cuda.is_available():  # a rehearsal
                    return x8.float() @ w8.float().t()
                kind = torch.bfloat16
                return torch._scaled_mm(x8, w8.t(), **scales, out_dtype=kind, use_fast_accum=fast)

            row[name] = _median_ms(multiply)
        found.append(row)
    return {"card": card(), "torch": torch.__version__, "rows": found}


def _median_ms(call: Callable[[], Any]) -> float:
    for _ in range(3):
        call()
    return statistics.median(time_of(call) for _ in range(15))

"""Random weights for plumbing: the same in every process, and codebooks that tell inputs apart."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's CPU generator starts at `seed`, and sums have one order; afterwards all is as it was."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the generators of GPUs as well
        torch.set_num_threads(1)  # the codebooks' bytes, and so the digest, do not depend on the number of threads
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def codes_like(latents: torch.Tensor, num_codes: int) -> torch.Tensor:
    """Random vectors [num_codes, D]: latents [N, D] drawn at random, each pulled some way towards their mean.

    Where latents are, there are codes. From another distribution, which lies far from all latents, a few codes would
    take every input; and without the pull the residual of one codebook would be too wild for the next one.
    """
    mean = latents.mean(dim=0)
    drawn = latents[torch.randint(len(latents), (num_codes,))]
    return mean + torch.rand(num_codes, 1) * (drawn - mean)


def random_pictures(num_pictures: int, resolution: int) -> torch.Tensor:
    """Pictures [n, 3, R, R] from -1 to 1, each with coarse and fine structure, as real ones have."""
    total = torch.zeros(num_pictures, 3, resolution, resolution)
    cells = 2
    while cells <= resolution:
        coarse = torch.randn(num_pictures, 3, cells, cells) / cells**0.5
        total += torch.nn.functional.interpolate(coarse, size=(resolution, resolution), mode="bilinear")
        cells *= 2
    return torch.tanh(total)


def random_sound(num_samples: int, rate_hz: int) -> torch.Tensor:
    """A sound [1, 1, n] of pieces of 1/8 s, loud and soft, each of some tones and more or less noise."""
    pieces = []
    for start in range(0, num_samples, rate_hz // 8):
        time_s = torch.arange(min(rate_hz // 8, num_samples - start)) / rate_hz
        piece = torch.randn(len(time_s)) * torch.rand(1) ** 3 * 0.3
        for _ in range(4):
            pitch_hz = 50 * 2 ** (6 * torch.rand(1))  # six octaves, up to 3200 Hz
            piece += torch.sin(2 * torch.pi * pitch_hz * time_s) * torch.rand(1) * 0.4
        pieces.append(piece * torch.rand(1) ** 1.5)
    return torch.cat(pieces)[None, None]

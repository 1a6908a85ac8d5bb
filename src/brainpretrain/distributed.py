"""Exchange between the processes of one training. With one process every function is the identity."""

from __future__ import annotations

import torch
import torch.distributed as dist


def processes() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(x: torch.Tensor) -> torch.Tensor:
    """The samples of all w processes in the order of their numbers (process r has samples r, r + w, r + 2w ...).

    Gradients flow to the samples of this process, multiplied by w, since DDP divides by w. A loss that every process computes
    on all samples so has the gradient that it would have in one process.

    Args:
        x: (b ...), the same number of samples in each process.

    Returns:
        (w b ...).
    """
    world = processes()
    if world == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world)]
    dist.all_gather(parts, x.detach().contiguous())
    parts[dist.get_rank()] = x + (world - 1) * (x - x.detach())
    return torch.stack(parts, dim=1).flatten(0, 1)


def own(samples: torch.Tensor) -> torch.Tensor:
    """The samples of this process among those of all processes, as `gathered` returns them."""
    return samples if processes() == 1 else samples[dist.get_rank() :: processes()]


def numbers(number: int, device: torch.device) -> list[int]:
    """The `number` of each process, by rank; all processes must call this."""
    if processes() == 1:
        return [number]
    parts = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(processes())]
    dist.all_gather(parts, torch.tensor([number], device=device))
    return [int(part) for part in parts]

"""What the processes of one training tell each other. With one process all of it is the identity."""

from __future__ import annotations

import torch
import torch.distributed as dist


def processes() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(x: torch.Tensor) -> torch.Tensor:
    """The samples of all processes in the order of their numbers (process r holds samples r, r + w, r + 2w ...).

    Gradients flow to the samples of this process, w-fold, since DDP divides by w: a loss that every process computes on all
    samples then has the gradient that one process would have.

    Args:
        x: (b ...), as many samples in each process.

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


def own(everyone: torch.Tensor) -> torch.Tensor:
    """The samples of this process among those of `gathered`."""
    return everyone if processes() == 1 else everyone[dist.get_rank() :: processes()]


def numbers(number: int, device: torch.device) -> list[int]:
    """What each process holds as `number`; all processes must ask."""
    if processes() == 1:
        return [number]
    parts = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(processes())]
    dist.all_gather(parts, torch.tensor([number], device=device))
    return [int(part) for part in parts]

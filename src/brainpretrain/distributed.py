"""What the processes of one training tell each other. With one process all of it is the identity."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.distributed.nn.functional import all_gather


def processes() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(x: torch.Tensor) -> torch.Tensor:
    """The samples of all processes in the order of their numbers (process r holds samples r, r + w, r + 2w ...).

    Gradients flow back to the process that a sample came from. They add up over the processes, and DDP divides by their
    number: a loss that each process computes on all samples has the gradient of one process.

    Args:
        x: (b ...), as many samples in each process.

    Returns:
        (w b ...).
    """
    if processes() == 1:
        return x
    parts = all_gather(x.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)


def own(everyone: torch.Tensor) -> torch.Tensor:
    """The samples of this process among those of `gathered`."""
    return everyone if processes() == 1 else everyone[dist.get_rank() :: processes()]

"""Memory of a GPU or of the machine: its peak, whether an error means that it ran out, and what to try then."""

from __future__ import annotations

import resource
from collections.abc import Sequence

import torch

from brainpretrain.errors import UserError

# what torch's allocators say in a plain RuntimeError
_WORDS = (
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "bad_alloc",
    "unable to find an engine",  # cuDNN found no algorithm whose workspace fits
)


class OutOfMemory(UserError):
    """A training needs more memory than there is."""


def peak_gb() -> float:
    """Peak memory so far in GiB: of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def ran_out(error: BaseException) -> bool:
    """True if an error means that memory could not be allocated."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def advice(
    error: BaseException,
    global_batch: int,
    patch: Sequence[int],
    divisor: int,
    devices: int,
    workers: int,
    execution: Sequence[str],
) -> OutOfMemory:
    """The error of a training that needs more memory than there is; it names the batch and the patch, and smaller ones to try.

    Args:
        error: the error that was raised.
        global_batch: patches per step over all devices.
        patch: size of a patch in voxels.
        divisor: every side of a patch is a multiple of it.
        devices: number of devices that share a batch.
        workers: loader processes per device.
        execution: see `training.execution.apply`.
    """
    patch = list(patch)
    own, gpu = global_batch // devices, torch.cuda.is_available()
    same = []  # changes that leave the result as it is
    if "checkpointing" not in execution:
        same.append("execution: [checkpointing]")
    if gpu and own > 1:
        same.append("more devices")
    if not gpu:
        same.append("more memory (mem_mb)")
    if not gpu and workers:
        same.append("fewer workers")
    other = [f"global_batch: {max(1, own // 2) * devices}"] if own > 1 else []
    smaller = [max(divisor, side * 3 // 4 // divisor * divisor) for side in patch]
    if smaller != patch and any(side > divisor for side in smaller):
        other.append(f"patch_size: {smaller}")
    tried = next(iter(str(error).splitlines()), "")[:200]
    choices = {"without another result": same, "with another": other}
    parts = [f"{what}: {', or '.join(words)}" for what, words in choices.items() if words]
    return OutOfMemory(
        f"out of memory with {own} patch(es) of {'x'.join(map(str, patch))} per device ({tried})",
        where="recipe: global_batch, patch_size",
        fix="; ".join(parts) or "use a smaller network",
    )

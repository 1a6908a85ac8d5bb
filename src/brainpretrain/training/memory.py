"""What to try where memory ran out, of a GPU or of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory could not be had."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def advice(
    error: BaseException, recipe: Mapping[str, Any], divisor: int, devices: int, workers: int, execution: Sequence[str]
) -> OutOfMemory:
    """The error of a training that needs more memory than there is: which batch and patch it was, and which to try.

    Args:
        error: what was raised.
        recipe: with `global_batch` and `patch_size` in voxels.
        divisor: every side of a patch is a multiple of it.
        devices: that share a batch.
        workers: loader processes per device.
        execution: see `execution.apply`.
    """
    batch, patch = recipe["global_batch"], list(recipe["patch_size"])
    own, gpu = batch // devices, torch.cuda.is_available()
    same = []  # what changes no result
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

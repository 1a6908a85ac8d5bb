"""What planning can know about a pretext: whether its backbone, patch and batch fit. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from brainpretrain import pretext
from brainpretrain.errors import UserError
from brainpretrain.sizes import ratio_range, token_grid


def check(
    method: str,
    options: Mapping[str, Any],
    patch: Sequence[int],
    batch: int,
    backbone: tuple[str, int | None],
    where: str,
) -> None:
    """Compares a pretext with what it is planned to be trained on.

    Args:
        method: a file of this folder.
        options: of its `build`.
        patch: voxels along x, y and z.
        batch: samples of an optimiser step over all devices.
        backbone: the architecture, and the stride of its coarsest feature map if it is known.
        where: the entry, for messages.

    Raises:
        UserError: the task does not take this backbone, or patch or batch do not fit.
    """
    architecture, stride = backbone
    declared = pretext.about(method)
    if not declared.takes(architecture):
        raise UserError(
            f"the pretext '{method}' cannot be trained on a backbone of architecture '{architecture}'",
            where=where,
            fix=f"use one of {', '.join(declared.architectures)}",
        )
    if batch < declared.samples:
        raise UserError(
            f"the pretext '{method}' compares samples of a batch, and the batch has {batch}",
            where=f"{where}: global_batch",
            fix=f"use at least {declared.samples}",
        )
    if "mask_size" in options:
        token_grid(patch, options["mask_size"], f"{where}: mask_size")
    if "mask_ratio" in options:
        ratio_range(options["mask_ratio"], f"{where}: mask_ratio")
    match method:
        case "swinunetr":
            _check_views(options, patch, stride, where)


def _check_views(options: Mapping[str, Any], patch: Sequence[int], stride: int | None, where: str) -> None:
    """Views are turned in a plane with two equal sides, and the heads read two tokens."""
    if patch[0] != patch[1]:
        raise UserError(
            f"patch {list(patch)} cannot be turned by 90 degrees", where=f"{where}: patch_size", fix="make x and y equal"
        )
    if options.get("pool") == "token" and stride and math.prod(n // stride for n in patch) < 2:
        raise UserError(
            f"the coarsest feature map of a patch of {list(patch)} has one token, and the heads read two",
            where=f"{where}: patch_size",
            fix=f"use a larger patch, such as {2 * stride} along z, or 'pool: mean'",
        )

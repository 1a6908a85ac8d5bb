"""What planning can know about a pretext: whether its backbone, patch and batch fit. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from brainpretrain import pretext
from brainpretrain.errors import UserError
from brainpretrain.sizes import check_size, check_tokens, check_visible, ratio_range, token_grid


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
        case "s3d":
            if options.get("sparse_encoder", True) and stride:
                check_visible(patch, options["mask_size"], options["mask_ratio"], stride, where)
        case "swinunetr":
            _check_views(options, patch, stride, where)
        case "volume_fusion":
            _check_boxes(options["sides"], patch, options["layout"] == "patches", where)
        case "voco":
            _check_crops(options, patch, stride, where)
        case "vit_mae" if stride:
            check_tokens(patch, stride, options["mask_ratio"], where)
        case "models_genesis":
            _check_smallest(patch, 14, where)  # models_genesis.SMALLEST


def _check_views(options: Mapping[str, Any], patch: Sequence[int], stride: int | None, where: str) -> None:
    """Views are turned in a plane with two equal sides, and the heads read two tokens."""
    if patch[1] != patch[2]:
        raise UserError(
            f"patch {list(patch)} cannot be turned by 90 degrees", where=f"{where}: patch_size", fix="make y and z equal"
        )
    if options.get("pool") == "token" and stride and math.prod(n // stride for n in patch) < 2:
        raise UserError(
            f"the coarsest feature map of a patch of {list(patch)} has one token, and the heads read two",
            where=f"{where}: patch_size",
            fix=f"use a larger patch, such as {2 * stride} along x, or 'pool: mean'",
        )


def _check_boxes(sides: Sequence[float], patch: Sequence[int], clipped: bool, where: str) -> None:
    """The smallest box is no larger than the largest, and that one fits into the patch unless it is clipped."""
    largest = list(sides[1:]) * 3 if len(sides) == 2 else list(sides[1:])
    for n, share in zip(patch, largest, strict=False):
        low, high = (int(bound * n if bound < 1 else bound) for bound in (sides[0], share))
        if not 1 <= low <= high or (high > n and not clipped):
            raise UserError(
                f"boxes with sides from {low} to {high} voxels do not fit into {n} voxels",
                where=f"{where}: patch_size",
                fix="use a larger patch, or other 'sides'",
            )


def _check_smallest(patch: Sequence[int], least: int, where: str) -> None:
    """A task whose boxes keep away from the border needs room for them."""
    if min(patch) < least:
        raise UserError(
            f"a patch of {list(patch)} is too small for this pretext",
            where=f"{where}: patch_size",
            fix=f"use at least {least} voxels along each axis",
        )


def _check_crops(options: Mapping[str, Any], patch: Sequence[int], stride: int | None, where: str) -> None:
    """The patch is cut into equal crops, each of a size that the network takes."""
    grid = options["grid"]
    if any(n % parts for n, parts in zip(patch, grid, strict=True)):
        raise UserError(
            f"a patch of {list(patch)} cannot be cut into {list(grid)} crops",
            where=f"{where}: patch_size",
            fix="make each side a multiple of the crops along it",
        )
    cut = [n // parts for n, parts in zip(patch, grid, strict=True)]
    if options.get("turn") and len(set(cut)) == len(cut):
        raise UserError(
            f"crops of {cut} cannot be turned by 90 degrees",
            where=f"{where}: options.turn",
            fix="set 'turn: 0', or a patch and a grid whose crops have two equal sides",
        )
    crop = options.get("crop_size") or cut
    if stride:
        check_size(crop, stride, f"{where}: a crop of patch_size")

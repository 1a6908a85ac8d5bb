"""Encoders, one file each, with a function `build(in_channels, **options)` that returns a `base.Encoder`.

Where published weights exist, the file also has `reference_name(name)`, from our tensor names to theirs; where nnU-Net has the
same network, `nnunet_names(name)` and `nnunet_architecture(encoder)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from brainpretrain import named
from brainpretrain.sizes import check_size

if TYPE_CHECKING:
    from brainpretrain.backbones.base import Encoder

__all__ = ["build", "check_size", "divisor", "names"]


def names() -> list[str]:
    """Names of the architectures, which are the files of this folder."""
    return named.names("backbones")


def build(architecture: str, in_channels: int, **options: Any) -> Encoder:
    """The encoder of `backbones/<architecture>.py`.

    Args:
        architecture: name of a file of this folder.
        in_channels: input channels.
        options: the backbone's `options` in `config/backbones.yaml`.

    Raises:
        UserError: unknown architecture; unknown or missing option.
    """
    builder = named.module("backbones", architecture).build
    named.check_options(builder, options, where=f"backbone '{architecture}'")
    return builder(in_channels, **options)


def divisor(architecture: str, options: Mapping[str, Any]) -> int | None:
    """The number that every side of an image must be a multiple of, from the options alone, for the check in a dry run.

    None for an architecture without a case here; then only the job refuses a wrong size. The contract test requires a
    case for every file of this folder and compares it with the `divisor` of the network.
    """
    match architecture:
        case "unet":
            return 2 ** (options["levels"] - 1)
        case "mednext":
            return 2 ** (len(options["blocks"]) - 1)
        case "resenc":
            return 2 ** (len(options["widths"]) - 1)
        case "swinunetr":  # tokens of 2 voxels, halved after every stage
            return 2 * 2 ** len(options["depths"])
        case "unetr":
            return options.get("token", 16)
        case "primus":
            return options["token"]
    return None

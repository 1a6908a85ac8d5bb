"""Encoders, one file each, with a function `build(in_channels, **options)` that returns a `base.Encoder`.

Where published weights exist, the file also has `reference_name(name)`, from our tensor names to theirs, or `LAYOUTS`, if there
are several layouts or several names of a tensor; and `recognise(shapes)`, the options of the network whose tensors a file holds.
Where nnU-Net has the same network, it has `nnunet_names(name)` and `nnunet_architecture(encoder)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from brainpretrain import named
from brainpretrain.sizes import check_size

if TYPE_CHECKING:
    from brainpretrain.backbones.base import Encoder

__all__ = ["build", "check_size", "divisor", "heads", "layouts", "names", "recognise"]


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


def layouts(architecture: str) -> list[Callable[[str], list[str]]]:
    """From a tensor's name to its names in files: this project's, and those of each layout that is known of the architecture.

    Where a layout has several names of one tensor, the one that was trained comes first.
    """
    module = named.module("backbones", architecture)
    reference = getattr(module, "reference_name", None)
    found = [lambda name: [name], *([lambda name: [reference(name)]] if reference else []), *getattr(module, "LAYOUTS", ())]
    nnunet = getattr(module, "nnunet_names", None)
    return found if nnunet is None or hasattr(module, "LAYOUTS") else [*found, lambda name: nnunet(name)[::-1]]


def heads(architecture: str) -> tuple[str, ...]:
    """Beginnings of names in files that belong to no encoder, even where they stand beside it under one prefix."""
    return getattr(named.module("backbones", architecture), "HEADS", ())


def recognise(shapes: Mapping[str, Sequence[int]]) -> dict[str, Any] | None:
    """Architecture and options of the encoder whose tensors are among `shapes`, by name; None if no layout is known."""
    for architecture in names():
        of_file = getattr(named.module("backbones", architecture), "recognise", None)
        if of_file and (options := of_file(shapes)):
            return {"architecture": architecture, "options": options}
    return None


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

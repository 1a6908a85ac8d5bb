"""Pretext tasks, one file each. A file declares what its task is (`ABOUT`, see `about.About`), and
`build(encoder, in_channels, **options)` returns an `nn.Module` with

- `encoder`: the network that is pretrained and transferred; the task has its own heads and decoders next to it,
- `decoder`, if one is trained that leads to full resolution: it is saved beside the encoder, and a fine-tuning can take it,
- `forward(input, target, seeds) -> dict`: `loss` and further scalars to log, among them those that its kinds need to show
  whether the network learns (`about.KINDS`),
- `reconstruct(input, target, seeds) -> dict` with the arrays input, masked, output, target (b c x y z) and
  hidden (b 1 x y z), on one grid, for the picture that it declares.

A loss that compares samples of a batch must gather those of all processes (`distributed.gathered`), since the number of
devices must not change a result; a test checks this for every file here. Whatever changes from step to step without a
gradient, such as a teacher, is a parameter or a buffer, so that checkpoints hold it.

`input` is the augmented patch (b c x y z), `target` the same patch without intensity augmentation, `seeds` one number
per sample, from which everything random follows.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainpretrain import named
from brainpretrain.pretext.about import About

if TYPE_CHECKING:
    from torch import nn

    from brainpretrain.backbones.base import Encoder


def names() -> list[str]:
    """Methods: the files of this folder."""
    return named.names("pretext")


@functools.cache
def about(method: str) -> About:
    """What the file of a method declares, read from its source, so that a dry run imports no torch.

    Raises:
        ValueError: the file, which must exist, has no `ABOUT = About(...)` with literal arguments.
    """
    body = ast.parse((Path(__file__).parent / f"{method}.py").read_text(encoding="utf-8")).body
    for node in body:
        match node:
            case ast.Assign([ast.Name("ABOUT")], ast.Call(ast.Name("About"), [], keywords)):
                return About(**{word.arg: ast.literal_eval(word.value) for word in keywords if word.arg})
    raise ValueError(f"pretext/{method}.py has no ABOUT = About(...) with literal keyword arguments")


def build(method: str, encoder: Encoder, in_channels: int, **options: Any) -> nn.Module:
    """The pretext task of `pretext/<method>.py` on `encoder`.

    Args:
        method: name of a file of this folder.
        encoder: a backbone.
        in_channels: channels of the patch.
        options: the pretext's `options` in `config/pretext.yaml`.

    Raises:
        UserError: unknown method; unknown or missing option.
    """
    builder = named.module("pretext", method).build
    named.check_options(builder, options, where=f"pretext '{method}'")
    return builder(encoder, in_channels, **options)

"""Parameters and floating-point operations of networks, counted without memory: on PyTorch's meta device."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from brainpretrain import backbones, decoders, pretext
from brainpretrain.backbones.base import parameters
from brainpretrain.config import Config
from brainpretrain.config.sections import Network


def rows(config: Config, name: str, patch_size: Sequence[int]) -> list[dict[str, Any]]:
    """Counts of the networks of backbone entry `name`: the encoder alone, the pretraining networks, the segmentation networks.

    Networks are those of `expected`; if it names none of a kind, that of the first pretext and that for two classes. All have
    one input channel.

    Args:
        patch_size: voxels (x y z) of the patch in the forward pass.

    Returns:
        A row per network: backbone, network, parameters, gflop (10^9 operations, a multiply-add is two), and expected_parameters
        and expected_gflop, None where nothing is expected.

    Raises:
        UserError: no such backbone or pretext, or a patch that does not fit it.
    """
    expected = config.get("backbones", name, "brainpretrain params").expected
    by_kind = {(network.pretext, network.classes): network for network in expected}
    first = next(iter(config.pretexts))
    kinds: list[tuple[str | None, int | None]] = [(None, None)]
    kinds += [kind for kind in by_kind if kind[0]] or [(first, None)]
    kinds += [kind for kind in by_kind if kind[1]] or [(None, 2)]
    return [_row(config, name, *kind, patch_size, by_kind.get(kind)) for kind in kinds]


def _row(
    config: Config, name: str, method: str | None, classes: int | None, patch_size: Sequence[int], expected: Network | None
) -> dict[str, Any]:
    with torch.device("meta"):
        network = build(config, name, method, classes)
    return {
        "backbone": name,
        "network": f"pretext {method}" if method else f"{classes} classes" if classes else "encoder",
        "parameters": parameters(network),
        "expected_parameters": expected.parameters if expected else None,
        "gflop": flops(config, name, method, classes, patch_size) / 1e9,
        "expected_gflop": expected.gflop if expected else None,
    }


def flops(config: Config, name: str, method: str | None, classes: int | None, patch_size: Sequence[int]) -> int:
    """Operations of one forward pass of a patch: convolutions, matrix products and attention; a multiply-add is two."""
    with torch.device("meta"):
        network = build(config, name, method, classes)
        patch = torch.empty(1, 1, *patch_size)
    backbones.check_size(patch_size, getattr(network, "encoder", network).divisor, f"patch size, for backbone '{name}'")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _ = network(patch, patch, [0]) if method else network(patch)
    return counter.get_total_flops()


def text(rows: Sequence[Mapping[str, Any]], patch_size: Sequence[int]) -> str:
    """The rows as a table of at most 120 characters in width, with the differences from the expected counts."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("network", no_wrap=True)
    for heading in ("parameters", "expected", "difference", "GFLOP", "expected", "difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        label = f"{row['backbone']} encoder" if row["network"] == "encoder" else f"  {row['network']}"
        table.add_row(label, *_compared(row, "parameters", ",d"), *_compared(row, "gflop", ",.1f"))
    console = Console(width=120, file=io.StringIO())
    console.print(table)
    size = " x ".join(map(str, patch_size))
    note = f"GFLOP: 10^9 operations of one forward pass of a patch of {size} voxels with one channel; a multiply-add is two."
    return "\n".join(line.rstrip() for line in [*console.file.getvalue().splitlines()[1:], note])


def _compared(row: Mapping[str, Any], name: str, form: str) -> list[str]:
    """Count, expected count and difference as text; the last two are empty if nothing is expected."""
    count, expected = row[name], row[f"expected_{name}"]
    if expected is None:
        return [f"{count:{form}}", "", ""]
    difference = f"{count - expected:+{form}}"
    same = not difference.strip("+-0.")
    return [f"{count:{form}}", f"{expected:{form}}", "0" if same else difference]


def build(config: Config, name: str, method: str | None, classes: int | None) -> nn.Module:
    """The network of backbone entry `name` for a pretext, or for a number of classes, or the encoder alone."""
    backbone = config.get("backbones", name, "brainpretrain params")
    encoder = backbones.build(backbone.architecture, 1, **backbone.options)
    if method:
        recipe = config.get("pretexts", method, f"backbones.{name}.expected")
        return pretext.build(recipe.method, encoder, 1, **recipe.options)
    if classes:
        return decoders.Segmenter(encoder, decoders.build(backbone.decoder, encoder, classes, **backbone.decoder_options))
    return encoder

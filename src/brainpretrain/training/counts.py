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
    """What backbone entry `name` is: the encoder alone, the networks that pretrain, the networks that segment.

    Those of the entry's `expected`; where it says nothing, that of the first pretext and that for two classes. All
    on one input channel.

    Args:
        patch_size: voxels (x y z) of the patch whose forward pass is counted.

    Returns:
        A row per network: backbone, network, parameters, gflop (10^9 operations, a multiply-add is two), and expected_parameters
        and expected_gflop, None where nothing is expected.

    Raises:
        UserError: no such backbone or pretext, or a patch that does not fit it.
    """
    expected = config.get("backbones", name, "brainpretrain params").expected
    known = {(network.pretext, network.classes): network for network in expected}
    first = next(iter(config.pretexts))
    wanted: list[tuple[str | None, int | None]] = [(None, None)]
    wanted += [key for key in known if key[0]] or [(first, None)]
    wanted += [key for key in known if key[1]] or [(None, 2)]
    return [_row(config, name, *key, patch_size, known.get(key)) for key in wanted]


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
    """The rows as a table of at most 120 columns, with the differences to what is expected."""
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
    """Found, expected and difference, as text; what is not expected stays empty."""
    found, expected = row[name], row[f"expected_{name}"]
    if expected is None:
        return [f"{found:{form}}", "", ""]
    difference = f"{found - expected:+{form}}"
    same = not difference.strip("+-0.")
    return [f"{found:{form}}", f"{expected:{form}}", "0" if same else difference]


def build(config: Config, name: str, method: str | None, classes: int | None) -> nn.Module:
    """The network of backbone entry `name` for a pretext entry, for so many classes, or the encoder alone."""
    backbone = config.get("backbones", name, "brainpretrain params")
    encoder = backbones.build(backbone.architecture, 1, **backbone.options)
    if method:
        recipe = config.get("pretexts", method, f"backbones.{name}.expected")
        return pretext.build(recipe.method, encoder, 1, **recipe.options)
    if classes:
        return decoders.Segmenter(encoder, decoders.build(backbone.decoder, encoder, classes, **backbone.decoder_options))
    return encoder

"""Weights are safetensors beside a JSON that says what they are. No pickle is read or written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from brainpretrain import backbones
from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError
from brainpretrain.files import atomic, read_json, write_json


def save(path: Path | str, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Writes `<path>.safetensors` and, as the mark that it is whole, `<path>.json`."""
    path = Path(path)
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path.with_suffix(".safetensors"), needs=sum(tensor.nbytes for tensor in stored.values())) as temporary:
        save_file(stored, temporary)
    write_json(path.with_suffix(".json"), dict(facts))


def load(path: Path | str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and facts of weights written by `save`.

    Raises:
        UserError: a file is missing, or it is no safetensors: nothing else is ever opened.
    """
    path = Path(path)
    if path.suffix not in ("", ".safetensors", ".json") and path.is_file():
        raise UserError(
            f"weights are read as safetensors alone, never as '{path.suffix}'",
            where=path,
            fix=f"convert an encoder with: brainpretrain import {path.name} --backbone NAME --preprocess NAME --out FOLDER",
        )
    path = path.with_suffix(".safetensors")
    if not path.exists():
        raise UserError("weights not found", where=path, fix="run the training that makes them")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"no readable safetensors: {error}", where=path, fix="make or fetch the file again") from error
    return tensors, read_json(path.with_suffix(".json"))


def encoder(folder: Path | str, in_channels: int | None = None) -> tuple[Encoder, dict[str, Any]]:
    """The encoder in a folder, in evaluation mode, and its facts.

    Args:
        folder: with encoder.safetensors and encoder.json.
        in_channels: of the images to come; without it, those it was trained with.

    Raises:
        UserError: see `load` and `load_encoder`.
    """
    tensors, facts = load(Path(folder) / "encoder")
    backbone = facts["backbone"]
    network = backbones.build(backbone["architecture"], in_channels or facts["in_channels"], **backbone["options"])
    load_encoder(network, tensors, where=Path(folder) / "encoder.safetensors")
    return network.eval(), facts


def load_encoder(
    encoder: nn.Module, tensors: Mapping[str, torch.Tensor], divide_stem: bool = True, where: Path | str = ""
) -> list[dict[str, str]]:
    """Fills `encoder` with pretrained tensors, all of them or none.

    A stem pretrained on one channel is repeated for an encoder with c input channels, and divided by c unless
    `divide_stem` is off, so that c equal channels give the features of one.

    Args:
        encoder: the network to fill, in place.
        tensors: state dict of the pretrained encoder.
        where: its file, for messages.

    Returns:
        The transfer report: one row per tensor with tensor, shape and status: `loaded`, `repeated`, or `repeated, divided
        by <c>`.

    Raises:
        UserError: a tensor is missing, left over, or a `misfit`; the message lists each.
    """
    own = encoder.state_dict()
    problems = [f"missing in the file: {name}" for name in own if name not in tensors]
    problems += [f"not in this encoder: {name}" for name in tensors if name not in own]
    filled, report = {}, []
    for name in own.keys() & tensors.keys():
        tensor, wanted = tensors[name], own[name].shape
        stem = tensor.shape != wanted and _is_stem(tensor.shape, wanted)
        if stem:
            tensor = tensor.repeat_interleave(wanted[1], dim=1)
        if problem := misfit(name, own[name], tensor):
            problems.append(problem)
            continue
        divided = stem and divide_stem
        filled[name] = tensor / wanted[1] if divided else tensor
        status = "loaded" if not stem else f"repeated, divided by {wanted[1]}" if divided else "repeated"
        report.append({"tensor": name, "shape": "x".join(map(str, wanted)), "status": status})
    if problems:
        raise UserError(
            f"the encoder was not loaded, {len(problems)} of {len(own)} tensors do not fit:\n  " + "\n  ".join(problems[:20]),
            where=where,
            fix="fine-tune with the backbone entry that the encoder was pretrained with",
        )
    encoder.load_state_dict(filled, strict=True)
    return sorted(report, key=lambda row: row["tensor"])


def misfit(name: str, wanted: torch.Tensor, found: torch.Tensor) -> str:
    """Why a tensor of a file cannot take the place of one of a network; '' if it can. 16-bit floats may."""
    if found.shape != wanted.shape:
        return f"other shape: {name} is {list(found.shape)} in the file, {list(wanted.shape)} in the network"
    if found.is_floating_point() != wanted.is_floating_point():
        return f"other type: {name} is {found.dtype} in the file, {wanted.dtype} in the network"
    return "" if found.isfinite().all() else f"not finite: {name}"


def _is_stem(found: torch.Size, wanted: torch.Size) -> bool:
    """One input channel in the file, several wanted, all else equal."""
    return len(found) == 5 and found[1] == 1 and found[0] == wanted[0] and found[2:] == wanted[2:]

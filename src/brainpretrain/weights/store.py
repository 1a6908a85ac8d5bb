"""Weights are safetensors with a JSON of facts next to them. No pickle is read or written."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from brainpretrain import backbones
from brainpretrain.backbones.base import Encoder
from brainpretrain.backbones.tokens import TokenEncoder
from brainpretrain.errors import UserError, first_line
from brainpretrain.files import atomic, not_permitted, read_json, write_json
from brainpretrain.weights.facts import check_facts


def save(path: Path | str, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Writes `<path>.safetensors` and then `<path>.json`, which marks the pair as complete."""
    path = Path(path)
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path.with_suffix(".safetensors"), needs=sum(tensor.nbytes for tensor in stored.values())) as temporary:
        save_file(stored, temporary)
    write_json(path.with_suffix(".json"), dict(facts))


def load(path: Path | str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and facts of weights written by `save`.

    Raises:
        UserError: a file is missing, may not be read, or is not safetensors; no other format is ever opened.
    """
    path = Path(path)
    if path.suffix not in ("", ".safetensors", ".json") and path.is_file():
        raise UserError(
            f"weights are read only as safetensors, never as '{path.suffix}'",
            where=path,
            fix=f"convert an encoder with: brainpretrain import {path.name} --backbone NAME --preprocess NAME --out FOLDER",
        )
    path = path.with_suffix(".safetensors")
    try:
        with open(path, "rb"):  # safetensors calls a file that may not be read a file that is not there
            pass
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise UserError("weights not found", where=path, fix="run the training that makes them") from error
    except PermissionError as error:
        raise not_permitted(path) from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"not readable as safetensors: {error}", where=path, fix="make or fetch the file again") from error
    return tensors, read_json(path.with_suffix(".json"))


def encoder(folder: Path | str, in_channels: int | None = None) -> tuple[Encoder, dict[str, Any]]:
    """The encoder in a folder, in evaluation mode, and its facts.

    Args:
        folder: with encoder.safetensors and encoder.json.
        in_channels: channels of the images; by default those that the encoder was trained with.

    Raises:
        UserError: see `load` and `load_encoder`.
    """
    path = Path(folder) / "encoder.json"
    tensors, facts = load(path)
    check_facts(facts, path)
    backbone = facts["backbone"]
    with no_larger_than(tensors, path, in_channels or 1):
        network = backbones.build(backbone["architecture"], in_channels or facts["in_channels"], **backbone["options"])
    load_encoder(network, tensors, where=Path(folder) / "encoder.safetensors")
    return network.eval(), facts


@contextmanager
def no_larger_than(tensors: Mapping[str, torch.Tensor], path: Path, times: int = 1) -> Iterator[None]:
    """A context in which the network for `tensors` is built from the JSON next to them, which may describe any size.

    Args:
        tensors: of the file.
        path: of the JSON, for messages.
        times: how many times larger than the file the network may be, since its stem is repeated over channels.

    Raises:
        UserError: the network has more parameters than the file has values, or cannot be built at all.
    """
    limit, built = times * sum(1 + tensor.numel() for tensor in tensors.values()), 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal built
        built += 0 if parameter is None else 1 + parameter.numel()
        if built > limit:
            fix = "take the json that was written with the tensors"
            raise UserError("the network that the json describes is larger than the file of its tensors", where=path, fix=fix)

    hook = register_module_parameter_registration_hook(count)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes of 0, which do not match those of the file
            yield
    except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        problem = f"the network that the json describes cannot be built: {first_line(error)}"
        raise UserError(problem, where=path, fix="take the json that was written with the tensors") from error
    finally:
        hook.remove()


def load_encoder(
    encoder: nn.Module, tensors: Mapping[str, torch.Tensor], stem: str = "divide", where: Path | str = ""
) -> list[dict[str, str]]:
    """Fills `encoder` with pretrained tensors, all of them or none.

    A stem pretrained on one channel becomes that of an encoder with c input channels as `stem` says (S3D, Table 8). Where the
    channels are as many as in the file, it is loaded as it is.

    Args:
        encoder: the network to fill, in place.
        tensors: state dict of the pretrained encoder.
        stem: `divide`, repeated and divided by c, so that c equal channels give the features of one; `repeat`, repeated as it
            is; or `random`, where the weights stay those of `encoder`, which has been initialised, also in
            place of a stem of several channels.
        where: file of `tensors`, for messages.

    Returns:
        The transfer report: one row per tensor with tensor, shape and status: `loaded`, `repeated`, `repeated, divided by <c>`,
        `random`, or `resampled from <grid> to <grid> tokens` of learned positions on another grid.

    Raises:
        UserError: a tensor is missing, left over, or a `misfit`; the message lists each.
    """
    own = encoder.state_dict()
    problems = [f"missing in the file: {name}" for name in own if name not in tensors]
    problems += [f"not in this encoder: {name}" for name in tensors if name not in own]
    filled, report = {}, []
    for name in own.keys() & tensors.keys():
        tensor, shape = tensors[name], own[name].shape
        tensor, resampling = _resampled(encoder, name, tensor, shape)
        if stem == "random" and shape[1:2] == (getattr(encoder, "in_channels", None),) and _other_channels(tensor.shape, shape):
            filled[name] = own[name]
            report.append({"tensor": name, "shape": "x".join(map(str, shape)), "status": "random"})
            continue
        is_stem = tensor.shape != shape and _is_stem(tensor.shape, shape)
        if is_stem:
            tensor = tensor.repeat_interleave(shape[1], dim=1)
        if problem := misfit(name, own[name], tensor):
            problems.append(problem)
            continue
        status = (
            {"divide": f"repeated, divided by {shape[1]}", "repeat": "repeated", "random": "random"}[stem]
            if is_stem
            else resampling or "loaded"
        )
        filled[name] = own[name] if status == "random" else tensor / shape[1] if is_stem and stem == "divide" else tensor
        report.append({"tensor": name, "shape": "x".join(map(str, shape)), "status": status})
    if problems:
        raise UserError(
            f"the encoder was not loaded, {len(problems)} of {len(own)} tensors do not fit:\n  " + "\n  ".join(problems[:20]),
            where=where,
            fix="fine-tune with the backbone entry that the encoder was pretrained with",
        )
    encoder.load_state_dict(filled, strict=True)
    return sorted(report, key=lambda row: row["tensor"])


def _resampled(encoder: nn.Module, name: str, tensor: torch.Tensor, shape: torch.Size) -> tuple[torch.Tensor, str]:
    """Learned positions on the grid of the encoder, and words for it; other tensors as they are."""
    if tensor.shape == shape or not isinstance(encoder, TokenEncoder):
        return tensor, ""
    return encoder.resampled(name, tensor) or (tensor, "")


def misfit(name: str, own: torch.Tensor, tensor: torch.Tensor) -> str:
    """Why a tensor of a file cannot replace a tensor of the network; '' if it can. Floats of 16 bits can."""
    if tensor.shape != own.shape:
        return f"other shape: {name} is {list(tensor.shape)} in the file, {list(own.shape)} in the network"
    if tensor.is_floating_point() != own.is_floating_point():
        return f"other type: {name} is {tensor.dtype} in the file, {own.dtype} in the network"
    # converted first, since not every type of a file has `isfinite`
    return "" if tensor.to(own.dtype).isfinite().all() else f"not finite: {name}"


def _other_channels(found: Sequence[int], own: Sequence[int]) -> bool:
    """True for a convolution that reads another number of channels, and has the same kernels otherwise."""
    return len(found) == len(own) == 5 and found[1] != own[1] and [*found[:1], *found[2:]] == [*own[:1], *own[2:]]


def _is_stem(shape: torch.Size, own: torch.Size) -> bool:
    """True if the file has one input channel where the network has several, and the rest is equal."""
    return len(shape) == 5 and shape[1] == 1 and shape[0] == own[0] and shape[2:] == own[2:]

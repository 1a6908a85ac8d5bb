"""Weights are safetensors beside a JSON that says what they are. No pickle is read or written."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from brainpretrain import backbones
from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError, first_line
from brainpretrain.files import atomic, read_json, write_json

MAX_OPTION = 8192  # largest number in the options of a backbone that a file describes


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
    path = Path(folder) / "encoder.json"
    tensors, facts = load(path)
    check_facts(facts, path)
    backbone = facts["backbone"]
    with no_larger_than(tensors, path, in_channels or 1):
        network = backbones.build(backbone["architecture"], in_channels or facts["in_channels"], **backbone["options"])
    load_encoder(network, tensors, where=Path(folder) / "encoder.safetensors")
    return network.eval(), facts


def check_facts(facts: Any, path: Path) -> None:
    """What everything that uses an encoder takes for granted of its JSON.

    Raises:
        UserError: naming every key that is missing or of a wrong kind.
    """
    try:
        _Facts.model_validate(facts, strict=True)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()[:20]]
        raise UserError(
            "no facts of an encoder:\n  " + "\n  ".join(lines), where=path, fix="take the json that was written with the tensors"
        ) from error


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Backbone(_Open):
    architecture: str
    options: dict[str, Any]

    @field_validator("options")
    @classmethod
    def _bounded(cls, options: dict[str, Any]) -> dict[str, Any]:
        for value in options.values():
            for number in value if isinstance(value, list) else [value]:
                if not isinstance(number, bool | int | float | str | None) or (
                    isinstance(number, int | float) and not 0 <= number <= MAX_OPTION
                ):
                    raise ValueError(f"an option is a word, or a number or numbers from 0 to {MAX_OPTION}")
        return options


class _Prepared(_Open):
    spacing_mm: list[float]
    upper_quantile: float
    crop: str


class _Counted(_Open):
    subjects: int
    volumes: int


class _Recipe(_Open):
    patch_size: list[int] | None = None


class _Facts(_Open):
    name: str | None = None
    backbone: _Backbone
    in_channels: Annotated[int, Field(ge=1, le=MAX_OPTION)]
    preprocess: _Prepared | None = None
    patch_size: list[int] | None = None
    datasets: dict[str, _Counted] | None = None
    corpus_sha256: str | None = None
    steps: int | None = None
    commit: str | None = None
    recipe: _Recipe = _Recipe()


@contextmanager
def no_larger_than(tensors: Mapping[str, torch.Tensor], path: Path, times: int = 1) -> Iterator[None]:
    """A block that builds the network which `tensors` fill, as the JSON beside them describes it; that may ask for anything.

    Args:
        times: how much larger than in the file a network may be, whose stem is repeated.

    Raises:
        UserError: the network has more parameters than the file has values, or cannot be built at all.
    """
    most, built = times * sum(1 + tensor.numel() for tensor in tensors.values()), 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal built
        built += 0 if parameter is None else 1 + parameter.numel()
        if built > most:
            fix = "take the json that was written with the tensors"
            raise UserError("the network that the json describes is larger than the file of its tensors", where=path, fix=fix)

    hook = register_module_parameter_registration_hook(count)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that are 0; they are compared with the file's
            yield
    except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        problem = f"the json describes no network that can be built: {first_line(error)}"
        raise UserError(problem, where=path, fix="take the json that was written with the tensors") from error
    finally:
        hook.remove()


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
    # as it will be kept; and not every type can tell
    return "" if found.to(wanted.dtype).isfinite().all() else f"not finite: {name}"


def _is_stem(found: torch.Size, wanted: torch.Size) -> bool:
    """One input channel in the file, several wanted, all else equal."""
    return len(found) == 5 and found[1] == 1 and found[0] == wanted[0] and found[2:] == wanted[2:]

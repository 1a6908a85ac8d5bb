"""Reads tensors from weights files of other programs, and runs nothing in them.

Safetensors are read as such, and the zip files of `torch.save` through its restricted unpickler (`weights_only`).
"""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from brainpretrain.errors import UserError, first_line
from brainpretrain.files import UNREADABLE_ARCHIVE

MAX_BYTES = 16 * 2**30  # of a file; the largest released encoder with its decoder has 0.3
MAX_PICKLE_BYTES = 64 * 2**20  # of the part of a file that is not tensor data
# keys of a checkpoint that may hold the state dict; the first one counts
HOLDERS = ("state_dict", "network_weights", "model_state_dict", "model_state", "model", "network", "net")
# keys, or beginnings of keys, of a checkpoint below which there are tensors that are no network
NO_NETWORK = (
    *("optimizer", "optimiser", "grad_scaler", "scaler", "lr_scheduler", "scheduler", "loops", "callbacks", "amp", "rng"),
    *("hyper_parameters", "init_args", "logging"),
)
MAX_DEPTH = 32  # of mappings in mappings
WRAPPERS = ("module.", "_orig_mod.", "model.", "task.", "network.")  # DDP, torch.compile, and the modules around a network
RENAMED = ("swinViT.", "swin_vit.")  # names of MONAI's later releases for the encoder that is `swin.` here
AXES, ZYX = "brainpretrain_axes", "zyx"  # key of a checkpoint that this project wrote for nnU-Net, whose kernels are z y x
BACKBONE = "brainpretrain_backbone"  # key of the same, JSON with architecture and options
MAX_TUPLE = 10**6  # values of one tuple, including those of the tuples in it
SHOWN = 20  # names that a message lists


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        tensors: the state dict, by names that have lost the prefixes of wrappers such as DDP.
        twice: names that stood twice in the file with equal values.
        extras: plain values beside the state dict, such as `nnssl_adaptation_plan`.
    """

    tensors: dict[str, torch.Tensor]
    twice: list[str] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of `read_checkpoint`."""
    return read_checkpoint(path).tensors


def read_checkpoint(path: Path) -> Checkpoint:
    """The state dict in a file, and the plain values beside it.

    Raises:
        UserError: the file is missing, too large, damaged or not weights, or it holds more than tensors and plain values.
    """
    _check_file(path)
    with open(path, "rb") as stream:
        head = stream.read(9)
    extras: dict[str, Any] = {}
    if head[:4] == b"PK\x03\x04":
        content = _read_zip(path)
        tensors = _state_dict(content, path)
        extras = {key: value for key, value in content.items() if isinstance(key, str) and not isinstance(value, torch.Tensor)}
    elif head[8:] == b"{":
        tensors = _read_safetensors(path)
    else:
        is_page = head.lstrip()[:1] == b"<"
        raise UserError(
            "a web page, not weights" if is_page else "neither safetensors nor a zip file as torch.save writes",
            where=path,
            fix="download the file itself" if is_page else "load it where it was made, and save its state dict with torch.save",
        )
    bare: dict[str, torch.Tensor] = {}
    twice = []
    for name, tensor in tensors.items():
        other = bare.setdefault(bare_name(name), tensor)
        if other is not tensor:
            if not same(other, tensor):
                fix = "leave one network in the file"
                raise UserError(f"two tensors are called '{bare_name(name)}', and their values differ", where=path, fix=fix)
            twice.append(name)
    return Checkpoint(bare, twice, extras)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """True if two tensors of a file have the same type, shape and values."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.data_ptr() == b.data_ptr() and a.stride() == b.stride():
        return True
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8)) if a.ndim else torch.equal(a, b)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise UserError("weights file not found", where=path, fix="check the path")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise UserError(f"{size} bytes, more than {MAX_BYTES}", where=path, fix="save the state dict alone")


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"not readable as safetensors: {error}", where=path, fix="fetch the file again") from error


def _read_zip(path: Path) -> Any:
    """The content of a file of torch.save, read by its restricted unpickler."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
            pickled = sum(entry.file_size for entry in pickles)
            as_torch = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries) and pickled <= MAX_PICKLE_BYTES
            grown = as_torch and any(_grows(archive.read(entry)) for entry in pickles)
    except (*UNREADABLE_ARCHIVE, OSError) as error:
        raise UserError(f"truncated or damaged zip file: {error}", where=path, fix="fetch the file again") from error
    if not as_torch or grown:
        reason = "tuples nested without end" if grown else f"compressed tensors, or {pickled} bytes that are not tensors"
        raise UserError(
            f"not as torch.save writes it: {reason}",
            where=path,
            fix="load it where it was made, and save its state dict with torch.save",
        )
    try:
        if unsafe := torch.serialization.get_unsafe_globals_in_checkpoint(path):
            raise UserError(
                f"the file holds more than tensors, reading it would run code: {', '.join(sorted(map(str, unsafe))[:SHOWN])}",
                where=path,
                fix="nothing of it was run. If you trust it, load it where it was made, and save its state dict with torch.save",
            )
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UserError:
        raise
    except Exception as error:  # a crafted or damaged file may raise anything
        problem = f"torch cannot read it as plain tensors: {first_line(error)}"
        raise UserError(problem, where=path, fix="fetch it again, or save its state dict with torch.save") from error


def _opcodes(pickled: bytes) -> Iterator[tuple]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about unusual characters in names
        yield from pickletools.genops(pickled)


def _grows(pickled: bytes) -> bool:
    """True if nested tuples would become too large when they are hashed or printed, since one tuple occurs in them many times.

    Only sizes are computed, on a stack and a memo like those of the unpickler. No value is created.
    """
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    for opcode, argument, _ in _opcodes(pickled):
        name = opcode.name
        if "PUT" in name or name == "MEMOIZE":
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif "GET" in name:
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        else:
            fixed = [kind for kind in opcode.stack_before if kind not in (pickletools.markobject, pickletools.stackslice)]
            begin = (marks.pop() if pickletools.markobject in opcode.stack_before else len(stack)) - len(fixed)
            taken, stack[begin:] = stack[begin:], []
            size = 1 + sum(taken) if name.startswith("TUPLE") else 1
            if size > MAX_TUPLE:
                return True
            stack += [size] * len(opcode.stack_after)
    return False


def _state_dict(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a network by name, from wherever they are in a checkpoint. Names of mappings in mappings are joined by dots.

    What is under the first of `HOLDERS` counts alone. Without any of them, everything counts but the states of optimisers.
    """
    if isinstance(content, Mapping) and (tensors := _tensors(content, set(), 0)):
        return tensors
    keys = [key if isinstance(key, str) else type(key).__name__ for key in content] if isinstance(content, Mapping) else []
    content_text = ", ".join(keys)[:200] or type(content).__name__
    raise UserError(
        f"no state dict in the file; found: {content_text}", where=path, fix=f"store one, alone or as {' or '.join(HOLDERS)}"
    )


def _tensors(content: Mapping, seen: set[int], depth: int) -> dict[str, torch.Tensor]:
    """The plain tensors in nested mappings; each mapping is visited once, so that one that contains itself ends."""
    if id(content) in seen or depth > MAX_DEPTH:
        return {}
    seen.add(id(content))
    for key in HOLDERS:
        if isinstance(content.get(key), Mapping) and (tensors := _tensors(content[key], seen, depth + 1)):
            return tensors
    found: dict[str, torch.Tensor] = {}
    for name, value in content.items():
        if not isinstance(name, str) or (name.startswith(NO_NETWORK) and isinstance(value, Mapping)):
            continue
        if _is_plain(value):
            found[name] = value
        elif isinstance(value, Mapping):
            found |= {f"{name}.{inner}": tensor for inner, tensor in _tensors(value, seen, depth + 1).items()}
    return found


def _is_plain(value: Any) -> bool:
    """True for a dense tensor with values in memory."""
    if not isinstance(value, torch.Tensor) or value.is_nested:
        return False
    return value.layout == torch.strided and value.device.type == "cpu"


def bare_name(name: str) -> str:
    """The name of a tensor without the prefixes of wrappers."""
    while wrapper := next((prefix for prefix in WRAPPERS if name.startswith(prefix)), None):
        name = name.removeprefix(wrapper)
    for other in RENAMED:
        name = "swin." + name.removeprefix(other) if name.startswith(other) else name
    return name.replace("._orig_mod.", ".")

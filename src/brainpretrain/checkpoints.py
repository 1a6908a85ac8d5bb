"""Resume state without pickle: a folder `step-<n>` with tensors as safetensors and everything else as JSON.

A checkpoint is written under a temporary name, its JSON last with the checksum of the tensors, then renamed: a folder
called `step-<n>` is whole, or its checksum tells. Two generations are kept, so that a damaged newest one costs one
save interval and not the training.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from safetensors.torch import load_file, save_file

from brainpretrain.errors import first_line
from brainpretrain.files import read_json, sha256

KEEP = 2


class SafeCheckpoints(CheckpointIO):
    """Lightning's checkpoint dictionary as safetensors and JSON."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        temporary = path.with_name(f".{os.getpid()}.part.{path.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        tensors: dict[str, torch.Tensor] = {}
        tree = _pack(checkpoint, tensors)
        save_file(tensors, temporary / "state.safetensors")
        state = {"tree": tree, "sha256": sha256(temporary / "state.safetensors")}
        (temporary / "state.json").write_text(json.dumps(state))
        for file in temporary.iterdir():
            with open(file, "rb") as stream:
                os.fsync(stream.fileno())
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> dict[str, Any]:
        path = Path(path)
        tree = read_json(path / "state.json")["tree"]
        tensors = load_file(path / "state.safetensors")
        return _unpack(tree, tensors)

    def remove_checkpoint(self, path: Any) -> None:
        shutil.rmtree(path, ignore_errors=True)


def newest(work: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint of a work folder, and a line for every damaged one that was passed over."""
    damaged = []
    for folder in sorted(work.glob("step-*"), reverse=True):
        try:
            if read_json(folder / "state.json")["sha256"] == sha256(folder / "state.safetensors"):
                return folder, damaged
            reason = "checksum differs"
        except Exception as error:  # whatever is wrong with it, the one before may still load
            reason = first_line(error)
        damaged.append(f"checkpoint {folder.name} is damaged ({reason}); the one before it is used")
    return None, damaged


def name(step: int) -> str:
    """Folder name of a checkpoint; sorts by step."""
    return f"step-{step:09d}"


def prune(work: Path) -> None:
    """Keeps the newest generations."""
    for folder in sorted(work.glob("step-*"), reverse=True)[KEEP:]:
        shutil.rmtree(folder, ignore_errors=True)


def _pack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """JSON-able image of nested containers; tensors move to `tensors`. Keys keep their type (optimisers use integers)."""
    if isinstance(node, torch.Tensor):
        key = str(len(tensors))
        tensors[key] = node.detach().cpu().contiguous().clone()
        return {"tensor": key}
    if isinstance(node, dict):
        return {"dict": [[_pack(k, tensors), _pack(v, tensors)] for k, v in node.items()]}
    if isinstance(node, list | tuple):
        return {"tuple" if isinstance(node, tuple) else "list": [_pack(item, tensors) for item in node]}
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(f"a checkpoint cannot hold a {type(node).__name__}")


def _unpack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_unpack(k, tensors): _unpack(v, tensors) for k, v in content}
    items = [_unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items

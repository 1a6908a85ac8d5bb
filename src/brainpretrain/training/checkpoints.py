"""Resume state without pickle: a folder `step-<n>` with tensors as safetensors and everything else as JSON.

A checkpoint is written under a temporary name, its JSON with the checksums of tensors and tree last, and then renamed. So a
folder called `step-<n>` is complete, or its checksums show damage. Two generations are kept, so that a damaged newest one
costs one save interval and not the training. Each says which training it belongs to, so that no other continues it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from safetensors.torch import load_file, save_file

from brainpretrain.errors import UserError, first_line
from brainpretrain.files import atomic_folder, read_json, sha256

TENSORS, STATE = "state.safetensors", "state.json"
BEST = "best"
KEEP = 2
SHOWN = 10  # differences that a message lists


class SafeCheckpoints(CheckpointIO):
    """Lightning's checkpoint dictionary as safetensors and JSON.

    Args:
        training: everything that the training is a function of, as plain data; kept in every checkpoint.
    """

    def __init__(self, training: Mapping[str, Any]) -> None:
        self.training = json.loads(json.dumps(training))

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        tensors: dict[str, torch.Tensor] = {}
        tree = _pack(checkpoint, tensors)
        with atomic_folder(path, needs=sum(tensor.nbytes for tensor in tensors.values())) as temporary:
            save_file(tensors, temporary / TENSORS)
            checksums = {"sha256": sha256(temporary / TENSORS), "tree_sha256": _tree_sha256(tree)}
            state = {"tree": tree, "training": self.training, **checksums}
            (temporary / STATE).write_text(json.dumps(state))

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> dict[str, Any]:
        path = Path(path)
        tree = read_json(path / STATE)["tree"]
        tensors = load_file(path / TENSORS)
        return _unpack(tree, tensors)

    def remove_checkpoint(self, path: Any) -> None:
        shutil.rmtree(path, ignore_errors=True)


def newest(work: Path) -> tuple[Path | None, list[str]]:
    """The newest undamaged checkpoint of a work folder, and a line for every damaged one that is newer."""
    damaged: list[tuple[str, str]] = []
    checkpoint = None
    for folder in sorted(work.glob("step-*"), reverse=True):
        try:
            state = read_json(folder / STATE)
            tree_sha256 = state.get("tree_sha256")  # absent from the first checkpoints
            if state["sha256"] == sha256(folder / TENSORS) and tree_sha256 in (None, _tree_sha256(state["tree"])):
                checkpoint = folder
                break
            reason = "checksum differs"
        except Exception as error:  # of any kind: the one before may still load
            reason = first_line(error)
        damaged.append((folder.name, reason))
    instead = f"{checkpoint.name} is used" if checkpoint else "there is no other one"
    return checkpoint, [f"checkpoint {name} is damaged ({reason}); {instead}" for name, reason in damaged]


def require_same(folder: Path, training: Mapping[str, Any]) -> None:
    """Checks that a checkpoint belongs to this training.

    Raises:
        UserError: it belongs to another one; lists the differences.
    """
    saved = read_json(folder / STATE).get("training")  # absent from the first checkpoints
    different = _differences(saved, json.loads(json.dumps(training))) if saved is not None else []
    if different:
        more = [f"... and {len(different) - SHOWN} more"] if len(different) > SHOWN else []
        raise UserError(
            "\n  ".join(["this checkpoint belongs to another training:", *different[:SHOWN], *more]),
            where=folder,
            fix="delete this folder to go on without it, or give the config that it was made with",
        )


def _differences(saved: Any, current: Any, place: str = "") -> list[str]:
    """Dotted keys at which two trees of plain data differ, with both values."""
    if isinstance(saved, dict) and isinstance(current, dict):
        keys = [key for key in {**saved, **current} if saved.get(key, ...) != current.get(key, ...)]
        return [line for key in keys for line in _differences(saved.get(key), current.get(key), f"{place}.{key}".lstrip("."))]
    if isinstance(saved, list) and isinstance(current, list) and len(saved) == len(current):
        pairs = enumerate(zip(saved, current, strict=True))
        return [line for number, pair in pairs if pair[0] != pair[1] for line in _differences(*pair, f"{place}.{number}")]
    return [f"{place}: {json.dumps(saved)[:80]} there, {json.dumps(current)[:80]} here"]


def name(step: int) -> str:
    """Folder name of a checkpoint; sorts by step."""
    return f"step-{step:09d}"


def last(work: Path) -> str:
    """Folder name of the checkpoint of the highest step, damaged or not; '' if there is none."""
    return max((folder.name for folder in work.glob("step-*")), default="")


def save_best(work: Path, step: int, network: Mapping[str, torch.Tensor]) -> None:
    """Writes the weights of the best validation so far, `best-<step>`, beside those before.

    The weights before stay until no kept checkpoint needs them (`prune`): a training that is killed after this and before its
    next checkpoint continues from a state in which they were the best.
    """
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in network.items()}
    with atomic_folder(work / _best(step), needs=sum(tensor.nbytes for tensor in tensors.values())) as temporary:
        save_file(tensors, temporary / TENSORS)
        (temporary / STATE).write_text(json.dumps({"step": step, "sha256": sha256(temporary / TENSORS)}))


def load_best(work: Path, step: int) -> dict[str, torch.Tensor]:
    """The weights that `save_best` wrote.

    Raises:
        UserError: they are missing or damaged.
    """
    folder = work / _best(step)
    try:
        if read_json(folder / STATE)["sha256"] != sha256(folder / TENSORS):
            raise ValueError("checksum differs")
        return load_file(folder / TENSORS)
    except Exception as error:
        problem = f"the weights of the best validation, of step {step}, are damaged ({first_line(error)})"
        raise UserError(
            problem, where=folder, fix=f"delete {work} and start again: the training then begins at step 0"
        ) from error


def drop_later_best(work: Path, step: int) -> None:
    """Removes best weights of steps after `step`, from which a training continues: it comes to them again."""
    for folder in work.glob(f"{BEST}-*"):
        if folder.name > _best(step):
            shutil.rmtree(folder, ignore_errors=True)


def _best(step: int) -> str:
    return f"{BEST}-{step:09d}"


def prune(work: Path, step: int) -> None:
    """Keeps the newest generations up to `step`, which was just saved. Newer ones are damaged: this attempt skipped them.

    Of the best weights it keeps those that a kept generation needs, the newest up to its step.
    """
    folders = sorted(work.glob("step-*"), reverse=True)
    kept = [folder for folder in folders if folder.name <= name(step)][:KEEP]
    for folder in folders:
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)
    best = sorted(folder.name for folder in work.glob(f"{BEST}-*"))
    steps = [int(folder.name.rpartition("-")[2]) for folder in kept]
    needed = {max((name for name in best if name <= _best(saved)), default="") for saved in steps}
    for unneeded in set(best) - needed:
        shutil.rmtree(work / unneeded, ignore_errors=True)


def _tree_sha256(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree).encode()).hexdigest()


def _pack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Nested containers as JSON can hold them; tensors move to `tensors`. Keys keep their type (optimisers use integers)."""
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

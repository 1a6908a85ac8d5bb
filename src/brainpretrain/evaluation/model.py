"""A fine-tuned model: its network and facts, checked against each other, and what it predicts for one stored image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from brainpretrain import decoders, scales
from brainpretrain.cohorts.cases import side_pairs
from brainpretrain.errors import UserError
from brainpretrain.evaluation import inference
from brainpretrain.preprocess import volumes
from brainpretrain.preprocess.geometry import Geometry
from brainpretrain.weights import store

# what model.json must contain before anything can be predicted
_FACTS = {
    "": ("name", "backbone", "in_channels", "task", "recipe", "preprocess"),
    "backbone": ("architecture", "options", "decoder", "decoder_options"),
    "task": ("sequences", "labels"),
    "recipe": ("patch_size", "precision"),
    "preprocess": volumes.RECIPE_KEYS,
}


def load_model(path: Path, device: str | None = None) -> tuple[torch.nn.Module, dict[str, Any]]:
    """A fine-tuned network in evaluation mode, and its facts (task, recipe, classes ...).

    Args:
        path: `model.safetensors`, with `model.json` next to it.
        device: such as `cpu` or `cuda:1`; by default the GPU if there is one.

    Raises:
        UserError: a file is missing or incomplete, tensors and JSON do not match, or there is no such device.
    """
    if not (Path(path).is_file() or Path(path).with_suffix(".safetensors").exists()):
        encoder = Path(path).with_name("encoder.safetensors").exists()
        fix = "fine-tune it first: this is an encoder" if encoder else "give the folder that `brainpretrain finetune` wrote"
        raise UserError("there is no model.safetensors", where=Path(path).parent, fix=fix)
    tensors, facts = store.load(path)
    _check_facts(facts, Path(path).with_suffix(".json"))
    labels = facts["task"]["labels"]  # the keys of a JSON file are sorted; `classes` has the order of the network's outputs
    facts["task"]["labels"] = {name: labels[name] for name in facts.get("classes", labels)}
    network = decoders.build_network(facts["backbone"], facts["in_channels"], len(facts["task"]["labels"]) + 1)
    _fill(network, tensors, Path(path).with_suffix(".safetensors"))
    return network.eval().to(_device(device)), facts


class Ensemble(torch.nn.Module):
    """The mean of the logits of several networks, such as those of the folds, as in nnU-Net.

    Args:
        networks: each maps a patch (b c x y z) to logits, as in `predict_native`.
    """

    def __init__(self, networks: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.networks = torch.nn.ModuleList(networks)

    def forward(self, patch: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        outputs = [network(patch) for network in self.networks]
        if isinstance(outputs[0], torch.Tensor):
            return torch.stack(outputs).mean(0)
        return [torch.stack(levels).mean(0) for levels in zip(*outputs, strict=True)]


# what the models of an ensemble must agree in
_SHARED = ("task", "preprocess", "in_channels", "classes", "atlas_checksum", "intensity_scale")
_SHARED_RECIPE = ("patch_size", "precision", "intensity")


def load_ensemble(paths: Sequence[Path], device: str | None = None) -> tuple[torch.nn.Module, dict[str, Any]]:
    """One model, or several as one that averages their logits; and the facts of the first.

    Args:
        paths: see `load_model`.

    Raises:
        UserError: a model cannot be loaded, or two do not agree in classes, sequences, preprocessing, patch or intensities.
    """
    loaded = [load_model(path, device) for path in paths]
    (network, facts), *others = loaded
    for path, (_, other) in zip(paths[1:], others, strict=True):
        differing = [key for key in _SHARED if facts.get(key) != other.get(key)]
        recipes = facts["recipe"], other["recipe"]
        differing += [f"recipe.{key}" for key in _SHARED_RECIPE if recipes[0].get(key) != recipes[1].get(key)]
        if differing:
            raise UserError(
                f"this model and {paths[0].parent} cannot be averaged: they differ in {', '.join(differing)}",
                where=path.parent,
                fix="give the folds of one arm",
            )
    return (Ensemble([network for network, _ in loaded]).eval(), facts) if others else (network, facts)


def class_values(labels: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Value written to a label file for each class: 0, then the first value of each entry of the task."""
    return np.array([0, *(values[0] for values in labels.values())], np.uint16)


@torch.inference_mode()
def logits_of(
    network: torch.nn.Module,
    facts: Mapping[str, Any],
    image: np.ndarray,
    window: Mapping[str, Any],
    scale: np.ndarray | None = None,
) -> torch.Tensor:
    """Logits (classes, x, y, z) on the stored grid.

    Args:
        image: stored image (c, x, y, z) in [0, 1].
        window: overlap, weights, batch and mirror of the sliding window.
        scale: (c, 4) of the model's rule of intensities, see `scales.py`; None: the network sees stored intensities.

    Raises:
        UserError: the network gives NaN or Inf.
    """
    device = next(network.parameters()).device
    tensor = torch.from_numpy(image.astype(np.float32))[None].to(device)
    mixed = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(facts["recipe"]["precision"])
    with torch.autocast(device.type, mixed, enabled=mixed is not None and (device.type == "cuda" or mixed is torch.bfloat16)):
        (logits,) = inference.sliding_window(
            scaling(network, scale),
            tensor,
            facts["recipe"]["patch_size"],
            window["overlap"],
            window["weights"],
            window["batch"],
            window["mirror"],
            side_pairs(facts["task"]["labels"], facts["task"].get("left_right", ())),
        )
    if not logits.isfinite().all():
        raise UserError("the network gives NaN or Inf", fix="if it was trained in 16-mixed, predict with --device cpu")
    return logits


def predict_native(
    network: torch.nn.Module,
    facts: Mapping[str, Any],
    image: np.ndarray,
    geometry: Geometry,
    window: Mapping[str, Any],
    scale: np.ndarray | None = None,
) -> np.ndarray:
    """Label values on the native grid, uint16. Arguments and errors as in `logits_of`.

    Args:
        geometry: the steps from the native grid to the stored one.
    """
    return labels_native(logits_of(network, facts, image, window, scale), facts, geometry)


def labels_native(logits: torch.Tensor, facts: Mapping[str, Any], geometry: Geometry) -> np.ndarray:
    """Label values on the native grid, uint16, from logits on the stored one."""
    return class_values(facts["task"]["labels"])[geometry.argmax_to_native(channel.cpu().numpy() for channel in logits)]


def probabilities_native(logits: torch.Tensor, geometry: Geometry) -> np.ndarray:
    """Probabilities (classes, i, j, k) on the native grid, float32: the softmax of the logits that are brought there."""
    native = torch.from_numpy(geometry.to_native(logits.float().cpu().numpy()))
    return torch.softmax(native, 0).numpy()


def scaling(network: torch.nn.Module, scale: np.ndarray | None) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network on patches of stored intensities (b c x y z), whose padding is scaled with them, as in training."""
    if scale is None:
        return network
    values = torch.from_numpy(scale).to(next(network.parameters()).device)
    return lambda patch: network(scales.apply(patch, values))


def _check_facts(facts: Any, path: Path) -> None:
    """Refuses facts that are incomplete or not those of a segmentation model.

    Raises:
        UserError: naming the missing keys or the contradiction.
    """
    kind = facts.get("kind") if isinstance(facts, dict) else None
    if kind != "model":
        raise UserError(f"this is no segmentation model but of kind '{kind}'", where=path, fix="fine-tune it first")
    missing = [
        f"{part}.{key}".lstrip(".")
        for part, keys in _FACTS.items()
        for key in keys
        if key not in (facts.get(part, {}) if part else facts)
    ]
    problem = f"it does not say {', '.join(missing)}" if missing else _contradiction(facts)
    if problem:
        raise UserError(problem, where=path, fix="take the json that was written with the tensors")


def _contradiction(facts: Mapping[str, Any]) -> str:
    """The fact that contradicts another one; '' if there is none."""
    sequences, labels = facts["task"]["sequences"], facts["task"]["labels"]
    if sorted(facts.get("classes", labels)) != sorted(labels):
        return f"classes {' '.join(facts['classes'])}, but labels {' '.join(labels)}"
    if facts["in_channels"] != len(sequences):
        return f"{facts['in_channels']} channels, but {len(sequences)} sequences"
    rule = scales.Rule.of_facts(facts)
    if rule.name == scales.CT and [len(channel) for channel in rule.fixed] != [4] * len(sequences):
        return f"intensity: ct, but not the four numbers of 'intensity_scale' for each of {len(sequences)} sequences"
    return ""


def _fill(network: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Loads all tensors.

    Raises:
        UserError: naming the tensors that are missing, left over or of another shape.
    """
    own = network.state_dict()
    problems = [f"missing: {name}" for name in own if name not in tensors]
    problems += [f"left over: {name}" for name in tensors if name not in own]
    problems += filter(None, (store.misfit(name, own[name], tensors[name]) for name in own.keys() & tensors.keys()))
    if problems:
        raise UserError(
            f"the tensors are not those of the json, {len(problems)} problems:\n  " + "\n  ".join(sorted(problems)[:20]),
            where=path,
            fix="keep model.safetensors and model.json of one training together",
        )
    network.load_state_dict(dict(tensors), strict=True)


def _device(name: str | None) -> torch.device:
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"no device '{name}': {str(error).splitlines()[0]}", where="--device", fix="use cpu") from error
    return torch.device(name)

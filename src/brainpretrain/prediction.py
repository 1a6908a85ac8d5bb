"""Segmentation of whole volumes in native space: of a cohort of the workflow, or of any files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from brainpretrain import data, inference, training, volumes, weights
from brainpretrain.files import write_json


def load_model(path: Path) -> tuple[torch.nn.Module, dict[str, Any]]:
    """A fine-tuned network in evaluation mode on the device at hand, and its facts (task, recipe, classes ...)."""
    tensors, facts = weights.load(path)
    network = training.build_network(facts["backbone"], facts["in_channels"], len(facts["task"]["labels"]) + 1)
    network.load_state_dict(tensors, strict=True)
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu"), facts


def class_values(labels: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Value written to a label file for each class: 0, then the first value of each entry of the task."""
    return np.array([0, *(values[0] for values in labels.values())], np.uint16)


@torch.inference_mode()
def predict_native(
    network: torch.nn.Module, facts: Mapping[str, Any], image: np.ndarray, geometry: volumes.Geometry, window: Mapping[str, Any]
) -> np.ndarray:
    """Label values on the native grid.

    Args:
        image: stored image (c, x, y, z) in [0, 1].
        geometry: how it was made from the native grid.
        window: overlap, weights and batch of the sliding window.
    """
    device = next(network.parameters()).device
    tensor = torch.from_numpy(image.astype(np.float32))[None].to(device)
    mixed = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(facts["recipe"]["precision"])
    with torch.autocast(device.type, mixed, enabled=mixed is not None and (device.type == "cuda" or mixed is torch.bfloat16)):
        logits = inference.sliding_window(
            network, tensor, facts["recipe"]["patch_size"], window["overlap"], window["weights"], window["batch"]
        )
    return class_values(facts["task"]["labels"])[geometry.argmax_to_native(logits[0].float().cpu().numpy())]


def predict(
    model: Path, cases: Sequence[data.Case], raw: Path, window: Mapping[str, Any], out: Path, progress: Any = None
) -> None:
    """Writes `<case>.nii.gz` per case into `out`, in the header of the native image, and `predictions.json`.

    Args:
        raw: folder of the raw data set, for the native headers.
        progress: called with (done, total).
    """
    network, facts = load_model(model)
    out.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(cases, start=1):
        geometry = volumes.Geometry.from_json(case.rows[0]["geometry"])
        labels = predict_native(network, facts, case.image(), geometry, window)
        volumes.write_volume(out / f"{case.name}.nii.gz", labels, like=raw / case.rows[0]["path"])
        if progress:
            progress(number, len(cases))
    write_json(out / "predictions.json", {"model": facts["name"], "cases": [case.name for case in cases]})

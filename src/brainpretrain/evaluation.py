"""Prediction of a cohort in native space, and its scores against the labels as they were delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from brainpretrain import data, inference, metrics, plots, training, volumes, weights
from brainpretrain.errors import UserError
from brainpretrain.files import read_tsv, write_json

SCORE_COLUMNS = [
    "study", "task", "cohort", "backbone", "init", "recipe", "n_train", "fold", "volume", "subject", "session", "label",
    "dice", "true_positives", "false_positives", "false_negatives", "reference_voxels", "predicted_voxels", "status",
]  # fmt: skip


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


def evaluate(
    cases: Sequence[data.Case], raw: Path, predictions: Path, task: Mapping[str, Any], run: Mapping[str, Any]
) -> pd.DataFrame:
    """Dice of every case and class in native space, as rows of scores.tsv.

    Args:
        run: the columns that say which run this is (study, task, cohort ... fold).

    Raises:
        UserError: a prediction is missing or extra, or lies on another grid than its reference.
    """
    expected, found = {case.name for case in cases}, {path.name.removesuffix(".nii.gz") for path in predictions.glob("*.nii.gz")}
    if expected != found:
        raise UserError(
            f"predictions do not match the cohort: missing {sorted(expected - found)}, extra {sorted(found - expected)}",
            where=predictions,
            fix="delete the folder and predict again",
        )
    lookup = data.label_lookup(task["labels"], task["ignore"])
    rows: list[dict[str, Any]] = []
    for case in cases:
        reference = volumes.read_volume(raw / case.rows[0]["label"])
        prediction = volumes.read_volume(predictions / f"{case.name}.nii.gz")
        volumes.require_same_grid(reference, prediction, predictions / f"{case.name}.nii.gz")
        scores = _scores(lookup[volumes.integer_labels(reference)], lookup[volumes.integer_labels(prediction)], task)
        who = {"volume": case.name, "subject": case.subject, "session": case.session}
        rows += [dict(run) | who | score for score in scores]
    return pd.DataFrame(rows)[SCORE_COLUMNS]


def _scores(reference: np.ndarray, prediction: np.ndarray, task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of one case: the classes by name, voxels of ignored labels left out."""
    counts = reference != data.IGNORED
    names = list(task["labels"])
    found = metrics.dice_per_label(reference[counts], prediction[counts], range(1, len(names) + 1), task["empty_masks"])
    return [
        {
            "label": names[row["label"] - 1],
            "dice": row["dice"],
            "true_positives": row["tp"],
            "false_positives": row["fp"],
            "false_negatives": row["fn"],
            "reference_voxels": row["reference_voxels"],
            "predicted_voxels": row["prediction_voxels"],
            "status": row["status"],
        }
        for row in found
    ]


def overlays(
    folders: Sequence[Path], table: pd.DataFrame, folder: Path, raw: Path, task: Mapping[str, Any]
) -> list[plots.Overlay]:
    """The worst, median and best case of a cohort, in RAS, with reference and prediction as classes.

    Args:
        folders: per fold, a folder with scores.tsv and predictions/.
        table, folder: shard tables of the cohort's data set and the folder they are relative to.
        raw: folder of the raw data set.
    """
    scores = pd.concat([read_tsv(path / "scores.tsv") for path in folders], ignore_index=True)
    by_fold = {read_tsv(path / "scores.tsv")["fold"].iloc[0]: path for path in folders}
    cases = {case.name: case for found in data.cases(table, folder, task["sequences"]).values() for case in found}
    lookup = data.label_lookup(task["labels"], task["ignore"])
    found = []
    for pick in plots.pick_cases(scores):
        row = cases[pick["volume"]].rows[0]
        image = volumes.read_volume(raw / row["path"], channel=int(row["channel"]) if row.get("channel") else None)
        label = volumes.read_volume(raw / row["label"])
        prediction = volumes.read_volume(by_fold[pick["fold"]] / "predictions" / f"{pick['volume']}.nii.gz")
        array, _, orientation = volumes.to_ras(image.array, image.affine)
        classes = [orientation.to_ras(lookup[volumes.integer_labels(part)]) for part in (label, prediction)]
        spacing_mm = [image.spacing_mm[axis] for axis in orientation.axes]
        found.append(plots.Overlay(pick, array, *(np.where(c == data.IGNORED, 0, c) for c in classes), spacing_mm))
    return found

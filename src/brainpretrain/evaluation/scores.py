"""Scores of a cohort in native space, against the labels as they were delivered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from brainpretrain.cohorts.cases import IGNORED, Case, label_lookup, labelled_cases
from brainpretrain.errors import UserError
from brainpretrain.evaluation import lesions, metrics
from brainpretrain.files import read_tsv
from brainpretrain.preprocess import nifti, volumes
from brainpretrain.preprocess.geometry import to_ras
from brainpretrain.report.overlays import Overlay, pick_cases

SCORE_COLUMNS = [
    "study", "task", "cohort", "backbone", "init", "recipe", "n_train", "fold", "volume", "subject", "session", "site",
    *metrics.COLUMNS,
]  # fmt: skip


def evaluate(
    cases: Sequence[Case], raw: Path, predictions: Path, task: Mapping[str, Any], run: Mapping[str, Any]
) -> pd.DataFrame:
    """Scores of every case and class in native space, as rows of scores.tsv (docs/metrics.md). One case is read at a time.

    Args:
        raw: folder of the raw data set, for the labels.
        predictions: folder with `<case>.nii.gz` for every case and no other.
        task: the fields of `config.Task` that say what is scored, and how.
        run: the columns that say which run this is (study, task, cohort ... fold).

    Raises:
        UserError: a prediction is missing, extra or damaged, lies on another grid than its reference, or holds a value
            that is no class of the task.
    """
    _require_same_cases({case.name for case in cases}, predictions)
    lookup = label_lookup(task["labels"], task["ignore"])
    rows: list[dict[str, Any]] = []
    for case in cases:
        reference = nifti.read_volume(raw / case.rows[0]["label"])
        found = _read_prediction(predictions / f"{case.name}.nii.gz", reference, task["labels"])
        classes = lookup[volumes.integer_labels(reference)]
        scores = metrics.score(classes, lookup[found], reference.spacing_mm, task, IGNORED)
        who = {"volume": case.name, "subject": case.subject, "session": case.session, "site": case.rows[0]["site"]}
        rows += [dict(run) | who | score for score in scores]
    table = pd.DataFrame(rows, columns=SCORE_COLUMNS)
    return table.astype(dict.fromkeys(lesions.COUNTS, "Int64"))  # integers or nothing


def _require_same_cases(expected: set[str], predictions: Path) -> None:
    files = sorted(path.name for path in predictions.glob("*") if path.name.endswith((".nii", ".nii.gz")))
    missing = sorted(f"{name}.nii.gz" for name in expected if f"{name}.nii.gz" not in files)
    extra = [name for name in files if not name.endswith(".nii.gz") or name.removesuffix(".nii.gz") not in expected]
    if missing or extra:
        problem = "; ".join(
            f"{len(names)} {what}: {' '.join(names)}" for what, names in (("missing", missing), ("extra", extra)) if names
        )
        raise UserError(
            f"predictions do not match the cohort: {problem}", where=predictions, fix="delete the folder and predict again"
        )


def _read_prediction(path: Path, reference: nifti.Volume, labels: Mapping[str, Sequence[int]]) -> np.ndarray:
    """The values of a predicted label file that lies on the grid of its reference and holds values of the task alone."""
    prediction = nifti.read_volume(path)
    _require_grid_of_reference(prediction, reference)
    values = volumes.integer_labels(prediction)
    known = {0, *(value for group in labels.values() for value in group)}
    if unknown := sorted(set(volumes.label_values(values)) - known):
        raise UserError(
            f"the prediction holds {' '.join(map(str, unknown[:8]))}, no class of the task",
            where=path,
            fix=f"predict 0 for background, and the values of the label file: {' '.join(map(str, sorted(known - {0})))[:200]}",
        )
    return values


def _require_grid_of_reference(prediction: nifti.Volume, reference: nifti.Volume) -> None:
    """The same voxels in the same order at the same place: headers are compared, never mended."""
    try:
        volumes.require_same_grid(reference, prediction, prediction.path)
    except nifti.BadVolume as error:
        axes = ["".join(nib.aff2axcodes(volume.affine)) for volume in (prediction, reference)]
        turned = f"; its axes are {axes[0]}, those of the reference {axes[1]}" if axes[0] != axes[1] else ""
        raise UserError(
            f"the prediction is not on the grid of its reference: {error.problem}{turned}",
            where=f"{prediction.path} (reference {reference.path})",
            fix="predict again, or resample it to the reference with nearest neighbours",
        ) from error


def summary(scores: pd.DataFrame) -> list[str]:
    """A line per label: means over the cases in which a metric is defined, and how many masks are empty."""
    return [_summary_line(str(label), rows) for label, rows in scores.groupby("label", sort=False)]


def _summary_line(label: str, rows: pd.DataFrame) -> str:
    mean = rows[["dice", "nsd", "hd95_mm", "volume_error", "lesion_f1"]].mean()
    text = f"{label}: Dice {mean['dice']:.4f}, NSD {mean['nsd']:.4f}, HD95 {mean['hd95_mm']:.2f} mm"
    text += f", volume error {100 * mean['volume_error']:+.1f} %"
    if rows["lesions_reference"].notna().any():
        text += f", lesion F1 {mean['lesion_f1']:.4f}"
    empty = [f"{n} {status.replace('_', ' ')}" for status, n in Counter(rows["status"]).items() if status != "ok"]
    return f"{text} ({', '.join([f'{len(rows)} cases', *empty])})"


def overlays(folders: Sequence[Path], table: pd.DataFrame, folder: Path, raw: Path, task: Mapping[str, Any]) -> list[Overlay]:
    """The worst, median and best case of a cohort, in RAS, with reference and prediction as classes.

    Args:
        folders: per fold, a folder with scores.tsv and predictions/.
        table, folder: the stored volumes of the cohort's data set and the folder they are relative to.
        raw: folder of the raw data set.
    """
    scores = pd.concat([read_tsv(path / "scores.tsv") for path in folders], ignore_index=True)
    by_fold = {read_tsv(path / "scores.tsv")["fold"].iloc[0]: path for path in folders}
    cases = {case.name: case for found in labelled_cases(table, folder, task["sequences"]).values() for case in found}
    lookup = label_lookup(task["labels"], task["ignore"])
    found = []
    for pick in pick_cases(scores):
        row = cases[pick["volume"]].rows[0]
        image = nifti.read_volume(raw / row["path"], channel=int(row["channel"]) if row.get("channel") else None)
        label = nifti.read_volume(raw / row["label"])
        prediction = nifti.read_volume(by_fold[pick["fold"]] / "predictions" / f"{pick['volume']}.nii.gz")
        array, _, orientation = to_ras(image.array, image.affine)
        classes = [orientation.to_ras(lookup[volumes.integer_labels(part)]) for part in (label, prediction)]
        spacing_mm = [image.spacing_mm[axis] for axis in orientation.axes]
        found.append(Overlay(pick, array, *(np.where(c == IGNORED, 0, c) for c in classes), spacing_mm))
    return found

"""Scores of a cohort in native space, against the label files as they were delivered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from brainpretrain.cohorts.cases import IGNORED, Case, label_lookup, reference_lookup
from brainpretrain.errors import UserError
from brainpretrain.evaluation import lesions, metrics
from brainpretrain.preprocess import nifti, sources, volumes
from brainpretrain.preprocess.headers import Limits

SCORE_COLUMNS = [
    "study", "task", "cohort", "backbone", "init", "recipe", "n_train", "fold", "volume", "subject", "session", "site",
    *metrics.COLUMNS,
]  # fmt: skip


def evaluate(
    cases: Sequence[Case], raw: Path, predictions: Path, task: Mapping[str, Any], run: Mapping[str, Any]
) -> pd.DataFrame:
    """Scores of every case and class in native space, as rows of scores.tsv (docs/evaluation.md). One case is in memory at once.

    Args:
        raw: folder of the raw data set, for the labels.
        predictions: folder with `<case>.nii.gz` for every case and no other NIfTI file.
        task: the fields of `config.Task` that define classes and metrics.
        run: the columns that identify the run (study, task, cohort ... fold).

    Raises:
        UserError: a prediction is missing, extra or damaged, is on another grid than its reference, or contains a value
            that is not a class of the task.
    """
    _require_same_cases({case.name for case in cases}, predictions)
    lookup, of_reference = label_lookup(task["labels"], task["ignore"]), reference_lookup(task)
    rows: list[dict[str, Any]] = []
    for case in cases:
        limits = Limits.of_stored(case.rows[0])
        reference = sources.read_label(raw, case.folder, case.labelled)
        predicted = _read_prediction(predictions / f"{case.name}.nii.gz", reference, task["labels"], limits)
        classes = of_reference[volumes.integer_labels(reference)]
        scores = metrics.score(classes, lookup[predicted], reference.spacing_mm, task, IGNORED)
        columns = {"volume": case.name, "subject": case.subject, "session": case.session, "site": case.rows[0]["site"]}
        rows += [dict(run) | columns | score for score in scores]
    table = pd.DataFrame(rows, columns=SCORE_COLUMNS)
    return table.astype(dict.fromkeys(lesions.COUNTS, "Int64"))  # integers that may be missing


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


def _read_prediction(path: Path, reference: nifti.Volume, labels: Mapping[str, Sequence[int]], limits: Limits) -> np.ndarray:
    """The values of a predicted label file.

    Raises:
        UserError: it is not on the grid of its reference, or contains a value that is not a class of the task.
    """
    prediction = nifti.read_volume(path, limits=limits)
    _require_grid_of_reference(prediction, reference)
    values = volumes.integer_labels(prediction)
    allowed = {0, *(value for group in labels.values() for value in group)}
    if unknown := sorted(set(volumes.label_values(values)) - allowed):
        raise UserError(
            f"the prediction holds {' '.join(map(str, unknown[:8]))}, no class of the task",
            where=path,
            fix=f"predict 0 for background, and the values of the label file: {' '.join(map(str, sorted(allowed - {0})))[:200]}",
        )
    return values


def _require_grid_of_reference(prediction: nifti.Volume, reference: nifti.Volume) -> None:
    """Refuses a prediction whose grid (shape, affine, order of axes) differs; nothing is resampled or reoriented."""
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
    """A line per label: means over the cases in which a metric is defined, and the number of empty masks."""
    return [_summary_line(str(label), rows) for label, rows in scores.groupby("label", sort=False)]


def _summary_line(label: str, rows: pd.DataFrame) -> str:
    mean = rows[["dice", "nsd", "hd95_mm", "volume_error", "lesion_f1"]].mean()
    text = f"{label}: Dice {mean['dice']:.4f}, NSD {mean['nsd']:.4f}, HD95 {mean['hd95_mm']:.2f} mm"
    text += f", volume error {100 * mean['volume_error']:+.1f} %"
    if rows["lesions_reference"].notna().any():
        text += f", lesion F1 {mean['lesion_f1']:.4f}"
    empty = [f"{n} {status.replace('_', ' ')}" for status, n in Counter(rows["status"]).items() if status != "ok"]
    return f"{text} ({', '.join([f'{len(rows)} cases', *empty])})"

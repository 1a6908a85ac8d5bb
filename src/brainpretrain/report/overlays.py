"""The cases that the report shows: worst, median and best by Dice, with image, reference and prediction on one grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.cohorts.cases import IGNORED, label_lookup, labelled_cases, reference_lookup
from brainpretrain.files import read_tsv
from brainpretrain.preprocess import nifti, sources, volumes
from brainpretrain.preprocess.geometry import to_ras
from brainpretrain.report import results


@dataclass(frozen=True)
class Overlay:
    """A case to show: image, reference and prediction (x y z) on one RAS grid, labels as integers, 0 = background.

    `pick` is the case's entry of `pick_cases`.
    """

    pick: Mapping[str, Any]
    image: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    spacing_mm: Sequence[float]


def pick_cases(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Worst, median and best case by mean Dice over labels, of the runs in `scores`.

    Returns:
        up to three of {rank, task, cohort, backbone, init, recipe, n_train, fold, volume, dice}, worst first; cases
        without a defined Dice are left out; of an even number the median is the lower one.
    """
    cases = results.case_scores(results.check(scores), "dice").dropna(subset="dice").round({"dice": 6})
    cases = cases.sort_values(["dice", "volume", "fold"], ignore_index=True)
    last = len(cases) - 1
    places = {"worst": 0, "median": last // 2, "best": last}
    picked: dict[int, dict[str, Any]] = {}
    for rank in ("worst", "best", "median"):
        if last >= 0 and places[rank] not in picked:
            picked[places[rank]] = {"rank": rank} | cases.iloc[places[rank]].to_dict()
    return [picked[place] for place in sorted(picked)]


def load_overlays(
    folders: Sequence[Path],
    table: pd.DataFrame,
    stored: Path,
    raw: Path,
    task: Mapping[str, Any],
    subsets: Sequence[str] = (),
) -> list[Overlay]:
    """The worst, median and best case of a cohort, in RAS, with reference and prediction as classes.

    Args:
        folders: one per fold, with scores.tsv and predictions/.
        table: the stored volumes of the cohort's data set.
        stored: the folder that the table's `file` column is relative to.
        raw: folder of the raw data set.
        task: the fields of `config.Task` that define classes; ignored voxels are shown as background.
        subsets: of the data set, which the cohort is taken from; all if empty.
    """
    by_folder = {folder: read_tsv(folder / "scores.tsv") for folder in folders}
    by_fold = {scores["fold"].iloc[0]: folder for folder, scores in by_folder.items()}
    by_subject = labelled_cases(table, stored, task["sequences"], subsets)
    cases = {case.name: case for sessions in by_subject.values() for case in sessions}
    lookups = [
        np.where(lookup == IGNORED, 0, lookup)
        for lookup in (reference_lookup(task), label_lookup(task["labels"], task["ignore"]))
    ]
    overlays = []
    for pick in pick_cases(pd.concat(by_folder.values(), ignore_index=True)):
        row = cases[pick["volume"]].rows[0]
        limits = nifti.Limits.of_stored(row)
        image, label = sources.read_image(raw, stored, row), sources.read_label(raw, stored, row)
        prediction = nifti.read_volume(by_fold[pick["fold"]] / "predictions" / f"{pick['volume']}.nii.gz", limits=limits)
        array, _, orientation = to_ras(image.array, image.affine)
        parts = zip(lookups, (label, prediction), strict=True)
        classes = [orientation.to_ras(lookup[volumes.integer_labels(part)]) for lookup, part in parts]
        spacing_mm = [image.spacing_mm[axis] for axis in orientation.axes]
        overlays.append(Overlay(pick, array, *classes, spacing_mm))
    return overlays

"""A study to begin with for labelled data of one's own: one block of YAML, from the folder to a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from nibabel.orientations import io_orientation

from brainpretrain.datasets.base import Row
from brainpretrain.files import is_drawn
from brainpretrain.preprocess.headers import Grid

TEST_FRACTION = 0.25
MAX_PATCH = 128  # voxels per axis, as in AMAES
STEP = 16  # a patch is a multiple of it: the U-Net of five levels halves four times
DEEP = 48  # smallest patch for which five levels leave more than two voxels per axis


def study(
    name: str,
    module: str,
    options: Mapping[str, Any],
    root: Path,
    rows: Sequence[Row],
    grids: Sequence[Grid],
    values: Mapping[int, str],
    ignore: Sequence[int],
) -> str:
    """The YAML of a study that trains and scores on the labelled volumes of a data set; '' for fewer than two labelled subjects.

    Args:
        name: of data set, task, recipe and table.
        module, options: the data set.
        rows: of the index.
        grids: of the volumes that can be used.
        values: names of the values in the labels.
        ignore: values of the labels that are no class.
    """
    labelled = [row for row in rows if row["label"] and row["subset"] != "test"]
    subjects = sorted({row["subject"] for row in labelled})
    classes = {text: [value] for value, text in values.items() if value not in ignore}
    if len(subjects) < 2 or not classes or not grids:
        return ""
    sequences = _sequences(labelled)
    preprocess, target_mm = _recipe(sequences, grids)
    patch = [_patch(axis, target_mm) for axis in _smallest_mm(grids)]
    pool = len(subjects) - round(TEST_FRACTION * len(subjects))
    task = {
        "dataset": name,
        "sequences": sequences,
        "subsets": sorted({row["subset"] for row in labelled}),
        "labels": classes,
        **({"ignore": list(ignore)} if ignore else {}),
        "nsd_tolerance_mm": target_mm,
        "preprocess": preprocess,
        "split": {"seed": _seed(labelled), "test_fraction": TEST_FRACTION, "block": max(1, min(20, pool // 2))},
    }
    deep = min(patch) >= DEEP
    backbone = {} if deep else {"backbones": {f"unet_{name}": {"like": "unet_b", "options": {"levels": 4}}}}
    corpus = {"sources": [{"dataset": name, "sequences": list(sequences), "pool_of": name}], "preprocess": preprocess}
    content = {
        "title": f"First results on {name}",
        "seed": 0,
        "folds": 2,
        "build": [name],
        "data_roots": {name: str(root.resolve())},
        "datasets": {name: {"module": module, "options": dict(options)}},
        "tasks": {name: task},
        "corpora": {name: corpus | {"val_fraction": 0.1, "protocol": "strict"}},
        **backbone,
        "finetune": {name: {"like": "amaes", "patch_size": patch, "precision": "bf16-mixed"}},
        "tables": {
            name: {
                "title": f"{name}: scores of the test set",
                "columns": [{"title": name, "task": name, "cohort": "test"}],
                "corpus": name,
                "recipe": name,
                "n_train": "all",
                "rows": [{"backbone": "unet_b" if deep else f"unet_{name}", "init": "scratch"}],
            }
        },
    }
    hints = {
        "preprocess: ": "coarse_2mm is faster; ct is for CT; with voxels below 0, a recipe with allow_negative: true",
        "init: ": "[scratch, amaes] also pretrains on the corpus; what a fair comparison then needs is printed",
        "nsd_tolerance_mm: ": "docs/evaluation.md: how to choose",
        "like: amaes": "2,500 steps; without a GPU, add phases: [{steps: 300, lr: 1.0e-3, decay: cosine}]",
    }
    lines = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120).splitlines()
    return "\n".join(_with_hint(line, hints) for line in lines) + "\n"


def _seed(labelled: Sequence[Row]) -> int:
    """The first seed whose test set is as large as the fraction asks for: each subject is drawn by itself, so sizes vary."""
    patients = {row["patient"] or row["subject"] for row in labelled}
    size = max(1, round(TEST_FRACTION * len(patients)))
    sizes = {seed: sum(is_drawn(patient, TEST_FRACTION, seed) for patient in patients) for seed in range(200)}
    return min(sizes, key=lambda seed: (abs(sizes[seed] - size), seed))


def _with_hint(line: str, hints: dict[str, str]) -> str:
    """The line with the first hint that has not been given yet."""
    key = next((key for key in hints if key in line), "")
    return f"{line}  # {hints.pop(key)}" if key and not line.rstrip().endswith(",") else line


def _sequences(labelled: Sequence[Row]) -> list[str]:
    """The sequence that most subjects have, or all those that every labelled subject has next to the same label."""
    of_label: dict[str, set[str]] = {}
    for row in labelled:
        of_label.setdefault(row["label"], set()).add(row["sequence"])
    shared = set.intersection(*of_label.values())
    counts = {name: sum(name in names for names in of_label.values()) for name in {row["sequence"] for row in labelled}}
    return sorted(shared) or [max(sorted(counts), key=lambda name: counts[name])]


def _recipe(sequences: Sequence[str], grids: Sequence[Grid]) -> tuple[str, int]:
    """The preprocess recipe and its spacing: 1 mm, or 2 mm where the finest axis of the median volume is above 1.5 mm."""
    if "CT" in sequences:
        return "ct", 1
    finest = sorted(min(grid.spacing_mm) for grid in grids)[len(grids) // 2]
    return ("coarse_2mm", 2) if finest > 1.5 else ("amaes", 1)


def _smallest_mm(grids: Sequence[Grid]) -> list[float]:
    """The smallest extent of the axes R, A, S among the volumes."""
    smallest = [math.inf] * 3
    for grid in grids:
        axes = io_orientation(grid.affine)[:, 0].astype(int)
        for axis, n, mm in zip(axes, grid.shape, grid.spacing_mm, strict=True):
            smallest[axis] = min(smallest[axis], n * mm)
    return smallest


def _patch(extent_mm: float, target_mm: float) -> int:
    return min(MAX_PATCH, max(STEP, STEP * math.floor(extent_mm / target_mm / STEP)))

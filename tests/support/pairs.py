"""Sessions of two sequences on different grids, and the commands from their raw files to their scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

import tiny
from brainpretrain import cli
from brainpretrain.files import read_tsv, write_json, write_tsv
from brainpretrain.preprocess import shards

WINDOW = {"overlap": 0.25, "weights": "constant", "batch": 2, "mirror": []}
RECIPE = tiny.PREPROCESS | {"spacing_mm": [2, 2, 2], "max_voxels": 10**8, "allow_negative": True}
BLOBS = np.array([(-8.0, 4, 2, 5), (7, -6, 5, 4), (3, 8, -6, 5), (-4, -9, -3, 4)])  # centre and radius in mm
LESION = (np.array([6.0, 2, 3]), 6.0)


def moved(angles_deg: Sequence[float], shift_mm: Sequence[float]) -> np.ndarray:
    """4x4 of a rigid motion."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix(), shift_mm
    return matrix


def head(shape: tuple[int, int, int], affine: np.ndarray, motion: np.ndarray, sequence: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (int16) and lesion (uint8) of one head on a grid.

    Args:
        motion: 4x4, world of the grid -> world of the head.
        sequence: 0 or 1, with another contrast each.
    """
    at = np.indices(shape).reshape(3, -1)
    matrix = motion @ affine
    points = (matrix[:3, :3] @ at + matrix[:3, 3:]).T
    inside = np.linalg.norm(points / (22, 26, 20), axis=1) < 1
    blobs = sum(np.exp(-0.5 * (np.linalg.norm(points - blob[:3], axis=1) / blob[3]) ** 2) for blob in BLOBS)
    lesion = np.linalg.norm(points - LESION[0], axis=1) < LESION[1]
    image = inside * ((300 + 300 * blobs + 200 * lesion) if sequence == 0 else (500 - 250 * blobs + 100 * lesion))
    return image.reshape(shape).astype(np.int16), (lesion & inside).reshape(shape).astype(np.uint8)


def grid(shape: tuple[int, int, int], spacing_mm: Sequence[float]) -> np.ndarray:
    """The affine of a grid around the origin."""
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(shape, spacing_mm, strict=True)]
    return affine


def write(raw: Path, subject: str, motion: np.ndarray, labelled: str = "DWI") -> list[dict[str, Any]]:
    """A session: DWI of 2 mm, FLAIR of 1 x 1 x 4 mm that is moved against it; returns its index rows."""
    raw.mkdir(parents=True, exist_ok=True)
    rows = []
    grids = {"DWI": ((30, 32, 26), (2, 2, 2)), "FLAIR": ((56, 60, 14), (1, 1, 4))}
    for number, (sequence, (shape, spacing)) in enumerate(grids.items()):
        affine, path = grid(shape, spacing), f"{subject}_{sequence}.nii.gz"
        image, lesion = head(shape, affine, np.eye(4) if number == 0 else motion, number)
        image[image > 0] += np.random.default_rng(len(subject) + ord(subject[-1])).integers(
            0, 20, np.count_nonzero(image), np.int16
        )
        nib.save(nib.Nifti1Image(image, affine), raw / path)
        row = index_row(subject, sequence, path)
        if sequence == labelled:
            row["label"] = f"{subject}_lesion.nii.gz"
            nib.save(nib.Nifti1Image(lesion, affine), raw / row["label"])
        rows.append(row)
    return rows


def index_row(subject: str, sequence: str, path: str, label: str = "") -> dict[str, Any]:
    row = dict.fromkeys(shards.INDEX_COLUMNS, "") | {"volume": f"{subject}_{sequence}", "subject": subject}
    return row | {"sequence": sequence, "subset": "train", "path": path, "label": label}


def run(*words: Any) -> int:
    return cli.main([word if isinstance(word, str) else json.dumps(word) for word in words])


def store(raw: Path, rows: list[dict[str, Any]], root: Path, recipe: dict[str, Any], max_rejected: str = "1") -> Path:
    """`shard` and `volumes`; returns the table."""
    write_tsv(root / "index.tsv", rows)
    folder = root / "r"
    words = ["shard", "--index", f"{root}/index.tsv", "--root", str(raw), "--recipe", recipe, "--shard", "0", "--n-shards", "1"]
    assert run(*words, "--max-rejected", max_rejected, "--out", f"{folder}/shard000.tsv") == 0
    assert run("volumes", f"{folder}/shard000.tsv", "--out", f"{folder}/{shards.JOINED}") == 0
    return folder / shards.JOINED


def score(raw: Path, table: Path, root: Path, recipe: dict[str, Any], sequences: list[str], test: list[str]) -> Any:
    """`finetune` (two steps), `predict-cohort` and `evaluate`; returns the scores of the subjects in `test`."""
    subjects = sorted(set(read_tsv(table)["subject"]))
    write_json(root / "fold0.json", {"dataset": "d", "seed": 0, "fold": 0, "block": 1, "order": subjects})
    write_json(root / "subjects.json", {"test": test})
    task = tiny.TASK | {"sequences": sequences, "labels": {"lesion": [1]}, "lesions": ["lesion"]}
    config = tiny.finetune_config(2, global_batch=1) | {"n_train": "all", "preprocess": recipe}
    config["task"] = {key: task[key] for key in ("sequences", "labels", "ignore")}
    words = ["finetune", "--volumes", str(table), "--split", f"{root}/fold0.json", "--config", config, "--log-every", "1"]
    words += ["--inference", WINDOW]
    assert run(*words, "--work", f"{root}/work", "--out", f"{root}/model") == 0
    of = ["--volumes", str(table), "--root", str(raw), "--split", f"{root}/fold0.json", "--task", task, "--n-train", "all"]
    of += ["--cohort", "test", "--fixed", f"{root}/subjects.json"]
    words = ["predict-cohort", "--model", f"{root}/model/model.safetensors", *of, "--inference", WINDOW]
    assert run(*words, "--out", f"{root}/predictions") == 0
    names = dict.fromkeys(("study", "task", "cohort", "backbone", "init", "recipe", "n_train", "fold"), "x")
    assert run("evaluate", "--predictions", f"{root}/predictions", *of, "--run", names, "--out", f"{root}/scores.tsv") == 0
    return read_tsv(root / "scores.tsv")


def predicted_raw(root: Path, images: Sequence[Path]) -> np.ndarray:
    """`predict` on raw files."""
    words = ["predict", ",".join(map(str, images)), "--model", f"{root}/model", "--out", f"{root}/segmented"]
    assert run(*words) == 0
    name = images[0].name.removesuffix(".nii.gz")
    return np.asarray(nib.load(root / "segmented" / f"{name}_dseg.nii.gz").dataobj)

"""A cohort of a few tiny volumes, stored as shards, for tests that train."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from brainpretrain.files import write_json, write_tsv
from brainpretrain.preprocess import shards

PREPROCESS = {
    "spacing_mm": [1, 1, 1], "upper_quantile": 0.99, "crop": "nonzero", "antialias": True, "min_size": 8,
    "allow_negative": False, "max_voxels": 10**6, "spacing_range_mm": [0.05, 20], "revision": 1,
}  # fmt: skip
OPTIMIZER = {"name": "adamw", "weight_decay": 3e-5, "betas": [0.9, 0.999], "eps": 1e-8, "amsgrad": True}
BACKBONE = {
    "architecture": "unet", "options": {"width": 4, "levels": 3, "convs_per_stage": 1},
    "decoder": "unet", "decoder_options": {"convs_per_stage": 1, "skips": True},
}  # fmt: skip
TASK = {
    "sequences": ["T1w"], "labels": {"ball": [1]}, "ignore": [], "nsd_tolerance_mm": 1, "lesions": ["ball"],
    "empty_masks": "nan", "hd95_missed_mm": None,
}  # fmt: skip
SEGMENTATION = {key: TASK[key] for key in ("sequences", "labels", "ignore")}


def phase(steps: int, **changes) -> dict:
    base = {
        "steps": steps,
        "epochs": None,
        "warmup_steps": 0,
        "warmup_epochs": 0,
        "lr": 1e-2,
        "decay": "cosine",
        "train": "all",
        "exponent": None,
    }
    return base | changes


def pretrain_config(steps: int, **recipe) -> dict:
    options = {
        "mask_size": 4,
        "mask_ratio": 0.6,
        "loss_on": "all",
        "decoder": "unet",
        "decoder_options": {"convs_per_stage": 1, "skips": False},
    }
    base = {
        "method": "amaes", "options": options, "patch_size": [16, 16, 16], "global_batch": 2, "phases": [phase(steps)],
        "optimizer": OPTIMIZER, "precision": "32-true", "gradient_clip": None, "val_every_epochs": 1, "revision": 1,
    }  # fmt: skip
    policy = {
        "rotation": {"p": 0.5, "p_axis": 0.66, "angle_deg": [-30, 30]},
        "noise": {"p": 0.5, "sigma": [0.01, 0.1]},
        "interpolation": "cubic",
        "crop_factor": 1.4142135624,
    }
    encoder = {key: BACKBONE[key] for key in ("architecture", "options")}
    return {"name": "tiny", "seed": 0, "recipe": base | recipe, "backbone": encoder, "policy": policy, "preprocess": PREPROCESS}


def finetune_config(steps: int, **recipe) -> dict:
    base = {
        "patch_size": [16, 16, 16], "global_batch": 2, "phases": [phase(steps)], "optimizer": OPTIMIZER, "precision": "32-true",
        "gradient_clip": None, "revision": 1, "loss": {"name": "dice_ce", "smooth": 1.0}, "foreground_fraction": 0.5,
    }  # fmt: skip
    return {"name": "tiny", "seed": 0, "fold": 0, "n_train": "2", "task": SEGMENTATION, "recipe": base | recipe, "backbone": BACKBONE,
            "policy": {"crop_factor": 1.4142135624}, "preprocess": PREPROCESS}  # fmt: skip


@dataclass
class Cohort:
    """Where the tiny cohort lies."""

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "raw"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def folder(self) -> Path:
        return self.data / "tiny" / "r"

    @property
    def shard(self) -> Path:
        return self.folder / "shard000.tsv"

    @property
    def table(self) -> Path:
        return self.folder / shards.JOINED

    @property
    def corpus(self) -> Path:
        return self.root / "corpus.tsv"

    @property
    def split(self) -> Path:
        return self.root / "fold0.json"


def make(root: Path, subjects: int = 6, ring: bool = False) -> Cohort:
    """Bright balls (label 1) at random places in textured boxes, with oblique and flipped affines among them.

    With `ring`, the voxels around each ball have the label 2.
    """
    cohort = Cohort(root)
    cohort.raw.mkdir(parents=True)
    rows = []
    for number in range(subjects):
        rng = np.random.default_rng(number)
        shape = (22 + number, 20, 18)
        centre = rng.uniform(7, 11, 3)
        distance = np.linalg.norm(np.indices(shape) - centre[:, None, None, None], axis=0)
        label = (distance < 5).astype(np.uint8)
        image = (200 * label + 100 * rng.random(shape) + 20).astype(np.int16)
        if ring:
            label[(distance >= 5) & (distance < 7)] = 2
        affine = np.diag([-1.0 if number % 2 else 1.0, 1, 1, 1])
        if number % 3 == 2:
            affine[:3, :3] = affine[:3, :3][:, [2, 0, 1]]
        for name, array in (("T1w", image), ("label", label)):
            nib.save(nib.Nifti1Image(array, affine), cohort.raw / f"s{number}_{name}.nii.gz")
        rows.append({"volume": f"s{number}_T1w", "subject": f"s{number}", "session": "", "sequence": "T1w", "subset": "train", "site": "",
                     "path": f"s{number}_T1w.nii.gz", "label": f"s{number}_label.nii.gz", "channel": ""})  # fmt: skip
    table = shards.build(rows, cohort.raw, cohort.folder, PREPROCESS, 0, 1)
    write_tsv(cohort.shard, table)
    write_tsv(cohort.table, table)
    relative = "tiny/r/" + table["file"]
    roles = ["train"] * (subjects - 1) + ["val"]
    corpus = table.assign(dataset="tiny", file=relative, role=roles)
    write_tsv(
        cohort.corpus,
        pd.DataFrame(corpus)[["dataset", "volume", "subject", "session", "sequence", "role", "file", "checksum", "shape"]],
    )
    names = [f"s{n}" for n in range(subjects)]
    write_json(
        cohort.split,
        {"dataset": "tiny", "seed": 0, "fold": 0, "block": 2, "order": names},
    )
    return cohort


def store(root: Path, labels: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Cohort:
    """A cohort of these subjects, each with a label (array, affine) and a random image on its grid."""
    cohort, rows = Cohort(root), []
    cohort.raw.mkdir(parents=True, exist_ok=True)
    for number, (subject, (label, affine)) in enumerate(labels.items()):
        image = np.random.default_rng(number).integers(20, 300, label.shape).astype(np.int16)
        row = dict.fromkeys(shards.INDEX_COLUMNS, "") | {"volume": f"{subject}_T1w", "subject": subject, "sequence": "T1w"}
        row |= {"path": f"{subject}_T1w.nii.gz", "label": f"{subject}_label.nii.gz"}
        for name, array in ((row["path"], image), (row["label"], label)):
            nib.save(nib.Nifti1Image(array, affine), cohort.raw / name)
        rows.append(row)
    table = shards.build(rows, cohort.raw, cohort.folder, PREPROCESS, 0, 1)
    for path in (cohort.shard, cohort.table):
        write_tsv(path, table)
    return cohort


def finetune_line(cohort: Cohort, config: dict, root: Path, *more: str, out: Path | str = "out") -> list[str]:
    """Arguments of the command `finetune`; work and result go below `root`."""
    line = ["finetune", "--volumes", str(cohort.table), "--split", str(cohort.split), "--config", json.dumps(config)]
    return [*line, "--log-every", "1", "--work", f"{root}/work", "--out", str(root / out), *more]

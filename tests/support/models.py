"""A model of random weights, images to segment with it, and the command that does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

import tiny
from brainpretrain import cli, decoders
from brainpretrain.weights import store

WINDOW = {"overlap": 0.5, "weights": "gaussian", "batch": 2, "mirror": []}


def make_model(folder: Path, sequences: tuple[str, ...] = ("T1w",), **facts: Any) -> Path:
    """Writes a model whose labels mean nothing but depend on every voxel, and returns its folder."""
    task = {"sequences": list(sequences), "labels": {"ball": [3], "rim": [300]}, "ignore": []}
    config = tiny.finetune_config(1) | {"kind": "model", "task": task, "in_channels": len(sequences), "inference": WINDOW}
    torch.manual_seed(9)
    network = decoders.build_network(config["backbone"], len(sequences), 3)
    store.save(folder / "model", network.state_dict(), config | facts)
    return folder


def brain(seed: int = 0, shape: tuple[int, int, int] = (20, 22, 18)) -> np.ndarray:
    """An image with a border of zeros, of another width on each side."""
    array = np.zeros(shape, np.int16)
    array[2:-1, 3:-2, 1:-3] = np.random.default_rng(seed).integers(20, 300, shape)[2:-1, 3:-2, 1:-3]
    return array


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None, **header: Any) -> Path:
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    for key, value in header.items():
        image.header[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def predict(model: Path, out: Path | str, *words: Any, options: Any = ()) -> int:
    """Runs the command and returns its exit code."""
    return cli.main(["predict", "--model", str(model), "--out", str(out), *options, *map(str, words)])


def labels_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)

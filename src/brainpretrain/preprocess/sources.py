"""The raw files of stored volumes, read again after preprocessing and compared with what was on record then.

A file that was turned, cut or exchanged since then does not belong to the stored volume any more: a prediction would be written
into the wrong grid, or compared with another label. Records of earlier versions have no checksum of the raw file; for these,
shape and affine are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from brainpretrain.preprocess.headers import GRID_TOLERANCE_VOXELS, BadVolume, Limits, grid_distance_mm
from brainpretrain.preprocess.nifti import Volume, read_volume
from brainpretrain.preprocess.sessions import on_written_grid, own_grid
from brainpretrain.preprocess.shards import read_record

SAME_GRID_VOXELS = 1e-3  # largest distance between the corners of the grid on record and that of the image
TAKE_UP = (
    "put the file back as it was; or take the change up, which trains again:"
    " snakemake <your options> --forcerun fetch -- <targets>"
)


def read_image(root: Path, folder: Path, row: Mapping[str, Any]) -> Volume:
    """The raw image of a stored volume.

    Args:
        root: folder of the raw files.
        folder: folder of the table of stored volumes.
        row: row of that table.

    Raises:
        BadVolume: the file cannot be read, or is not the one that was stored (`changed`).
    """
    channel = str(row.get("channel", ""))
    volume = read_volume(root / row["path"], limits=Limits.of_stored(row), channel=int(channel) if channel else None)
    _require_stored(volume, folder, row, "source_checksum", SAME_GRID_VOXELS)
    return volume


def read_label(root: Path, folder: Path, row: Mapping[str, Any]) -> Volume:
    """The raw label of a stored volume, on the grid that predictions of its case are written on; otherwise as `read_image`."""
    volume = read_volume(root / row["label"], limits=Limits.of_stored(row))
    _require_stored(volume, folder, row, "label_source_checksum", GRID_TOLERANCE_VOXELS)
    return on_written_grid(volume, row)


def _require_stored(volume: Volume, folder: Path, row: Mapping[str, Any], name: str, tolerance_voxels: float) -> None:
    differences = _grid_differences(volume, *own_grid(row), tolerance_voxels)
    kept = read_record(folder / "volumes" / f"{row['volume']}.json")
    checksum = kept["record"].get(name, "") if kept else ""
    if checksum and checksum != volume.facts["checksum"] and not differences:
        differences = ["another header or other voxels"]
    if differences:
        problem = f"the raw file is not the one that was preprocessed: it has {' and '.join(differences)}"
        raise BadVolume(problem, reason="changed", where=volume.path, fix=TAKE_UP)


def _grid_differences(volume: Volume, shape: tuple[int, ...], affine: np.ndarray, tolerance_voxels: float) -> list[str]:
    """Differences between the grid of a raw file and the grid on record, as text; empty if there are none."""
    axes = ["".join(nib.aff2axcodes(matrix)) for matrix in (volume.affine, affine)]
    differences = [f"axes {axes[0]} instead of {axes[1]}"] if axes[0] != axes[1] else []
    if volume.array.shape != shape:
        differences.append(f"shape {volume.array.shape} instead of {shape}")
    elif (gap := grid_distance_mm(volume.affine, affine, volume.array.shape)) > tolerance_voxels * min(volume.spacing_mm):
        differences.append(f"an affine that is up to {gap:.3g} mm off")
    return differences

"""Miniature trees of data sets: the real names and formats, volumes of a few thousand voxels."""

from __future__ import annotations

import gzip
from collections import defaultdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from brainpretrain.datasets.base import Dataset

SHAPE = (20, 18, 16)
TINY = nib.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4)).to_bytes()


def build(root: Path, paths: Any) -> Path:
    """Files of these names; each NIfTI file has eight voxels."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(gzip.compress(TINY, mtime=0) if path.endswith(".gz") else TINY)
    return root


def head(number: int = 0) -> np.ndarray:
    """A head in air (0), int16 (20, 18, 16); another one for each number."""
    distance = np.linalg.norm(np.indices(SHAPE) - np.array([9.5, 8.5, 7.5])[:, None, None, None], axis=0)
    noise = np.random.default_rng(number).integers(100, 1000, SHAPE)
    return (noise * (distance < 7.5)).astype(np.int16)


def structures(values: list[int], number: int = 0) -> np.ndarray:
    """A slab of a head for each value, uint16 (20, 18, 16)."""
    label = np.zeros(SHAPE, np.uint16)
    for place, value in enumerate(values):
        label[5 + 3 * place : 8 + 3 * place, 4:13, 4 : 11 + number % 2] = value
    return label


def fill(root: Path, dataset: Dataset, rows: list[dict[str, Any]], values: list[int]) -> None:
    """Replaces the files of index rows by heads, and their label files by structures of these values."""
    channels = defaultdict(list)
    for number, row in enumerate(rows):
        channels[row["path"]].append(head(number))
        if row["label"]:
            nib.save(nib.Nifti1Image(structures(values), np.eye(4), dtype=np.uint16), root / row["label"])
    for path, arrays in channels.items():
        nib.save(nib.Nifti1Image(np.stack(arrays, -1) if len(arrays) > 1 else arrays[0], np.eye(4)), root / path)


# ------------------------------------------------------------------------------------------------ HaN-Seg


def write_nrrd(path: Path, array: np.ndarray, start: tuple[int, int, int] = (0, 0, 0)) -> None:
    """A volume of 1 x 1 x 2 mm as Slicer writes it; `start` is its first voxel on the grid of the whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    origin = np.array(start) * [1, 1, 2] + [10, 20, -30]
    lines = [
        "NRRD0005", f"type: {'unsigned char' if array.dtype == np.uint8 else 'short'}", "dimension: 3",
        "space: left-posterior-superior", f"sizes: {' '.join(map(str, array.shape))}", "space directions: (1,0,0) (0,1,0) (0,0,2)",
        "kinds: domain domain domain", "endian: little", "encoding: gzip", f"space origin: ({','.join(map(str, origin))})",
    ]  # fmt: skip
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + gzip.compress(array.tobytes(order="F")))


def han_seg(root: Path, cases: int = 3) -> dict[str, np.ndarray]:
    """Cases with CT, T1w and three organs: brainstem, a cropped pituitary that overlaps it, and a left parotid but in the last.

    Returns:
        The expected label of each case, in the order of the axes of its files.
    """
    expected = {}
    for number in range(1, cases + 1):
        folder, name = root / f"HaN-Seg/set_1/case_{number:02d}", f"case_{number:02d}"
        write_nrrd(folder / f"{name}_IMG_CT.nrrd", (head(number) - 1000).astype(np.int16))
        write_nrrd(folder / f"{name}_IMG_MR_T1.nrrd", head(number))
        stem, parotid = structures([1]).astype(np.uint8), (structures([0, 1]) > 0).astype(np.uint8)
        write_nrrd(folder / f"{name}_OAR_Brainstem.seg.nrrd", stem)
        write_nrrd(folder / f"{name}_OAR_Pituitary.seg.nrrd", np.ones((2, 3, 4), np.uint8), start=(6, 5, 5))
        label = 5 * stem.astype(np.uint16)
        if number < cases:
            write_nrrd(folder / f"{name}_OAR_Parotid_L.seg.nrrd", parotid)
            label[parotid > 0] = 27
        label[6:8, 5:8, 5:9] = 29
        expected[name] = label
    return expected


# ------------------------------------------------------------------------------------------------ COSMOS


def contour(kind: str, corners: tuple[float, float, float, float]) -> str:
    """A rectangle (left, top, right, bottom) in pixels of an image of 512 columns."""
    left, top, right, bottom = corners
    points = "".join(f'<Point x="{x}" y="{y}"/>' for x, y in ((left, top), (right, top), (right, bottom), (left, bottom)))
    return f"<QVAS_Contour><ContourType>{kind}</ContourType><Contour_Point>{points}</Contour_Point></QVAS_Contour>"


def write_vessel(folder: Path, side: str, slices: dict[int, tuple[tuple, tuple]], total: int) -> None:
    """The QVJ and QVS file of a vessel: for the number of a slice, from 1, the rectangles of outer wall and lumen."""
    images = []
    for number in range(1, total + 1):
        outlines = "".join(map(contour, ("Outer Wall", "Lumen"), slices.get(number, ())))
        images.append(f'<QVAS_Image ImageName="E1S101I{number}">{outlines}</QVAS_Image>')
    (folder / f"E1S101_{side}.QVS").write_text(f"<QVAS_Series>{''.join(images)}</QVAS_Series>")
    names = f"<QVASSeriesFileName>E1S101_{side}.QVS</QVASSeriesFileName>"
    text = f"<QVAS_Project><QVAS_Loaded_Series_List>{names}</QVAS_Loaded_Series_List></QVAS_Project>"
    (folder / f"{folder.name}{side}.QVJ").write_text(text)

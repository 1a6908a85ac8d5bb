"""Merges the mask files of a case, one for each structure, into one label file on the grid of its image."""

from __future__ import annotations

import gzip
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from brainpretrain.datasets.base import CONVERTED, Structures, some
from brainpretrain.download import convert
from brainpretrain.errors import UserError
from brainpretrain.files import atomic, read_json, write_json

_TOLERANCE = 1e-3  # voxels


def merge_tree(root: Path | str, structures: Structures, values: dict[str, int]) -> list[dict[str, Any]]:
    """Writes the label file of every case below `root`; one whose mask files have not changed is kept.

    Beside each label, a JSON file has what is returned for it.

    Args:
        root: folder of the data set.
        structures: how the files are named, and which structure lies over which.
        values: label value of each structure.

    Returns:
        For each case: case, label (path below `root`), structures (name to number of voxels), missing (names), overlapping
        (number of voxels in several masks), sources (name to size and time of its file).

    Raises:
        UserError: masks cannot be read, are not masks, are of an unknown structure, or on another grid than their image; the
            message lists all cases with such masks, and the labels of the others are written.
    """
    root, made, problems = Path(root), [], []
    for case, masks in sorted(_masks(root, structures).items()):
        label, facts, sources = _places(root, structures, case, masks)
        if old := _kept(label, facts, sources):
            made.append(old)
            continue
        try:
            if unknown := sorted(set(masks) - set(structures.order)):
                raise UserError(f"unknown structures: {', '.join(unknown)}", where=masks[unknown[0]])
            counts = _merge(root / structures.image.format(case=case), masks, structures.order, values, label)
        except UserError as error:
            problems.append(f"{error.where}: {error.problem}")
            continue
        about = {"case": case, "label": label.relative_to(root).as_posix(), **counts, "sources": sources}
        write_json(facts, about)
        made.append(about)
    if problems:
        problem = "mask files cannot be merged into a label:\n    " + "\n    ".join(problems)
        fix = "unpack the archive again; or move all masks of these cases and the cases' images out of the folder"
        raise UserError(problem, where=root, fix=fix)
    return made


def outdated(root: Path | str, structures: Structures) -> list[str]:
    """The cases below `root` whose label file is missing or was made from other mask files."""
    root, cases = Path(root), _masks(Path(root), structures).items()
    return sorted(case for case, masks in cases if not _kept(*_places(root, structures, case, masks)))


def _places(root: Path, structures: Structures, case: str, masks: dict[str, Path]) -> tuple[Path, Path, dict[str, list[int]]]:
    """Label file and JSON file of a case, and size and time of each mask file."""
    label = root / CONVERTED / (structures.label.format(case=case) + ".nii.gz")
    sources = {name: [path.stat().st_size, path.stat().st_mtime_ns] for name, path in sorted(masks.items())}
    return label, label.with_name(label.name.removesuffix(".nii.gz") + ".json"), sources


def _kept(label: Path, facts: Path, sources: dict[str, list[int]]) -> dict[str, Any]:
    """What the JSON file says, if the label is of these mask files; else empty."""
    old = read_json(facts) if label.exists() and facts.exists() else {}
    return old if old.get("sources") == sources else {}


def _masks(root: Path, structures: Structures) -> dict[str, dict[str, Path]]:
    """The mask files below `root` by case and structure; hidden files and converted ones are left out."""
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if relative.parts[0] == CONVERTED or any(part.startswith(".") for part in relative.parts):
            continue
        if match := re.fullmatch(structures.mask, relative.as_posix()):
            found[match["case"]][match["structure"]] = path
    return found


def _merge(image: Path, masks: dict[str, Path], order: tuple[str, ...], values: dict[str, int], out: Path) -> dict[str, Any]:
    """Writes a label file uint8 or uint16 on the grid of `image`.

    Returns:
        structures, missing and overlapping, as `merge_tree`.
    """
    array, affine = convert.read(image)
    label = np.zeros(array.shape, np.uint8 if max(values.values()) < 256 else np.uint16)
    several = np.zeros(array.shape, np.uint8)
    counts = {}
    for name in (name for name in order if name in masks):
        box, inside = _on_grid(masks[name], array.shape, affine)
        label[box][inside] = values[name]
        several[box] += inside
        counts[name] = int(inside.sum())
    converted = nib.Nifti1Image(label, affine, dtype=label.dtype)
    converted.header.set_xyzt_units("mm")
    with atomic(out) as temporary:
        temporary.write_bytes(gzip.compress(converted.to_bytes(), compresslevel=1, mtime=0))
    missing = [name for name in order if name not in masks]
    return {"structures": counts, "missing": missing, "overlapping": int((several > 1).sum())}


def _on_grid(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> tuple[tuple[slice, ...], np.ndarray]:
    """The part of the image's grid that a mask covers, which may be all of it, and the mask there (bool).

    Raises:
        UserError: the voxels are not 0 and one other value; or the mask is not a part of the grid.
    """
    array, own = convert.read(path)
    if len(found := np.unique(array[array != 0])) > 1:
        raise UserError(f"no mask of one structure: values {some([str(value) for value in found])}", where=path)
    to_image = np.linalg.inv(affine) @ own
    start = np.rint(to_image[:3, 3]).astype(int)
    grid = np.eye(4)
    grid[:3, 3] = start
    ends = np.array([[i, j, k, 1] for i in (0, array.shape[0]) for j in (0, array.shape[1]) for k in (0, array.shape[2])]).T
    if np.abs((to_image - grid) @ ends).max() > _TOLERANCE or (start < 0).any() or (start + array.shape > np.array(shape)).any():
        raise UserError("the mask is on another grid than the image of its case", where=path)
    box = tuple(slice(first, first + size) for first, size in zip(start, array.shape, strict=True))
    return box, array != 0


def remarks(made: list[dict[str, Any]]) -> list[str]:
    """Lines about structures that cases lack, and about voxels in several masks."""
    lacking = [f"{Path(facts['case']).name} lacks {', '.join(facts['missing'])}" for facts in made if facts["missing"]]
    lines = [f"structures that count as background: {some(lacking)}"] if lacking else []
    overlapping = {Path(facts["case"]).name: facts["overlapping"] for facts in made if facts["overlapping"]}
    if overlapping:
        cases = some([f"{count:,} of {name}" for name, count in overlapping.items()])
        lines.append(f"voxels in several masks, which got the structure that lies over the others: {cases}")
    return lines

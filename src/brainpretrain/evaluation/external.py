"""Segmentations that another program made of a cohort, as label files like those of `predict-cohort`.

Files are matched to cases by name, read with their own header, brought onto the grid of the case's image, and translated to the
values of the task. Then they are scored and drawn as predictions. What cannot be right is refused; what was changed is recorded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from brainpretrain.cohorts.cases import Case
from brainpretrain.errors import UserError
from brainpretrain.evaluation import bids
from brainpretrain.files import nifti_files, write_json
from brainpretrain.preprocess import nifti, sources
from brainpretrain.preprocess.headers import GRID_TOLERANCE_VOXELS
from brainpretrain.preprocess.resampling import NEAREST, affine_resample, inside
from brainpretrain.preprocess.volumes import integer_labels, label_values

MIN_COVERED = 0.9  # share of the image's foreground (above 0) that the field of view of a segmentation must hold
_LISTED = 20  # names in a message
_UNNAMED = 65535  # class of a value that nothing names, in a lookup table of uint16

Progress = Callable[[int, int], None]


def ingest(
    cases: Sequence[Case],
    raw: Path,
    folder: Path,
    pattern: str,
    values: Mapping[str, Any],
    labels: Mapping[str, Sequence[int]],
    out: Path,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Writes `<case>.nii.gz` per case into `out`, on the grid of its image, with the values of the task, and `external.json`.

    Args:
        cases: of the cohort.
        raw: folder of the raw data set.
        folder, pattern: of the program's files.
        values: what `plan.external.values_of` returned: title, labels, background, others.
        labels: of the task.
        progress: called with (done, total).

    Returns:
        The content of `external.json`: title; cases: for each its file, checksum, and what was done with its grid; background:
        number of cases by value that counts as background.

    Raises:
        UserError: there is no such folder; a case has no file or several; a file cannot be read, is not on the image's grid and
            does not cover it, has an unknown orientation, or holds a value that is not named.
    """
    if not folder.is_dir():
        raise UserError("there is no such folder", where=folder, fix=f"put the segmentations of '{values['title']}' there")
    files = match(cases, folder, nifti_files(folder, pattern))
    lookup, counts = _lookup(values, labels), dict[int, int]()
    out.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {}
    for number, case in enumerate(cases, start=1):
        image = sources.read_image(raw, case.folder, case.rows[0])
        volume = nifti.read_volume(files[case.name])
        array = integer_labels(volume)
        classes = lookup[array]
        unnamed = [value for value in label_values(array) if lookup[value] == _UNNAMED]
        if unnamed and values["others"] == "refuse":
            _refuse_values(unnamed, files[case.name], values)
        for value in [*unnamed, *(value for value in label_values(array) if value and not lookup[value])]:
            counts[value] = counts.get(value, 0) + 1
        classes[classes == _UNNAMED] = 0
        classes, words = on_grid(classes, volume, image)
        nifti.write_volume(out / f"{case.name}.nii.gz", classes, like=raw / case.rows[0]["path"])
        record[case.name] = {
            "file": files[case.name].relative_to(folder).as_posix(),
            "checksum": volume.facts["checksum"],
            "grid": words,
        }
        progress(number, len(cases))
    content = {"title": values["title"], "cases": record, "background": {str(value): counts[value] for value in sorted(counts)}}
    write_json(out / "external.json", content)
    return content


def remarks(content: Mapping[str, Any]) -> list[str]:
    """Lines about what `ingest` did with the files: cases by what was done with their grid, and values that are background."""
    cases: dict[str, list[str]] = {}
    for name, entry in content["cases"].items():
        cases.setdefault(entry["grid"], []).append(name)
    lines = [f"{len(names)} of {len(content['cases'])} cases: {words}" for words, names in sorted(cases.items())]
    if content["background"]:
        counted = [f"{value} in {number} of {len(content['cases'])} cases" for value, number in content["background"].items()]
        more = f" and {len(counted) - 2 * _LISTED} more" if len(counted) > 2 * _LISTED else ""
        lines.append(f"label values that count as background: {', '.join(counted[: 2 * _LISTED])}{more}")
    return lines


# ------------------------------------------------------------------------------------------------ names


def match(cases: Sequence[Case], folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    """The file of each case.

    A case is called by its name, the name of its image, or its BIDS name (`sub-01_ses-2`). A file belongs to it if its name, or
    that of one of its folders, is such a name, or begins with one and goes on with no letter or digit: `case_0000.nii.gz`,
    `sub-01_dseg.nii.gz`, `case/mri/aseg.nii.gz`. A subject with one case may be named without session.

    Raises:
        UserError: a case has no file, or several; the message lists them.
    """
    keys = _keys(cases)
    by_case: dict[str, list[Path]] = {case.name: [] for case in cases}
    free = []
    for path in files:
        owner = _owner(path.relative_to(folder), keys)
        (by_case[owner.name] if owner else free).append(path)
    shown = [path.relative_to(folder).as_posix() for path in free]
    if not files:
        problem = f"there is no NIfTI file that counts; the cohort has {len(cases)} cases: {_some(list(by_case))}"
        raise UserError(problem, where=folder, fix="put the segmentations there, or correct 'files' of the row")
    if missing := [name for name, paths in by_case.items() if not paths]:
        problem = f"{len(missing)} of {len(cases)} cases of the cohort have no segmentation: {_some(missing)}"
        problem += f"; files of no case of the cohort: {_some(shown)}" if shown else ""
        raise UserError(problem, where=folder, fix="name the files, or their folders, after the cases")
    if several := {name: paths for name, paths in by_case.items() if len(paths) > 1}:
        lines = [f"{name}: {_some([path.relative_to(folder).as_posix() for path in paths])}" for name, paths in several.items()]
        fix = "keep one of each, or say which files count, such as 'files: \"*/mri/aseg.nii.gz\"' in the row"
        raise UserError(f"{len(several)} cases have several segmentations: {'; '.join(lines[:_LISTED])}", where=folder, fix=fix)
    return {name: paths[0] for name, paths in by_case.items()}


def _keys(cases: Sequence[Case]) -> dict[str, Case]:
    """The names that stand for one case alone."""
    owners: dict[str, set[str]] = {}
    by_name = {case.name: case for case in cases}
    for case in cases:
        subject, session = bids.label(case.subject), bids.label(case.session)
        names = {case.name, _stem(Path(case.rows[0]["path"]).name)}
        if session:
            names |= {f"{case.subject}_{case.session}", f"sub-{subject}_ses-{session}"}
        names |= {case.subject, f"sub-{subject}"}
        for name in names - {""}:
            owners.setdefault(name, set()).add(case.name)
    return {key: by_name[next(iter(names))] for key, names in owners.items() if len(names) == 1}


def _owner(path: Path, keys: Mapping[str, Case]) -> Case | None:
    """The case that the longest key in the path's words stands for."""
    best, owner = 0, None
    for word in (*path.parts[:-1], _stem(path.name)):
        for key, case in keys.items():
            rest = word[len(key) :]
            if word.startswith(key) and not rest[:1].isalnum() and len(key) > best and not _of_other_session(path, key, case):
                best, owner = len(key), case
    return owner


def _of_other_session(path: Path, key: str, case: Case) -> bool:
    """True if the key names the subject only, and the path a session of the same form that is another one."""
    if not case.session or case.session in key or f"ses-{bids.label(case.session)}" in key:
        return False
    text = path.as_posix().replace(case.subject, "")
    named = set(re.findall(r"ses-([a-zA-Z0-9]+)", text))
    if re.search(r"\d", case.session):
        form = re.sub(r"\d+", r"\\d+", re.escape(case.session))
        named |= set(re.findall(rf"(?<![a-zA-Z0-9]){form}(?![a-zA-Z0-9])", text))
    return bool(named) and not named & {case.session, bids.label(case.session)}


def _stem(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".nii")


def _some(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return " ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


# ------------------------------------------------------------------------------------------------ values and grid


def _lookup(values: Mapping[str, Any], labels: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Table from values of the files (0..65535) to values of the task, uint16: the first of a class, 0 or `_UNNAMED`."""
    lookup = np.full(65536, _UNNAMED, np.uint16)
    lookup[[0, *values["background"]]] = 0
    for name, group in values["labels"].items():
        lookup[list(group)] = labels[name][0]
    return lookup


def _refuse_values(unnamed: Sequence[int], path: Path, values: Mapping[str, Any]) -> None:
    known = sorted(value for group in values["labels"].values() for value in group)
    raise UserError(
        f"the segmentation holds {' '.join(map(str, unnamed[:_LISTED]))}, which 'labels' of the row does not name",
        where=path,
        fix="name them in 'labels', or say that they are background ('others: background'); named are"
        f" {' '.join(map(str, known))[:300]}",
    )


def on_grid(array: np.ndarray, volume: nifti.Volume, image: nifti.Volume) -> tuple[np.ndarray, str]:
    """Label values on the grid of an image, and what was done: the same grid, other axes, or resampled by nearest neighbour.

    Args:
        array: (i, j, k) of `volume`.
        volume: the segmentation as read, for its grid.
        image: the image as read.

    Raises:
        UserError: neither qform nor sform is set, or the segmentation's field of view does not hold the image's foreground.
    """
    if not volume.facts["qform_code"] and not volume.facts["sform_code"]:
        fix = "write the affine of the image into its header, if it is on the grid of the image"
        raise UserError("neither qform nor sform is set: where it lies is not known", where=volume.path, fix=fix)
    matrix = np.linalg.inv(volume.affine) @ image.affine  # voxel of the image -> voxel of the segmentation
    whole = np.rint(matrix)
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [*(n - 1 for n in image.shape), 1]
    if np.abs((matrix - whole) @ corners.T).max() <= GRID_TOLERANCE_VOXELS:
        matrix = whole  # voxel on voxel, so nothing is interpolated
    if np.array_equal(matrix, np.eye(4)) and volume.shape == image.shape:
        return array, "on the grid of the image"
    held = inside(matrix, image.shape, volume.shape)
    foreground = image.array > 0
    covered = float(held[foreground].mean()) if foreground.any() else float(held.mean())
    axes = ["".join(nib.aff2axcodes(one.affine)) for one in (volume, image)]
    if covered < MIN_COVERED:
        raise UserError(
            f"the segmentation covers {100 * covered:.0f} % of the image's foreground: shape {volume.shape}, axes {axes[0]};"
            f" the image has {image.shape}, {axes[1]}",
            where=f"{volume.path} (image {image.path})",
            fix="give the segmentation of this image, with the header that the program wrote",
        )
    moved = affine_resample(array, matrix, image.shape, NEAREST, 0, antialias=False)
    if np.array_equal(matrix, whole) and held.all() and volume.array.size == image.array.size:
        return moved, f"the same voxels, axes {axes[0]} turned to {axes[1]}"
    if np.array_equal(matrix, whole):
        return moved, f"the same voxels in a field of view of {_grid(volume)}, brought to {_grid(image)}"
    return moved, f"resampled by nearest neighbour from {_grid(volume)} to {_grid(image)}"


def _grid(volume: nifti.Volume) -> str:
    return f"{'x'.join(map(str, volume.shape))} voxels of {'x'.join(f'{n:g}' for n in np.round(volume.spacing_mm, 3))} mm"

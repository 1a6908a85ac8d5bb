"""Draws vessel contours (QVJ and QVS files of the program CASCADE) into label files on the grid of the converted volume.

A QVJ file names the QVS file of a vessel. A QVS file has a `QVAS_Image` for each slice, whose attribute `ImageName` ends with
`I` and a number as the DICOM file of the slice does, and in it a `QVAS_Contour` for `Lumen` and one for `Outer Wall`, each with
points.
"""

from __future__ import annotations

import gzip
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from brainpretrain.datasets.base import CONVERTED, Contours
from brainpretrain.errors import UserError
from brainpretrain.files import atomic, read_json, write_json
from brainpretrain.preprocess.nifti import read_volume

SCALED_TO = 512  # columns of the image that the points of a contour refer to
KINDS = ("Outer Wall", "Lumen")  # drawn in this order
_MAX_BYTES = 64 << 20
_MARKER = ".dicom.json"  # of `dicom`, in the folder of a converted series
_SLICE = 0.1  # voxels that a contour may be away from a slice


class Outline(NamedTuple):
    """One slice of one vessel: the end of the name of its DICOM file, and for each kind of contour its points (n, 2), x and y."""

    image: str
    points: dict[str, np.ndarray]


def draw_tree(root: Path | str, contours: Contours) -> list[str]:
    """Writes a label beside every converted volume whose DICOM folder has contours; those of unchanged contours are kept.

    Beside each label, a JSON file has the number of slices of each vessel, and sizes and times of the files with contours.

    Returns:
        A line for each case whose contours cannot be drawn.
    """
    root, problems = Path(root), []
    for folder in _folders(root):
        try:
            label = _label_of(root, folder, contours)
            if not _is_kept(folder, label):
                _draw(folder, label, contours)
            problem = read_json(_facts_of(label)).get("problem", "")
        except UserError as error:
            problem = error.problem
        if problem:
            problems.append(f"contours without a label, {folder.relative_to(root)}: {problem}")
    return problems


def outdated(root: Path | str, contours: Contours) -> list[str]:
    """The cases below `root` whose label file is missing or was drawn from other files."""
    found = []
    for folder in _folders(Path(root)):
        try:
            kept = _is_kept(folder, _label_of(Path(root), folder, contours))
        except UserError:
            kept = True  # nothing can be drawn
        if not kept:
            found.append(folder.relative_to(root).as_posix())
    return found


def _folders(root: Path) -> list[Path]:
    folders = {path.parent for path in root.rglob("*") if path.suffix.lower() == ".qvj"}
    return sorted(path for path in folders if path.relative_to(root).parts[:1] != (CONVERTED,))


def _label_of(root: Path, folder: Path, contours: Contours) -> Path:
    """The label file of a DICOM folder, named after its converted volume.

    Raises:
        UserError: the folder became no volume, or several.
    """
    converted = root / CONVERTED / folder.relative_to(root)
    names = read_json(converted / _MARKER)["made"] if (converted / _MARKER).exists() else []
    volumes = [name.removesuffix(".nii.gz") for name in names if name.endswith(".nii.gz")]
    if len(volumes) != 1:
        raise UserError(f"contours need one volume, the series has {len(volumes)}", where=folder)
    return converted / f"{volumes[0]}{contours.ending}.nii.gz"


def _sources(folder: Path) -> dict[str, list[int]]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".qvj", ".qvs"))
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files}


def _facts_of(label: Path) -> Path:
    return label.with_name(label.name.removesuffix(".nii.gz") + ".json")


def _is_kept(folder: Path, label: Path) -> bool:
    facts = _facts_of(label)
    found = read_json(facts) if facts.exists() else {}
    return found.get("sources") == _sources(folder) and (label.exists() or "problem" in found)


def _draw(folder: Path, out: Path, contours: Contours) -> None:
    """Writes label and JSON file of a case; if its contours cannot be drawn, only the JSON file, with the problem."""
    try:
        slices = _draw_label(folder, out, contours)
    except UserError as error:
        out.unlink(missing_ok=True)
        facts: dict[str, Any] = {"problem": f"{error.problem} ({Path(error.where).name})"}
    else:
        facts = {"slices": slices}
    write_json(_facts_of(out), facts | {"sources": _sources(folder)})


def _draw_label(folder: Path, out: Path, contours: Contours) -> dict[str, int]:
    volume = out.with_name(out.name.removesuffix(f"{contours.ending}.nii.gz") + ".nii.gz")
    image = read_volume(volume)
    label = np.full(image.array.shape, contours.unread, np.uint8)
    outlines = [_read_vessel(folder, side) for side in contours.vessels]
    if not any(outlines):
        raise UserError("the files have no contours of lumen and wall", where=folder)
    for number, vessel in enumerate(outlines):
        for outline in vessel:
            _draw_outline(folder, outline, label, image.affine, contours, half=number)
    drawn = nib.Nifti1Image(label, image.affine, dtype=label.dtype)
    drawn.header.set_xyzt_units("mm")
    with atomic(out) as temporary:
        temporary.write_bytes(gzip.compress(drawn.to_bytes(), compresslevel=1, mtime=0))
    return {side: len(vessel) for side, vessel in zip(contours.vessels, outlines, strict=True)}


def _draw_outline(folder: Path, outline: Outline, label: np.ndarray, affine: np.ndarray, contours: Contours, half: int) -> None:
    """Draws one slice: the half of the slice that holds the vessel becomes background, then wall and lumen are filled."""
    to_world, columns = _slice_grid(folder, outline.image)
    to_voxel = np.linalg.inv(affine) @ to_world
    drawn = {kind: _inside(outline.points[kind] * columns / SCALED_TO, to_voxel, label.shape, folder) for kind in KINDS}
    axis, number, _ = drawn[KINDS[0]]
    if (axis, number) != drawn[KINDS[1]][:2]:
        raise UserError("lumen and wall of one image are in different slices", where=folder)
    part = np.moveaxis(label, axis, 0)[number]  # a view
    voxels = np.insert(np.indices(part.shape).reshape(2, -1), axis, number, axis=0).T
    x = nib.affines.apply_affine(affine, voxels)[:, 0].reshape(part.shape)
    middle = nib.affines.apply_affine(affine, (np.array(label.shape) - 1) / 2)[0]
    on_side = x < middle if half == 0 else x >= middle  # of RAS: the patient's left is below the middle
    part[on_side & (part == contours.unread)] = 0
    for kind, value in zip(KINDS, (contours.outer, contours.inner), strict=True):
        part[drawn[kind][2]] = value


def _inside(points: np.ndarray, to_voxel: np.ndarray, shape: tuple[int, ...], folder: Path) -> tuple[int, int, np.ndarray]:
    """Axis and number of the slice of the volume that a contour is in, and the voxels there whose centres are inside (bool)."""
    from matplotlib.path import Path as Polygon  # here, since it takes half a second

    placed = nib.affines.apply_affine(to_voxel, np.column_stack([points, np.zeros(len(points))]))
    axis = int(np.argmin(np.ptp(placed, axis=0)))
    number = round(float(placed[:, axis].mean()))
    if np.abs(placed[:, axis] - number).max() > _SLICE or not 0 <= number < shape[axis]:
        raise UserError("a contour is in no slice of the volume", where=folder)
    sizes = tuple(np.delete(shape, axis))
    centres = np.indices(sizes).reshape(2, -1).T
    outline = np.delete(placed, axis, axis=1)
    return axis, number, Polygon(outline).contains_points(centres).reshape(sizes)


def _slice_grid(folder: Path, image: str) -> tuple[np.ndarray, int]:
    """From column, row and 0 of a DICOM slice to world coordinates (RAS), and the number of its columns."""
    import SimpleITK

    paths = [
        path for path in folder.iterdir() if path.is_file() and _number(path.stem) == image and path.suffix.lower() != ".qvs"
    ]
    if len(paths) != 1:
        raise UserError(f"{len(paths)} DICOM files are named as the image {image} of the contours", where=folder)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(paths[0]))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise UserError("SimpleITK cannot read its header", where=paths[0]) from error
    to_world = np.eye(4)
    to_world[:3, :3] = np.array(reader.GetDirection()).reshape(3, 3) @ np.diag(reader.GetSpacing())
    to_world[:3, 3] = reader.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ to_world, reader.GetSize()[0]


def _number(name: str) -> str:
    """The end of a name from its last `I` with a number, such as I24; '' without one."""
    found = re.search(r"I0*(\d+)$", name)
    return f"I{found[1]}" if found else ""


def _read_vessel(folder: Path, side: str) -> list[Outline]:
    """The outlined slices of one vessel; none if the folder has no QVJ file for it."""
    paths = [path for path in folder.iterdir() if path.name.lower() == f"{folder.name}{side}.qvj".lower()]
    if not paths:
        return []
    element = _xml(paths[0]).find("QVAS_Loaded_Series_List/QVASSeriesFileName")
    if element is None or not element.text or "/" in element.text or not (folder / element.text.strip()).is_file():
        raise UserError("it names no QVS file of its folder", where=paths[0])
    series = folder / element.text.strip()
    outlines = []
    for image in _xml(series).iter("QVAS_Image"):
        points = {}
        for contour in image.findall("QVAS_Contour"):
            kind = (contour.findtext("ContourType") or "").strip()
            if kind in KINDS:
                points[kind] = _points(contour, series)
        if set(points) == set(KINDS):  # without one of them, the slice counts as not outlined
            name = _number(image.get("ImageName", ""))
            if not name:
                raise UserError("the name of an outlined image has no number", where=series)
            outlines.append(Outline(name, points))
    return outlines


def _points(contour: ET.Element, path: Path) -> np.ndarray:
    try:
        points = np.array([[float(point.attrib["x"]), float(point.attrib["y"])] for point in contour.iter("Point")])
    except (KeyError, ValueError) as error:
        raise UserError("a point of a contour has no coordinates", where=path) from error
    if len(points) < 3 or not np.isfinite(points).all():
        raise UserError(f"a contour of {len(points)} points", where=path)
    return points


def _xml(path: Path) -> ET.Element:
    """The root of an XML file. Entities, which could expand without limit, are refused."""
    content = path.read_bytes()[: _MAX_BYTES + 1]
    if len(content) > _MAX_BYTES or b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise UserError("larger than contours are, or with XML entities", where=path)
    try:
        return ET.fromstring(content)
    except ET.ParseError as error:
        raise UserError(f"no readable XML: {error}", where=path) from error

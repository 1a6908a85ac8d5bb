"""The volumes that are prepared together: one volume, or the sequences of one session, on one grid and in one crop box.

`shard`, `predict` and `features` prepare volumes with `prepare` alone, so what a network is trained on is what it predicts.
The steps are: values checked, bias field (`bias_correction`), place on the grid of an atlas (`atlas`) or of the first sequence
(`align`), the union of the boxes (`crop`), and then what `volumes.preprocess` does with each volume.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from brainpretrain.files import parse_mapping
from brainpretrain.preprocess import atlases, sitk
from brainpretrain.preprocess.alignment import Alignment, align, bring, on_same_grid, rows
from brainpretrain.preprocess.geometry import Geometry, Source, to_ras
from brainpretrain.preprocess.headers import BadVolume, Limits, require_same_grid
from brainpretrain.preprocess.nifti import Volume, read_volume
from brainpretrain.preprocess.recipes import option
from brainpretrain.preprocess.resampling import CUBIC, NEAREST
from brainpretrain.preprocess.volumes import checked, foreground_box, preprocess

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Prepared:
    """One volume as it is stored.

    Attributes:
        image: (x, y, z) float32 in [0, 1].
        label: (x, y, z) with the values of the file, or None.
        geometry: the same for all volumes of a session.
        facts: of `volumes.preprocess`.
        alignment: how it was brought onto the grid of the session or of an atlas; None if it is on that grid itself.
    """

    image: np.ndarray
    label: np.ndarray | None
    geometry: Geometry
    facts: dict[str, Any]
    alignment: Alignment | None


class OfSession(BadVolume):
    """The error of one volume of several. `number`: its place among them."""

    def __init__(self, error: BadVolume, number: int) -> None:
        super().__init__(error.problem, reason=error.reason, where=error.where, fix=error.fix)
        self.number = number


def grouped(index: Iterable[dict[str, Any]], recipe: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """Index rows in groups that are prepared together; the first row of a group is the one whose grid they get.

    Args:
        index: rows with volume, subject, session and sequence.
        recipe: without `session`, every row is a group.
    """
    order = {sequence: number for number, sequence in enumerate(option(recipe, "session"))}
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in index:
        together = row["sequence"] in order
        key = (row["subject"], row["session"]) if together else ("", "", row["volume"])
        groups.setdefault(key, []).append(row)
    for group in groups.values():
        group.sort(key=lambda row: (order.get(row["sequence"], 0), row["volume"]))
    return list(groups.values())


def read(root: Path, group: Sequence[Row], recipe: Mapping[str, Any]) -> list[tuple[Volume, Volume | None]]:
    """Image and label of each row.

    Raises:
        OfSession: as `nifti.read_volume`.
    """
    limits, pairs = Limits.of(recipe), []
    for number, row in enumerate(group):
        channel = str(row.get("channel", ""))
        with _of(number):
            volume = read_volume(root / row["path"], limits=limits, channel=int(channel) if channel else None)
            pairs.append((volume, read_volume(root / row["label"], limits=limits) if row["label"] else None))
    return pairs


def prepare(
    pairs: Sequence[tuple[Volume, Volume | None]], recipe: Mapping[str, Any], names: Sequence[str] = ()
) -> list[Prepared]:
    """Prepares the volumes of one session, or one volume.

    Args:
        pairs: image and label, the first sequence first; a label is on the grid of its image.
        recipe: of preprocessing.
        names: of the volumes, for messages and tables; by default their files.

    Returns:
        One entry per volume, all on one stored grid.

    Raises:
        OfSession: reasons of `volumes`, `alignment` and `atlases`.
    """
    names = names or [volume.path.name for volume, _ in pairs]
    images = []
    for number, (volume, _) in enumerate(pairs):
        with _of(number):
            images.append(_corrected(volume, recipe))
    frame, places = _places(images, recipe, names)
    moved = []
    for number, (image, (_, label), place) in enumerate(zip(images, pairs, places, strict=True)):
        with _of(number):
            moved.append(_on_frame(image, label, frame, place, recipe))
    box = _common_box([image for image, _ in moved]) if len(moved) > 1 and recipe["crop"] == "nonzero" else None
    source = _source(places[0]) if option(recipe, "atlas") else None
    prepared = []
    for number, ((image, label), place) in enumerate(zip(moved, places, strict=True)):
        with _of(number):
            array, stored, geometry, facts = preprocess(image, label, recipe, box)
        own = {"native_spacing_mm": pairs[number][0].spacing_mm}
        prepared.append(Prepared(array, stored, replace(geometry, source=source), facts | own, place))
    return prepared


def own_grid(row: Row) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of the raw file of a stored volume."""
    if place := alignment_of(row):
        return place.shape, np.array(place.affine)
    geometry = Geometry.from_json(row["geometry"])
    return geometry.native_shape, np.array(geometry.native_affine)


def alignment_of(row: Row) -> Alignment | None:
    """How a stored volume was aligned; None if it was not."""
    text = row.get("alignment", "")
    return Alignment.from_dict(parse_mapping(text)) if text else None


def on_written_grid(label: Volume, row: Row) -> Volume:
    """A raw label on the grid that predictions of its case are written on, which is the grid of the first sequence.

    Args:
        label: as read, on the grid of its own image.
        row: the stored volume of this image.
    """
    geometry, place = Geometry.from_json(row["geometry"]), alignment_of(row)
    if place is None or (geometry.source and geometry.source.affine == place.affine):
        return label
    written = geometry.source or Source(geometry.native_shape, geometry.native_affine, rows(np.eye(4)))
    affine = np.array(written.affine)
    spacing_mm = tuple(round(float(n), 6) for n in np.linalg.norm(affine[:3, :3], axis=0))
    frame = replace(label, array=np.broadcast_to(np.uint8(0), written.shape), affine=affine, spacing_mm=spacing_mm)
    return bring(label, frame, np.array(place.matrix) @ np.linalg.inv(np.array(written.matrix)), NEAREST, antialias=False)


# ------------------------------------------------------------------------------------------------ helpers


@contextmanager
def _of(number: int) -> Iterator[None]:
    """Errors of this block are about the volume `number`."""
    try:
        yield
    except BadVolume as error:
        raise OfSession(error, number) from error


def _corrected(volume: Volume, recipe: Mapping[str, Any]) -> Volume:
    """The volume with its values checked and its bias field removed, as the recipe says."""
    if not (option(recipe, "bias_correction") or option(recipe, "align") or option(recipe, "atlas")):
        return volume
    volume = checked(volume, recipe)
    if not option(recipe, "bias_correction"):
        return volume
    try:
        with sitk.one_thread():
            array = sitk.n4(volume.array, volume.spacing_mm, option(recipe, "n4_shrink"), option(recipe, "n4_iterations"))
    except RuntimeError as error:
        problem = f"N4 failed: {str(error).strip().splitlines()[-1]}"
        raise BadVolume(problem, reason="bias", where=volume.path, fix="leave it out, or correct it yourself") from error
    return replace(volume, array=array)


def _places(images: Sequence[Volume], recipe: Mapping[str, Any], names: Sequence[str]) -> tuple[Volume, list[Alignment | None]]:
    """The volume whose grid all get, and how each is brought there; None for those that are on it."""
    first, places, least = images[0], [], option(recipe, "min_covered")
    atlas = atlases.load(option(recipe, "atlas")) if option(recipe, "atlas") else None
    with _of(0):
        placed = align(atlas.volume, first, "affine", least, atlas.name, of_atlas=True) if atlas else None
    places.append(placed)
    for number, other in enumerate(images[1:], start=1):
        place = None
        if not on_same_grid(first, other):
            with _of(number):
                place = align(first, other, option(recipe, "align"), least, names[0])
        if placed:  # by the first sequence onto the atlas, in one step
            matrix = np.array(place.matrix) @ np.array(placed.matrix) if place else np.array(placed.matrix)
            own = {"matrix": rows(matrix), "shape": other.shape, "affine": rows(other.affine), "checksum": placed.checksum}
            place = replace(place or placed, **own)
        places.append(place)
    return (atlas.volume if atlas else first), places


def _on_frame(
    image: Volume, label: Volume | None, frame: Volume, place: Alignment | None, recipe: Mapping[str, Any]
) -> tuple[Volume, Volume | None]:
    """Image and label on the grid of the frame."""
    if place is None:
        return image, label
    matrix = np.array(place.matrix)
    words = f"{place.method} alignment to {place.to}, {100 * place.covered:.1f} % of its foreground covered"
    moved = bring(image, frame, matrix, CUBIC, recipe["antialias"])
    moved = replace(moved, facts=moved.facts | {"notes": [*moved.facts["notes"], words]})
    if label is None:
        return moved, None
    require_same_grid(image, label, label.path)
    return moved, bring(label, frame, matrix, NEAREST, antialias=False)


def _common_box(volumes: Iterable[Volume]) -> tuple[slice, ...] | None:
    """The box around the voxels above 0 of all volumes, in RAS; None if there is none."""
    boxes = [foreground_box(to_ras(volume.array, volume.affine)[0]) for volume in volumes]
    sides = list(zip(*(box for box in boxes if box), strict=True))
    return tuple(slice(min(s.start for s in side), max(s.stop for s in side)) for side in sides) or None


def _source(place: Alignment | None) -> Source | None:
    return Source(place.shape, place.affine, place.matrix) if place else None

"""Is this image the same as that one, whatever their names: a fingerprint of each stored volume, and the search for equal ones.

A fingerprint is a digest of the stored voxels, equal for equal images only, and a unit vector that a copy keeps almost: the
foreground brought to 24^3 cells, less the mean of the cells around, so that the anatomy counts and not the outline. Two
volumes correlate by the product of their vectors. What a copy may have gone through, and how near different subjects come,
is measured in docs/audit.md.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from brainpretrain.errors import UserError
from brainpretrain.files import atomic
from brainpretrain.preprocess import frames

REVISION = 1  # raise it when the same image gives another fingerprint
SIDE = 24  # cells per axis; even, since mirroring folds the first axis
SURROUNDINGS = 2  # cells to either side that a cell is compared with
FOREGROUND = 0.1  # of the stored intensity, which ends at the bright end of the volume
TRIMMED = 0.03  # of the foreground beyond each face of the box: a crop by a voxel or two moves it little
PAIR_COLUMNS = ["volume", "corpus_volume", "how", "correlation"]
_ROWS = 1024  # of a product: bounds its memory


@dataclass(frozen=True)
class Fingerprints:
    """Those of several volumes of one data set.

    Attributes:
        volumes: their names.
        digests: sha256 of shape and stored voxels.
        vectors: (n, SIDE**3) float16, each of length 1, or 0 where an image has no contrast.
    """

    volumes: list[str]
    digests: list[str]
    vectors: np.ndarray

    def of(self, volumes: Iterable[str]) -> Fingerprints:
        """Those of `volumes`, as far as there are any."""
        wanted = set(volumes)
        rows = [i for i, volume in enumerate(self.volumes) if volume in wanted]
        return Fingerprints([self.volumes[i] for i in rows], [self.digests[i] for i in rows], self.vectors[rows])


def digest(image: np.ndarray) -> str:
    """sha256 of shape and voxels."""
    found = hashlib.sha256(f"{image.dtype} {image.shape}".encode())
    found.update(np.ascontiguousarray(image).data)
    return found.hexdigest()


def vector(image: np.ndarray) -> np.ndarray:
    """The vector of one stored image.

    Args:
        image: (x, y, z) RAS, in [0, 1].

    Returns:
        (SIDE**3,) float32 of length 1, the part that is even along x before the part that is odd; 0 where nothing is
        brighter than FOREGROUND or all of it is equal.
    """
    mask = image > FOREGROUND
    if not mask.any():
        return np.zeros(SIDE**3, np.float32)
    profiles = [mask.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    cells = _along_axes(image.astype(np.float32), [_to_cells(profile) for profile in profiles])
    apart = cells - _along_axes(cells, [_surroundings()] * 3)
    apart -= apart.mean()
    length = np.linalg.norm(apart)
    return _folded(apart / length) if length > 1e-6 else np.zeros(SIDE**3, np.float32)


def _folded(cells: np.ndarray) -> np.ndarray:
    """Cells as a vector of the same length in which a mirror image has the opposite sign in the second half."""
    left, right = cells[: SIDE // 2], cells[: SIDE // 2 - 1 : -1]
    return np.concatenate([(left + right).ravel(), (left - right).ravel()]) * np.float32(math.sqrt(0.5))


def _to_cells(profile: np.ndarray) -> np.ndarray:
    """(SIDE, n): the mean over the voxels of each cell of an axis; cells divide the box of the foreground evenly."""
    share = np.concatenate([[0.0], np.cumsum(profile)]) / profile.sum()
    low, high = np.interp([TRIMMED, 1 - TRIMMED], share, np.arange(len(share)))
    edges, voxels = np.linspace(low, high, SIDE + 1), np.arange(len(profile))
    covered = np.minimum(edges[1:, None], voxels + 1) - np.maximum(edges[:-1, None], voxels)
    covered = np.clip(covered, 0, None)
    return (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)


def _surroundings() -> np.ndarray:
    """(SIDE, SIDE): the mean of a cell and its neighbours along an axis; at the ends the last cell is repeated."""
    around = np.arange(SIDE)[:, None] + np.arange(-SURROUNDINGS, SURROUNDINGS + 1)
    counted = np.clip(around, 0, SIDE - 1)[:, :, None] == np.arange(SIDE)
    return counted.mean(axis=1, dtype=np.float32)


def _along_axes(array: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Each axis of `array` through its matrix."""
    for matrix in matrices:  # each product takes the first axis away and adds the new one at the end
        array = np.tensordot(array, matrix, axes=(0, 1))
    return array


# ------------------------------------------------------------------------------------------------ files


def build(table: pd.DataFrame, folder: Path | str, progress: Callable[[int, int], None] | None = None) -> Fingerprints:
    """Those of the accepted ones of stored volumes, sorted by name.

    Args:
        table: rows of the stored volumes of a data set; `file` is relative to `folder`.

    Raises:
        UserError: a stored volume is missing or damaged.
    """
    rows = table[table["status"] == "ok"].sort_values("volume").to_dict("records")
    digests, vectors = [], np.zeros((len(rows), SIDE**3), np.float16)
    for number, row in enumerate(rows):
        image = frames.load(folder, row)
        digests.append(digest(image))
        vectors[number] = vector(image)
        if progress:
            progress(number + 1, len(rows))
    return Fingerprints([row["volume"] for row in rows], digests, vectors)


def write(path: Path | str, found: Fingerprints) -> None:
    """Writes an .npz, atomically; equal fingerprints give equal bytes."""
    with atomic(path) as temporary, open(temporary, "wb") as stream:
        texts = {"volumes": np.array(found.volumes, dtype=np.str_), "digests": np.array(found.digests, dtype=np.str_)}
        np.savez(stream, revision=np.array(REVISION), vectors=found.vectors, **texts)


def read(path: Path | str) -> Fingerprints:
    """Reads what `write` wrote.

    Raises:
        UserError: the file is missing, no such file, or of another revision.
    """
    again = "delete it and run the step 'fingerprint' again"
    try:
        with np.load(path, allow_pickle=False) as content:
            if int(content["revision"]) != REVISION:
                raise UserError(f"fingerprints of revision {int(content['revision'])}, not {REVISION}", where=path, fix=again)
            return Fingerprints(content["volumes"].tolist(), content["digests"].tolist(), content["vectors"])
    except FileNotFoundError as error:
        raise UserError("file not found", where=path, fix="run the step 'fingerprint'") from error
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f"no fingerprints: {error}", where=path, fix=again) from error


# ------------------------------------------------------------------------------------------------ search


def copies(cohort: Fingerprints, corpus: Fingerprints, near: float) -> pd.DataFrame:
    """Pairs of volumes that show the same image.

    Args:
        near: correlation from which two volumes count as one image, in (0, 1].

    Returns:
        PAIR_COLUMNS, a row per pair: `how` is 'exact' (equal voxels), 'near', or 'mirrored' (near, with left and right
        swapped).
    """
    by_digest: dict[str, list[int]] = {}
    for number, found in enumerate(corpus.digests):
        by_digest.setdefault(found, []).append(number)
    exact = {(i, j) for i, found in enumerate(cohort.digests) for j in by_digest.get(found, [])}
    pairs = [(i, j, "exact", 1.0) for i, j in exact]
    pairs += [pair for pair in _near(cohort.vectors, corpus.vectors, near) if pair[:2] not in exact]
    named = [(cohort.volumes[i], corpus.volumes[j], how, round(c, 4)) for i, j, how, c in sorted(pairs)]
    return pd.DataFrame(named, columns=PAIR_COLUMNS)


def _near(cohort: np.ndarray, corpus: np.ndarray, near: float) -> list[tuple[int, int, str, float]]:
    """Numbers of cohort and corpus, how, and the correlation.

    The halves of the vectors are multiplied apart: their sum tells of the image, their difference of its mirror image.
    """
    found: list[tuple[int, int, str, float]] = []
    even, odd = np.split(cohort.astype(np.float32), 2, axis=1)
    for start in range(0, len(corpus), _ROWS):
        corpus_even, corpus_odd = np.split(corpus[start : start + _ROWS].astype(np.float32), 2, axis=1)
        same, other = even @ corpus_even.T, odd @ corpus_odd.T
        rows, columns = np.nonzero(same + np.abs(other) >= near)
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
            how = "near" if other[i, j] >= 0 else "mirrored"
            found.append((i, start + j, how, min(1.0, float(same[i, j] + abs(other[i, j])))))
    return found

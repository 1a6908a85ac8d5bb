"""Fingerprints of stored volumes, and the search for volumes that show the same image, whatever their names.

A fingerprint is a digest of the stored voxels, which only equal images share, and two unit vectors, which hardly change in
a copy:

- `vectors`: the foreground averaged in 24^3 cells, minus the mean of the surrounding cells, so that the anatomy counts and not
  the outline of the head. It needs no brain, and costs little.
- `brains`: the brain after alignment to a template (`likeness.vector`). It lists the candidates that `likeness` compares: copies
  may have been cropped, turned, stripped, defaced or brought to a template.

The correlation of two volumes is the product of their vectors. docs/cohorts.md has measurements of altered copies and of
different subjects.
"""

from __future__ import annotations

import hashlib
import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from brainpretrain.cohorts import likeness
from brainpretrain.cohorts.revision import FINGERPRINTS as REVISION
from brainpretrain.errors import UserError
from brainpretrain.files import atomic
from brainpretrain.preprocess import frames

SIDE = 24  # cells per axis; even, since the first axis is folded at its middle
SURROUNDINGS = 2  # cells to either side whose mean is subtracted
FOREGROUND = 0.1  # in stored intensity, 0..1
TRIMMED = 0.03  # share of the foreground beyond each face of the box, so that a crop by a few voxels hardly moves it
PAIR_COLUMNS = ["volume", "corpus_volume", "how", "correlation"]
CANDIDATES = 8  # volumes of the corpus per volume of a cohort that are compared with it
LEAST = 0.35  # correlation of aligned brains below which they are no candidates
_ROWS = 1024  # of a matrix product, to limit its memory
ARRAYS = ("vectors", "brains", "maps", "shares")


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of n volumes of one data set.

    Attributes:
        volumes: names of the volumes.
        digests: sha256 of shape and stored voxels.
        vectors: (n, SIDE**3) float16, each of length 1, or 0 for an image without contrast.
        brains: (n, `likeness.length()`) float16, each of length 1, or 0 for an image that is smaller than a brain.
        maps: (n, 3, 4) float32, from the template to each image; see `alignment.align`.
        shares: (n,) float32, of variance explained by the template: how well an alignment fits.
    """

    volumes: list[str]
    digests: list[str]
    vectors: np.ndarray
    brains: np.ndarray
    maps: np.ndarray
    shares: np.ndarray

    @property
    def without_brain(self) -> int:
        """Number of volumes in which no whole brain was found; these are compared by digest and outline only."""
        return int((~self.brains.any(axis=1)).sum())

    def of(self, volumes: Iterable[str]) -> Fingerprints:
        """Fingerprints of the given volumes; missing ones are skipped."""
        names = set(volumes)
        rows = [i for i, volume in enumerate(self.volumes) if volume in names]
        arrays = {name: getattr(self, name)[rows] for name in ARRAYS}
        return Fingerprints([self.volumes[i] for i in rows], [self.digests[i] for i in rows], **arrays)


def digest(image: np.ndarray) -> str:
    """sha256 of shape and voxels."""
    state = hashlib.sha256(f"{image.dtype} {image.shape}".encode())
    state.update(np.ascontiguousarray(image).data)
    return state.hexdigest()


def vector(image: np.ndarray) -> np.ndarray:
    """The vector of one stored image.

    Args:
        image: (x, y, z) RAS, in [0, 1].

    Returns:
        (SIDE**3,) float32 of length 1: first the part that is even along x, then the odd part. All 0 if no voxel is
        brighter than FOREGROUND or the cells do not differ.
    """
    mask = image > FOREGROUND
    if not mask.any():
        return np.zeros(SIDE**3, np.float32)
    profiles = [mask.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    cells = _along_axes(image.astype(np.float32), [_to_cells(profile) for profile in profiles])
    contrast = cells - _along_axes(cells, [_surroundings()] * 3)
    contrast -= contrast.mean()
    length = np.linalg.norm(contrast)
    return _folded(contrast / length) if length > 1e-6 else np.zeros(SIDE**3, np.float32)


def _folded(cells: np.ndarray) -> np.ndarray:
    """Cells as a vector of equal norm; for the mirror image, the second half of it has the opposite sign."""
    left, right = cells[: SIDE // 2], cells[: SIDE // 2 - 1 : -1]
    return np.concatenate([(left + right).ravel(), (left - right).ravel()]) * np.float32(math.sqrt(0.5))


def _to_cells(profile: np.ndarray) -> np.ndarray:
    """(SIDE, n): averages the n voxels along an axis in cells, which divide the box of the foreground evenly.

    Args:
        profile: number of foreground voxels in each slice along the axis.
    """
    share = np.concatenate([[0.0], np.cumsum(profile)]) / profile.sum()
    low, high = np.interp([TRIMMED, 1 - TRIMMED], share, np.arange(len(share)))
    edges, voxels = np.linspace(low, high, SIDE + 1), np.arange(len(profile))
    covered = np.minimum(edges[1:, None], voxels + 1) - np.maximum(edges[:-1, None], voxels)
    covered = np.clip(covered, 0, None)
    return (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)


def _surroundings() -> np.ndarray:
    """(SIDE, SIDE): averages a cell and its neighbours along an axis; beyond the ends the last cell is repeated."""
    around = np.arange(SIDE)[:, None] + np.arange(-SURROUNDINGS, SURROUNDINGS + 1)
    members = np.clip(around, 0, SIDE - 1)[:, :, None] == np.arange(SIDE)
    return members.mean(axis=1, dtype=np.float32)


def _along_axes(array: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Multiplies each axis of `array` by its matrix."""
    for matrix in matrices:  # each product removes the first axis and appends the new one
        array = np.tensordot(array, matrix, axes=(0, 1))
    return array


# ------------------------------------------------------------------------------------------------ files


def build(
    table: pd.DataFrame, folder: Path | str, progress: Callable[[int, int], None] | None = None, workers: int = 1
) -> Fingerprints:
    """Fingerprints of the accepted volumes of a data set, sorted by name; the result does not depend on `workers`.

    Args:
        table: the stored volumes of the data set; `file` is relative to `folder`.
        progress: called with (done, total).
        workers: number of processes.

    Raises:
        UserError: a stored volume is missing or damaged.
    """
    rows: list[Any] = table[table["status"] == "ok"].sort_values("volume").to_dict("records")
    found = []
    with _mapper(workers) as run:
        for number, one in enumerate(run(partial(_of_row, folder), rows), start=1):
            found.append(one)
            if progress:
                progress(number, len(rows))
    digests, vectors, brains, maps, shares = zip(*found, strict=True) if found else ((),) * 5
    return Fingerprints(
        [row["volume"] for row in rows],
        list(digests),
        np.array(vectors, np.float16).reshape(-1, SIDE**3),
        np.array(brains, np.float16).reshape(-1, likeness.length()),
        np.array(maps, np.float32).reshape(-1, 3, 4),
        np.array(shares, np.float32),
    )


def _of_row(folder: Path | str, row: Mapping[str, Any]) -> tuple[str, np.ndarray, np.ndarray, np.ndarray, float]:
    """Digest, both vectors, map and share of one stored volume."""
    image, spacing_mm = frames.load(folder, row), spacing_of(row)
    with threadpool_limits(1):  # the sums of several threads differ in their last digits
        found = likeness.brain_of(image, spacing_mm)
        return digest(image), vector(image).astype(np.float16), found.vector.astype(np.float16), found.to_image, found.share


def spacing_of(row: Mapping[str, Any]) -> np.ndarray:
    """(3,) mm: the spacing of a stored volume."""
    return np.array([float(mm) for mm in str(row["spacing_mm"]).split()])


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, or that of a pool of processes."""
    if workers == 1:
        yield map
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield partial(pool.map, chunksize=4)


def write(path: Path | str, fingerprints: Fingerprints) -> None:
    """Writes an .npz, atomically; equal fingerprints give equal bytes."""
    with atomic(path) as temporary, open(temporary, "wb") as stream:
        texts = {name: np.array(getattr(fingerprints, name), dtype=np.str_) for name in ("volumes", "digests")}
        arrays = {name: getattr(fingerprints, name) for name in ARRAYS}
        np.savez(stream, revision=np.array(REVISION), **texts, **arrays)


def read(path: Path | str) -> Fingerprints:
    """Reads a file of `write`.

    Raises:
        UserError: the file is missing, has another content, or is of another revision.
    """
    again = "delete it, and run the workflow again: it writes the file again (the step 'fingerprint')"
    try:
        with np.load(path, allow_pickle=False) as content:
            if int(content["revision"]) != REVISION:
                raise UserError(f"fingerprints of revision {int(content['revision'])}, not {REVISION}", where=path, fix=again)
            arrays = {name: content[name] for name in ARRAYS}
            return Fingerprints(content["volumes"].tolist(), content["digests"].tolist(), **arrays)
    except FileNotFoundError as error:
        raise UserError("file not found", where=path, fix="run the step 'fingerprint'") from error
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f"not a file of fingerprints: {error}", where=path, fix=again) from error


def map_of(path: Path | str, volume: str) -> np.ndarray:
    """(3, 4): the map from the template to one volume of a file of `write`; no other array of the file is read."""
    with np.load(path, allow_pickle=False) as content:
        return content["maps"][content["volumes"].tolist().index(volume)]


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
    for number, corpus_digest in enumerate(corpus.digests):
        by_digest.setdefault(corpus_digest, []).append(number)
    exact = {(i, j) for i, cohort_digest in enumerate(cohort.digests) for j in by_digest.get(cohort_digest, [])}
    pairs = [(i, j, "exact", 1.0) for i, j in exact]
    pairs += [pair for pair in _near(cohort.vectors, corpus.vectors, near) if pair[:2] not in exact]
    named = [(cohort.volumes[i], corpus.volumes[j], how, round(c, 4)) for i, j, how, c in sorted(pairs)]
    return pd.DataFrame(named, columns=PAIR_COLUMNS)


def _near(cohort: np.ndarray, corpus: np.ndarray, near: float) -> list[tuple[int, int, str, float]]:
    """Rows of cohort and corpus, how they match, and their correlation."""
    pairs: list[tuple[int, int, str, float]] = []
    for start, correlation, mirrored in _products(cohort, corpus):
        rows, columns = np.nonzero(correlation >= near)
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
            how = "mirrored" if mirrored[i, j] else "near"
            pairs.append((i, start + j, how, min(1.0, float(correlation[i, j]))))
    return pairs


def candidates(cohort: np.ndarray, corpus: np.ndarray) -> list[tuple[int, int, bool, float]]:
    """The up to CANDIDATES nearest brains of a corpus for each brain of a cohort, if they correlate by LEAST or more.

    Returns:
        Rows of cohort and corpus, whether one is mirrored, and their correlation; sorted.
    """
    kept: list[list[tuple[float, int, bool]]] = [[] for _ in cohort]
    for start, correlation, mirrored in _products(cohort, corpus):
        for i, row in enumerate(correlation):
            nearest = np.argsort(-row, kind="stable")[:CANDIDATES]
            kept[i] += [(-float(row[j]), start + int(j), bool(mirrored[i, j])) for j in nearest if row[j] >= LEAST]
            kept[i] = sorted(kept[i])[:CANDIDATES]
    return [(i, j, flipped, -minus) for i, row in enumerate(kept) for minus, j, flipped in sorted(row, key=lambda pair: pair[1])]


def _products(cohort: np.ndarray, corpus: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """First row of a part of the corpus, correlations (cohort, part) with the nearer of image and mirror image, and which it is.

    The halves of the vectors are multiplied separately: the sum of the two products is the correlation with the image, their
    difference that with its mirror image.
    """
    even, odd = np.split(cohort.astype(np.float32), 2, axis=1)
    for start in range(0, len(corpus), _ROWS):
        corpus_even, corpus_odd = np.split(corpus[start : start + _ROWS].astype(np.float32), 2, axis=1)
        even_product, odd_product = even @ corpus_even.T, odd @ corpus_odd.T
        yield start, even_product + np.abs(odd_product), odd_product < 0

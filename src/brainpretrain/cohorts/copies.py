"""The search for volumes of a corpus that show the image, or the brain, of a volume of a cohort, and pictures of such pairs.

Two levels. `same`: equal voxels, nearly equal images, or brains that agree after alignment. `look`: brains that agree less; a
person should look at the pictures. Fingerprints list candidates, and the stored images decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from brainpretrain.cohorts import fingerprints, likeness
from brainpretrain.cohorts.fingerprints import Fingerprints, spacing_of
from brainpretrain.cohorts.likeness import Aligned, Reference
from brainpretrain.files import atomic
from brainpretrain.preprocess import frames
from brainpretrain.preprocess.stored import read_stored

COLUMNS = [*fingerprints.PAIR_COLUMNS, "level", "corpus_dataset"]
SAME, LOOK = "same", "look"
MAX_PICTURES = 60


@dataclass(frozen=True)
class Volumes:
    """The fingerprints and the stored images of a data set."""

    prints: Fingerprints
    rows: Mapping[str, Mapping[str, Any]]
    folder: Path

    @classmethod
    def of(cls, file: Path | str, volumes: Iterable[str]) -> Volumes:
        """The given volumes of a data set; the table of its stored volumes is in the folder of its fingerprints.

        Raises:
            UserError: fingerprints or table are missing or damaged.
        """
        table, folder = read_stored(Path(file).with_name("volumes.tsv"))
        rows: list[Any] = table[table["status"] == "ok"].to_dict("records")
        return cls(fingerprints.read(file).of(volumes), {row["volume"]: row for row in rows}, folder)

    def aligned(self, volume: str, to_image: np.ndarray) -> Aligned:
        """The stored image of a volume, with its map from the template."""
        return _aligned(self.folder, self.rows[volume], to_image)


@dataclass(frozen=True)
class _Candidate:
    correlation: float
    dataset: str
    volume: str
    mirrored: bool
    to_image: np.ndarray


def in_corpus(
    cohort: Volumes,
    corpus: pd.DataFrame,
    files: Mapping[str, Path | str],
    near: float,
    progress: Callable[[int, int], None] | None = None,
    least: float = likeness.LOOK,
) -> pd.DataFrame:
    """Pairs of a volume of a cohort and a volume of a corpus that show one image or one brain.

    The fingerprints of one data set at a time are in memory. Of brains that correlate as candidates, the CANDIDATES nearest
    of the whole corpus are aligned to the volume and compared.

    Args:
        corpus: data sets and volumes of a corpus.
        files: by data set of the corpus, the file of its fingerprints.
        near: correlation of `vectors` from which two volumes count as one image.
        progress: called with (done, total) volumes whose candidates are compared.
        least: correlation of compared brains from which a pair is listed; below `likeness.LOOK` its level is ''.

    Returns:
        COLUMNS: `how` is 'exact', 'near' or 'mirrored' as in `fingerprints.copies`, or 'brain' or 'brain, mirrored'; `level`
        is SAME or LOOK.

    Raises:
        UserError: a file of fingerprints, a table or a stored volume is missing or damaged.
    """
    parts, sources, candidates = [], {}, {}
    for dataset, path in files.items():
        source = Volumes.of(path, corpus.loc[corpus["dataset"] == dataset, "volume"])
        found = fingerprints.copies(cohort.prints, source.prints, near).assign(level=SAME, corpus_dataset=dataset)
        parts.append(found)
        known = set(zip(found["volume"], found["corpus_volume"], strict=True))
        for i, j, mirrored, correlation in fingerprints.candidates(cohort.prints.brains, source.prints.brains):
            volume, other = cohort.prints.volumes[i], source.prints.volumes[j]
            if (volume, other) not in known:
                candidate = _Candidate(correlation, dataset, other, mirrored, source.prints.maps[j].copy())
                candidates.setdefault(i, []).append(candidate)
        sources[dataset] = Volumes(source.prints.of([]), source.rows, source.folder)
    parts.append(_compared(cohort, candidates, sources, progress or (lambda done, total: None), least))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _compared(
    cohort: Volumes,
    candidates: Mapping[int, list[_Candidate]],
    sources: Mapping[str, Volumes],
    progress: Callable[[int, int], None],
    least: float,
) -> pd.DataFrame:
    """The candidates whose brains agree after alignment to the volume."""
    rows = []
    for done, (i, listed) in enumerate(candidates.items(), start=1):
        volume = cohort.prints.volumes[i]
        nearest = sorted(listed, key=lambda candidate: -candidate.correlation)[: fingerprints.CANDIDATES]
        with threadpool_limits(1):
            reference = Reference(cohort.aligned(volume, cohort.prints.maps[i]))
            for candidate in nearest:
                other = sources[candidate.dataset].aligned(candidate.volume, candidate.to_image)
                correlation, _ = reference.compare(other.mirrored() if candidate.mirrored else other)
                if correlation >= least:
                    how = "brain, mirrored" if candidate.mirrored else "brain"
                    rows.append((volume, candidate.volume, how, round(correlation, 4), level_of(correlation), candidate.dataset))
        progress(done, len(candidates))
    return pd.DataFrame(rows, columns=COLUMNS)


def level_of(correlation: float) -> str:
    """SAME, LOOK, or '' for the correlation of two brains that are aligned to each other."""
    return SAME if correlation >= likeness.SAME else LOOK if correlation >= likeness.LOOK else ""


# ------------------------------------------------------------------------------------------------ pictures


@dataclass(frozen=True)
class Pictures:
    """Slices of pairs, aligned to each other.

    Attributes:
        names: of each pair: volume, data set of the corpus, volume of the corpus.
        slices: (n, 2, 3, side, side) uint8: of both volumes a sagittal, a coronal and an axial slice.
    """

    names: list[tuple[str, str, str]]
    slices: np.ndarray


def pictures(pairs: pd.DataFrame, cohorts: Mapping[tuple[str, str], Path | str], files: Mapping[str, Path | str]) -> Pictures:
    """Slices of the pairs of subjects that images reveal, up to MAX_PICTURES; those that a person should look at come first.

    Args:
        pairs: the second result of `overlap.shared_subjects`.
        cohorts: by task and cohort, the file of the fingerprints of its data set.
        files: by data set of the corpus, the file of its fingerprints.
    """
    shown = pairs[(pairs["volumes"] > 0) & (pairs["name"] == "")]
    shown = shown.drop_duplicates(["volume", "corpus_dataset", "corpus_volume"])
    shown = shown.sort_values("level", kind="stable")[:MAX_PICTURES]  # "look" comes before "same"
    names, slices = [], []
    for row in shown.to_dict("records"):
        one = _one(cohorts[row["task"], row["cohort"]], row["volume"])
        other = _one(files[row["corpus_dataset"]], row["corpus_volume"])
        with threadpool_limits(1):
            other = other.mirrored() if "mirrored" in row["how"] else other
            if one.image.any() and not np.array_equal(one.to_image, np.eye(4)[:3]):
                other = Reference(one).compare(other)[1]
            slices.append(np.stack([likeness.slices(one), likeness.slices(other)]))
        names.append((row["volume"], row["corpus_dataset"], row["corpus_volume"]))
    return Pictures(names, np.array(slices, np.uint8))


def _one(file: Path | str, volume: str) -> Aligned:
    table, folder = read_stored(Path(file).with_name("volumes.tsv"))
    (row,) = table[table["volume"] == volume].to_dict("records")
    return _aligned(folder, row, fingerprints.map_of(file, volume))


def _aligned(folder: Path, row: Mapping[str, Any], to_image: np.ndarray) -> Aligned:
    return Aligned(frames.load(folder, row).astype(np.float32), spacing_of(row), to_image.astype(np.float64))


def write_pictures(path: Path | str, found: Pictures) -> None:
    """Writes an .npz, atomically."""
    with atomic(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, names=np.array(found.names, dtype=np.str_).reshape(-1, 3), slices=found.slices)


def read_pictures(path: Path | str) -> Pictures:
    """Reads a file of `write_pictures`; without pictures if there is no such file, as of an audit by an earlier version."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return Pictures([tuple(row) for row in content["names"].tolist()], content["slices"])
    except FileNotFoundError:
        return Pictures([], np.zeros((0, 2, 3, 1, 1), np.uint8))

"""Fingerprints: what a copy may go through and still be found, and that others are not."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.preprocess.test_shards import RECIPE

import tiny
from brainpretrain.cohorts import fingerprints
from brainpretrain.cohorts.fingerprints import Fingerprints
from brainpretrain.errors import UserError
from brainpretrain.files import read_tsv
from brainpretrain.preprocess import frames
from brainpretrain.preprocess.nifti import Volume, read_volume
from brainpretrain.preprocess.resampling import CUBIC, resize
from brainpretrain.preprocess.volumes import preprocess
from helpers import SHARED

NEAR = 0.85  # as in config/config.yaml


def head(seed: int, shape: tuple[int, int, int] = (60, 70, 56)) -> np.ndarray:
    """An ellipsoid with smooth contents of its own, as a stored volume is: float32 in [0, 1], RAS."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1.1, 1.1, n) for n in shape), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    contents = resize(rng.uniform(0.3, 1, (9, 10, 8)).astype(np.float32), shape, CUBIC)
    return np.where(inside, np.clip(contents, 0.2, 1), 0).astype(np.float32)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(fingerprints.vector(a) @ fingerprints.vector(b))


def test_a_vector_has_length_1_and_an_empty_image_none() -> None:
    assert np.linalg.norm(fingerprints.vector(head(0))) == pytest.approx(1, abs=1e-5)
    for image in (np.zeros((20, 20, 20), np.float32), np.full((20, 20, 20), 0.5, np.float32)):
        assert not fingerprints.vector(image).any()


ALTERED = {
    "rescaled": lambda image: np.clip(0.8 * image + 0.02 * (image > 0), 0, 1),
    "gamma": lambda image: image**1.3,
    "resampled": lambda image: np.clip(resize(image, (46, 54, 43), CUBIC, True), 0, 1),
    "thick slices": lambda image: np.clip(resize(image, (60, 70, 28), CUBIC, True), 0, 1),
    "with air around": lambda image: np.pad(image, ((5, 9), (0, 3), (8, 1))),
    "a voxel less on each side": lambda image: image[4:-4, 4:-4, 4:-4],
    "noise": lambda image: np.clip(image + np.random.default_rng(0).normal(0, 0.03, image.shape) * (image > 0), 0, 1),
}


@pytest.mark.parametrize("what", ALTERED)
def test_a_copy_stays_near(what: str) -> None:
    image = head(0)
    assert correlation(image, ALTERED[what](image).astype(np.float32)) > NEAR


def test_others_are_not_near() -> None:
    assert max(correlation(head(a), head(b)) for a, b in itertools.combinations(range(5), 2)) < 0.7


def some(*images: np.ndarray) -> Fingerprints:
    names = [f"v{number}" for number in range(len(images))]
    vectors = np.stack([fingerprints.vector(image) for image in images]).astype(np.float16)
    n, no_brains = len(images), np.zeros((len(images), 2), np.float16)
    maps, shares = np.zeros((n, 3, 4), np.float32), np.zeros(n, np.float32)
    return Fingerprints(names, [fingerprints.digest(image) for image in images], vectors, no_brains, maps, shares)


def test_copies_are_found_exact_near_and_mirrored() -> None:
    one, two = head(1), head(2)
    cohort = some(one, two, head(3))
    corpus = some(head(4), one, two**1.2, two[::-1], head(5))
    found = fingerprints.copies(cohort, corpus, NEAR).to_dict("records")
    assert [(row["volume"], row["corpus_volume"], row["how"]) for row in found] == [
        ("v0", "v1", "exact"), ("v1", "v2", "near"), ("v1", "v3", "mirrored")]  # fmt: skip
    assert found[0]["correlation"] == 1 and NEAR < found[1]["correlation"] < 1
    assert list(fingerprints.copies(cohort.of([]), corpus, NEAR).columns) == fingerprints.PAIR_COLUMNS
    assert len(fingerprints.copies(cohort.of(["v2"]), corpus, NEAR)) == 0


def test_the_search_is_all_pairs_whatever_the_size_of_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, cohort = some(*(head(seed) for seed in range(7))), some(head(6), head(0), head(9))
    whole = fingerprints.copies(cohort, corpus, 0.0)
    direct = cohort.vectors.astype(np.float32) @ corpus.vectors.astype(np.float32).T
    for row in whole[whole["how"] == "near"].to_dict("records"):
        assert row["correlation"] == pytest.approx(direct[int(row["volume"][1:]), int(row["corpus_volume"][1:])], abs=2e-3)
    monkeypatch.setattr(fingerprints, "_ROWS", 3)
    pd.testing.assert_frame_equal(fingerprints.copies(cohort, corpus, 0.0), whole)


def test_an_image_without_contrast_is_near_to_nothing() -> None:
    flat = some(np.zeros((20, 20, 20), np.float32))
    assert len(fingerprints.copies(flat, some(np.full((16, 16, 16), 0.5, np.float32)), 0.5)) == 0


def test_a_digest_tells_shape_and_type() -> None:
    image = np.zeros((4, 6, 8), np.float16)
    assert len({fingerprints.digest(x) for x in (image, image.reshape(8, 6, 4), image.astype(np.float32))}) == 3
    assert fingerprints.digest(np.asfortranarray(head(0))) == fingerprints.digest(head(0))


def test_files(cohort: tiny.Cohort, tmp_path: Path) -> None:
    table, folder = read_tsv(cohort.table), cohort.folder
    table = pd.concat([table, table[:1].assign(volume="a_rejected_one", status="rejected")])
    counted: list[tuple[int, int]] = []
    found = fingerprints.build(table, folder, lambda done, total: counted.append((done, total)))
    n = len(table) - 1
    assert found.volumes == sorted(table["volume"][:-1]) and counted[-1] == (n, n)
    fingerprints.write(tmp_path / "a.npz", found)
    fingerprints.write(tmp_path / "b.npz", found)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back = fingerprints.read(tmp_path / "a.npz")
    assert (back.volumes, back.digests) == (found.volumes, found.digests)
    for name in fingerprints.ARRAYS:
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
    np.testing.assert_array_equal(fingerprints.map_of(tmp_path / "a.npz", found.volumes[1]), found.maps[1])
    image = frames.load(folder, table[table["volume"] == found.volumes[0]].to_dict("records")[0])
    assert found.digests[0] == fingerprints.digest(image)


def test_what_is_no_fingerprint_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.npz"
    with pytest.raises(UserError, match="run the step 'fingerprint'"):
        fingerprints.read(path)
    path.write_bytes(b"no zip")
    with pytest.raises(UserError, match="not a file of fingerprints"):
        fingerprints.read(path)
    np.savez(path, revision=np.array(1))
    with pytest.raises(UserError, match=r"of revision 1, not 2[\s\S]*delete it, and run the workflow again"):
        fingerprints.read(path)


def altered(volume: Volume, recipe: dict[str, Any]) -> dict[str, np.ndarray]:
    """Stored images of copies of a raw volume: other units, another orientation in the file, another grid, a crop."""
    array = volume.array.astype(np.float32)
    turned = np.eye(4)
    turned[0, 0], turned[0, 3] = -1, array.shape[0] - 1
    coarse = tuple(round(n / 1.3) for n in array.shape)
    grid = np.diag([*(n / m for n, m in zip(array.shape, coarse, strict=True)), 1])
    pairs = {
        "rescaled": (3.7 * array, volume.affine),
        "reoriented": (array[::-1], volume.affine @ turned),
        "resampled": (np.maximum(resize(array, coarse, CUBIC, True), 0), volume.affine @ grid),
        "other spacing in the header": (array, volume.affine @ np.diag([1.05, 1.05, 1.05, 1])),
        "cropped": (array[2:-2, 2:-2, 2:-2], volume.affine),
    }
    return {what: stored(Volume(a, m, tuple(np.linalg.norm(m[:3, :3], axis=0)), volume.path, volume.facts), recipe)
            for what, (a, m) in pairs.items()}  # fmt: skip


def stored(volume: Volume, recipe: dict[str, Any]) -> np.ndarray:
    return preprocess(volume, None, recipe)[0]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not at hand")
@pytest.mark.parametrize("pattern", ["ixi_2mm/*/T1.nii.gz", "oasis_trt20_mindboggle/*/T1_brain.nii.gz"])
def test_the_threshold_parts_copies_from_other_subjects(pattern: str) -> None:
    """The measurement in docs/cohorts.md, in small."""
    recipe = RECIPE | {"spacing_mm": [2.0, 2.0, 2.0]}
    volumes = [read_volume(path) for path in sorted(SHARED.glob(pattern))[:6]]
    vectors = np.stack([fingerprints.vector(stored(volume, recipe)) for volume in volumes])
    others = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    assert others.max() < NEAR - 0.15
    for what, image in altered(volumes[0], recipe).items():
        assert vectors[0] @ fingerprints.vector(image) > NEAR, what

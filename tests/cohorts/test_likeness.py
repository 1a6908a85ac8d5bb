"""The same brain is recognised whatever was done to the image, and another brain is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation
from tests.preprocess.test_shards import RECIPE

from brainpretrain import config
from brainpretrain.cohorts import atlas, copies, fingerprints, likeness
from brainpretrain.cohorts.copies import Volumes
from brainpretrain.cohorts.likeness import Aligned, Reference
from brainpretrain.datasets.phantom import _recipe
from brainpretrain.files import write_tsv
from brainpretrain.preprocess import shards
from brainpretrain.preprocess.synthetic import draw_subject, load_template, render
from helpers import ROOT, SHARED

MM = np.full(3, 3.0)


@dataclass(frozen=True)
class Head:
    """A phantom's head with a T1w contrast, voxels of 3 mm, and the mask of its brain."""

    image: np.ndarray
    brain: np.ndarray


def phantom(seed: int) -> Head:
    options = dict(config.load(ROOT / "config").datasets["phantom"].options)
    options = {key: options[key] for key in ("lesions_per_subject", "anatomy", "grid", "signal")}
    options["anatomy"] = options["anatomy"] | {"head_fraction": 1.0}
    options["grid"] = options["grid"] | {"spacing_mm": (3, 3), "oblique_fraction": 0, "reoriented_fraction": 0}
    recipe, template, rng = _recipe(options, ["T1w"]), load_template(3), np.random.default_rng(seed)
    image, label = render(draw_subject(recipe, template, rng), "T1w", recipe, template, rng)
    array = np.asarray(image.dataobj, np.float32)
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(np.asarray(label.dataobj) > 0, iterations=2))
    return Head(np.clip(array / np.quantile(array[array > 0], 0.99), 0, 1), np.asarray(brain))


def turned(image: np.ndarray, degrees: tuple[float, float, float]) -> np.ndarray:
    """On a grid that is oblique to that of the image."""
    linear = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    middle = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(image, linear, middle - linear @ middle, order=1)


def defaced(head: Head) -> np.ndarray:
    """Without what is before and below the middle of the brain."""
    where = np.argwhere(head.brain)
    y, z = np.indices(head.image.shape)[1:]
    face = (y > where[:, 1].mean()) & (z < where[:, 2].mean()) & ~ndimage.binary_dilation(head.brain, iterations=2)
    return np.where(face, 0, head.image)


COPIES = {
    "oblique": lambda head: turned(head.image, (9, -4, 5)),
    "stripped": lambda head: np.where(head.brain, head.image, 0),
    "defaced": defaced,
    "mirrored, other contrast, cut": lambda head: head.image[::-1, 4:, 10:] ** 0.7,
}


def aligned(image: np.ndarray) -> tuple[likeness.Found, Aligned]:
    found = likeness.brain_of(image, MM)
    return found, Aligned(image, MM, found.to_image)


@pytest.fixture(scope="module")
def heads() -> list[Head]:
    return [phantom(seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def known(heads: list[Head]) -> Iterator[list[tuple[likeness.Found, Aligned]]]:
    yield [aligned(head.image) for head in heads]


@pytest.mark.parametrize("what", COPIES)
def test_a_copy_is_the_same_brain_and_nearer_than_another(what: str, heads: list[Head], known: list) -> None:
    found, image = aligned(COPIES[what](heads[0]).astype(np.float32))
    (mine, reference), (other, _) = known
    halves = np.split(found.vector, 2)
    mirror = "mirrored" in what
    vector = np.concatenate([halves[0], -halves[1]]) if mirror else found.vector
    assert vector @ mine.vector > fingerprints.LEAST and vector @ mine.vector > vector @ other.vector + 0.2
    correlation, moved = Reference(reference).compare(image.mirrored() if mirror else image)
    assert correlation > likeness.SAME and copies.level_of(correlation) == copies.SAME
    one, two = likeness.slices(reference).astype(float), likeness.slices(moved).astype(float)
    middle = (slice(None), slice(25, 60), slice(25, 60))  # the pictures show the same place of both
    assert np.corrcoef(one[middle].ravel(), two[middle].ravel())[0, 1] > 0.8


def test_another_brain_is_not_the_same(known: list) -> None:
    correlation, _ = Reference(known[0][1]).compare(known[1][1])
    assert correlation < likeness.LOOK


def test_an_alignment_is_repeated_exactly_and_a_small_image_has_none(heads: list[Head], known: list) -> None:
    again = likeness.brain_of(heads[0].image, MM)
    np.testing.assert_array_equal(again.to_image, known[0][0].to_image)
    np.testing.assert_array_equal(again.vector, known[0][0].vector)
    assert np.linalg.norm(again.vector) == pytest.approx(1, abs=1e-5) and 0.3 < again.share < 1
    half = heads[0].image[:, heads[0].image.shape[1] // 2 :]
    for image in (heads[0].image[:29], np.zeros((40, 40, 40), np.float32), half):  # 87 mm; nothing; no whole brain
        assert not likeness.brain_of(image, MM).vector.any()


def test_the_points_of_a_brain_are_symmetric() -> None:
    grid = atlas.brain(likeness.VECTOR_MM)
    assert np.array_equal(grid.deep, grid.deep[::-1]) and grid.inside[grid.deep].all()
    points = grid.points(grid.deep)
    assert {tuple(p) for p in points.tolist()} == {(-x, y, z) for x, y, z in points.tolist()}


def test_candidates_are_the_nearest_of_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    corpus = rng.normal(size=(40, 60))
    corpus /= np.linalg.norm(corpus, axis=1, keepdims=True)
    cohort = corpus[[3, 30]] + 0.03 * rng.normal(size=(2, 60))
    cohort[1] = np.concatenate([cohort[1, :30], -cohort[1, 30:]])  # a mirror image
    monkeypatch.setattr(fingerprints, "LEAST", 0.9)
    found = fingerprints.candidates(cohort, corpus)
    assert [pair[:3] for pair in found] == [(0, 3, False), (1, 30, True)]
    monkeypatch.setattr(fingerprints, "LEAST", -1.0)
    whole = fingerprints.candidates(cohort, corpus)
    assert [sum(pair[0] == i for pair in whole) for i in (0, 1)] == [fingerprints.CANDIDATES] * 2
    monkeypatch.setattr(fingerprints, "_ROWS", 7)
    for one, two in zip(fingerprints.candidates(cohort, corpus), whole, strict=True):
        assert one[:3] == two[:3] and one[3] == pytest.approx(two[3], abs=1e-6)


# ------------------------------------------------------------------------------------------------ real people

PEOPLE = {  # of OASIS-1, in two releases under different names
    "oasis_trt20_mindboggle": {"OASIS-TRT-20-04": "OAS1_0101"},
    "oasis_miccai2012": {"1003": "OAS1_0101", "1023": "OAS1_0101", "1000": "OAS1_0061"},
}


@pytest.mark.skipif(not (SHARED / "oasis_miccai2012").is_dir(), reason="the shared data folder is not at hand")
def test_a_person_is_found_in_another_release_of_real_data(tmp_path: Path) -> None:
    """Stored, fingerprinted and compared as by the workflow; the cheap vectors do not find these (docs/cohorts.md)."""
    recipe, columns = RECIPE | {"spacing_mm": [2.0, 2.0, 2.0], "max_voxels": 2 * 10**7}, dict.fromkeys(shards.INDEX_COLUMNS, "")
    for name, people in PEOPLE.items():
        rows = [columns | {"volume": v, "subject": v, "path": f"{name}/{v}/T1_brain.nii.gz"} for v in people]
        table = shards.build(rows, SHARED, tmp_path / name, recipe, 0, 1)
        write_tsv(tmp_path / name / shards.JOINED, table)
        fingerprints.write(tmp_path / name / "fingerprints.npz", fingerprints.build(table, tmp_path / name))
    trt, miccai = (tmp_path / name / "fingerprints.npz" for name in PEOPLE)
    corpus = pd.DataFrame({"dataset": "miccai", "volume": list(PEOPLE["oasis_miccai2012"])})
    found = copies.in_corpus(Volumes.of(trt, ["OASIS-TRT-20-04"]), corpus, {"miccai": miccai}, near=0.85)
    assert sorted(zip(found["corpus_volume"], found["how"], found["level"], strict=True)) == [
        ("1003", "brain", "same"), ("1023", "brain", "same")]  # fmt: skip
    pairs = found.assign(task="t", cohort="test", name="", volumes=1)
    shown = copies.pictures(pairs, {("t", "test"): trt}, {"miccai": miccai})
    assert shown.slices.shape == (2, 2, 3, 88, 88) and {names[2] for names in shown.names} == {"1003", "1023"}
    copies.write_pictures(tmp_path / "p.npz", shown)
    np.testing.assert_array_equal(copies.read_pictures(tmp_path / "p.npz").slices, shown.slices)
    assert copies.read_pictures(tmp_path / "none.npz").names == []

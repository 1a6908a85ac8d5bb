"""Volumes in the space of an atlas, and volumes without their bias field."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import pairs
from brainpretrain import cli
from brainpretrain.cohorts.cases import labelled_cases
from brainpretrain.evaluation.images import prepare
from brainpretrain.files import read_tsv
from brainpretrain.preprocess import atlases, nifti, sessions, sitk
from brainpretrain.preprocess.geometry import Geometry
from helpers import SHARED

SHAPE = (30, 32, 26)
MOTION = pairs.moved((6, -5, 8), (4, -3, 2))


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The head of `pairs` in the contrast of its DWI, on a grid of its own."""
    affine = pairs.grid((28, 30, 24), (2, 2, 2))
    path = tmp_path_factory.mktemp("atlas") / "atlas.nii.gz"
    nib.save(nib.Nifti1Image(pairs.head((28, 30, 24), affine, np.eye(4), 0)[0], affine), path)
    return path


@pytest.fixture(scope="module")
def stored(atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Raw files, table and recipe: a session in the space of the atlas, its DWI turned against it, its FLAIR against that."""
    folder = tmp_path_factory.mktemp("session")
    rows = pairs.write(folder / "raw", "s1", pairs.moved((0, 0, 0), (2, 1, 0)))
    for row in rows:  # the whole session is turned against the atlas
        for name in filter(None, (row["path"], row["label"])):
            image = nib.load(folder / "raw" / name)
            nib.save(nib.Nifti1Image(np.asarray(image.dataobj), MOTION @ image.affine), folder / "raw" / name)
    recipe = pairs.RECIPE | {"session": ["DWI", "FLAIR"], "align": "rigid", "atlas": str(atlas)}
    return folder / "raw", pairs.store(folder / "raw", rows, folder, recipe), recipe


def test_a_session_is_stored_in_the_space_of_the_atlas(stored: Any, atlas: Path) -> None:
    raw, table, recipe = stored
    rows = read_tsv(table)
    assert rows["status"].tolist() == ["ok", "ok"] and rows["geometry"].nunique() == 1
    assert rows["aligned_to"].tolist() == ["atlas.nii.gz", "s1_DWI.nii.gz"]
    geometry = Geometry.from_json(rows["geometry"][0])
    space = nib.load(atlas)
    assert geometry.native_shape == space.shape and np.array_equal(geometry.native_affine, space.affine)
    assert geometry.source.shape == SHAPE and sessions.own_grid(rows.loc[1])[0] == (56, 60, 14)
    (case,) = labelled_cases(rows, table.parent, ["DWI", "FLAIR"])["s1"]
    facts = {"task": {"sequences": ["DWI", "FLAIR"]}, "preprocess": recipe}
    image, same, *_ = prepare([raw / "s1_DWI.nii.gz", raw / "s1_FLAIR.nii.gz"], facts)
    np.testing.assert_array_equal(image, case.image())
    assert same == geometry
    # the lesion of the atlas's head is where the stored label has it
    at = geometry.stored_to_world(np.argwhere(case.label(np.arange(256, dtype=np.uint8)) == 1))
    assert np.linalg.norm(at.mean(axis=0) - pairs.LESION[0]) < 1


def test_a_header_that_places_a_volume_far_off_does_not_keep_it_from_its_atlas(atlas: Path) -> None:
    """As releases of OASIS do, whose volumes begin at the origin: by the headers nothing overlaps."""
    fixed = nifti.read_volume(atlas)
    away = np.eye(4)
    away[:3, 3] = [500, -300, 200]
    moving = replace(fixed, affine=away @ fixed.affine)
    matrix, metric, before = sitk.register(fixed, moving, "rigid", of_atlas=True)
    corners = np.array([[-20, -20, -20, 1], [20, 20, 20, 1]]).T
    assert np.abs((matrix - away) @ corners).max() < 1 and metric < 0 and before is None


def test_labels_and_logits_return_to_the_grid_of_the_image(stored: Any) -> None:
    raw, table, _ = stored
    rows = read_tsv(table)
    (case,) = labelled_cases(rows, table.parent, ["DWI", "FLAIR"])["s1"]
    geometry = Geometry.from_json(rows["geometry"][0])
    label = case.label(np.arange(256, dtype=np.uint8))
    wanted = np.asarray(nib.load(raw / "s1_lesion.nii.gz").dataobj) > 0
    logits = np.stack([np.where(label == 1, -1, 1), np.where(label == 1, 1, -1)]).astype(np.float32)
    for back in (geometry.labels_to_native(label), geometry.argmax_to_native(logits)):
        assert back.shape == SHAPE and 2 * np.count_nonzero(wanted & (back > 0)) / (wanted.sum() + np.count_nonzero(back)) > 0.8
    noise = np.random.default_rng(0).normal(size=(3, *geometry.stored_shape)).astype(np.float32)
    np.testing.assert_array_equal(geometry.argmax_to_native(noise), geometry.to_native(noise).argmax(0))
    assert geometry.to_native(noise)[:, 0, 0, 0].argmax() == 0  # background where the atlas does not reach


def test_a_model_in_an_atlas_predicts_raw_files_as_the_workflow_and_no_other_atlas(
    stored: Any, atlas: Path, tmp_path: Path
) -> None:
    raw, table, recipe = stored
    scores = pairs.score(raw, table, tmp_path, recipe, ["DWI", "FLAIR"], ["s1"])
    assert scores["dice"].notna().all()
    images = [raw / "s1_DWI.nii.gz", raw / "s1_FLAIR.nii.gz"]
    predicted = nib.load(tmp_path / "predictions/s1.nii.gz")
    assert np.allclose(predicted.affine, nib.load(images[0]).affine)
    np.testing.assert_array_equal(pairs.predicted_raw(tmp_path, images), np.asarray(predicted.dataobj))
    whole = atlas.read_bytes()
    image = nib.load(atlas)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine), atlas)
    atlases.load.cache_clear()
    try:
        with pytest.raises(cli.UserError, match="this is not the atlas that the model was trained in"):
            prepare(images, cli_facts(tmp_path))
    finally:
        atlas.write_bytes(whole)
        atlases.load.cache_clear()


def cli_facts(root: Path) -> dict[str, Any]:
    from brainpretrain.files import read_json

    return read_json(root / "model/model.json")


def test_the_atlas_that_comes_along_and_one_that_does_not() -> None:
    shipped = atlases.load("icbm152")
    assert shipped.volume.shape == (197, 233, 189) and shipped.name == "icbm152"
    with pytest.raises(cli.UserError, match=r"the atlas cannot be used: file not found[\s\S]*no/such.nii[\s\S]*icbm152"):
        atlases.load("no/such.nii")


def test_n4_removes_a_bias_field() -> None:
    affine = pairs.grid(SHAPE, (2, 2, 2))
    clean, _ = pairs.head(SHAPE, affine, np.eye(4), 0)
    x = np.linspace(-1, 1, SHAPE[0])[:, None, None]
    biased = clean * np.exp(0.5 * x + 0.2 * x**2).astype(np.float32)
    with sitk.one_thread():
        corrected = sitk.n4(biased, (2, 2, 2), 2, [50, 50])
        again = sitk.n4(biased, (2, 2, 2), 2, [50, 50])
    np.testing.assert_array_equal(corrected, again)
    head = clean > 0
    spread = [float(np.std(np.log(array[head] / clean[head]))) for array in (biased, corrected)]
    assert spread[1] < spread[0] / 2
    assert np.array_equal(corrected > 0, head)


def test_bias_correction_is_the_same_in_shard_and_predict(tmp_path: Path) -> None:
    rows = pairs.write(tmp_path / "raw", "s1", np.eye(4))[:1]
    recipe = pairs.RECIPE | {"bias_correction": "n4", "n4_shrink": 2, "n4_iterations": [20, 20]}
    table = pairs.store(tmp_path / "raw", rows, tmp_path, recipe)
    (case,) = labelled_cases(read_tsv(table), table.parent, ["DWI"])["s1"]
    facts = {"task": {"sequences": ["DWI"]}, "preprocess": recipe}
    np.testing.assert_array_equal(prepare([tmp_path / "raw/s1_DWI.nii.gz"], facts)[0], case.image())
    plain = prepare([tmp_path / "raw/s1_DWI.nii.gz"], facts | {"preprocess": pairs.RECIPE})[0]
    assert plain.shape == case.image().shape and not np.array_equal(plain, case.image())


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not at hand")
def test_a_real_brain_is_brought_to_icbm152_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sitk, "WORKING_MM", 4.0)  # an eighth of the voxels
    volume = nifti.read_volume(SHARED / "isles22/docker_case_A/FLAIR.nii.gz")
    (own,) = sessions.prepare([(volume, None)], pairs.RECIPE | {"spacing_mm": [3, 3, 3], "atlas": "icbm152"})
    assert own.alignment.covered > 0.9 and own.alignment.metric < own.alignment.metric_before
    brain = atlases.load("icbm152").volume
    inside = own.geometry.world_to_stored(np.argwhere(brain.array > 100) @ brain.affine[:3, :3].T + brain.affine[:3, 3])
    assert (np.round(inside) >= 0).mean() > 0.95
    back = own.geometry.labels_to_native((own.image > 0.3).astype(np.uint8)).astype(bool)
    foreground = volume.array > 0.3 * np.quantile(volume.array[volume.array > 0], 0.99)
    assert back.shape == volume.shape and 2 * (back & foreground).sum() / (back.sum() + foreground.sum()) > 0.9

"""`init`: from a folder to a study that the workflow takes, whatever the form of the folder."""

import json

import nibabel as nib
import numpy as np
import pytest
import yaml

import own_data
import workflow_fixture
from brainpretrain import cli, config
from brainpretrain.errors import UserError
from brainpretrain.plan import proposal, tables
from helpers import ROOT


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return workflow_fixture.copy(tmp_path_factory.mktemp("first")).root


@pytest.fixture
def root(repository, monkeypatch):
    monkeypatch.chdir(repository)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    before = set((repository / "config" / "studies").iterdir())
    yield repository
    for path in set((repository / "config" / "studies").iterdir()) - before:
        path.unlink()


def nnunet(folder, subjects=8, labels=None, unlabelled=0):
    for number in range(subjects):
        own_data.volume(folder / "imagesTr" / f"case_{number:03d}_0000.nii.gz", f"{number:03d}")
        own_data.volume(folder / "labelsTr" / f"case_{number:03d}.nii.gz", f"{number:03d}", 1)
    for number in range(unlabelled):
        own_data.volume(folder / "imagesTs" / f"case_{900 + number}_0000.nii.gz", f"{number:03d}")
    folder.mkdir(parents=True, exist_ok=True)
    stated = {
        "channel_names": {"0": "T1"},
        "labels": labels or {"background": 0, "lesion: a, b # c": 1},
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(stated | {"numTraining": subjects}))
    return folder


def bids(folder, subjects=8):
    for number in range(subjects):
        stem = f"sub-{number:03d}/anat/sub-{number:03d}"
        own_data.volume(folder / f"{stem}_T1w.nii.gz", f"{number:03d}")
        own_data.volume(folder / f"derivatives/lesions/{stem}_T1w_mask.nii.gz", f"{number:03d}", 1)
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    return folder


def table(folder, subjects=8):
    rows = ["subject,sequence,path,label"]
    for number in range(subjects):
        own_data.volume(folder / f"image {number}.nii.gz", f"{number:03d}")
        own_data.volume(folder / f"mask {number}.nii.gz", f"{number:03d}", 1)
        rows.append(f"p{number},FLAIR,image {number}.nii.gz,mask {number}.nii.gz")
    (folder / "volumes.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.parametrize("form", [nnunet, bids, table])
def test_a_folder_of_every_form_becomes_a_study_that_is_planned(root, tmp_path, capsys, form):
    folder = tmp_path / "My Data 1"
    folder.mkdir()
    assert cli.main(["init", "--data", str(form(folder))]) == 0
    said = capsys.readouterr().out
    assert "brainpretrain run my_data_1" in said
    text = (root / "config" / "studies" / "my_data_1.yaml").read_text()
    chosen = [
        line for line in text.splitlines() if any(f" {key}:" in line for key in ("patch_size", "n_train", "steps", "preprocess"))
    ]
    assert sum("  # " in line for line in chosen) >= 4
    planned = tables.make(config.load(overrides={"study": "my_data_1"}))
    rows = planned.tables["my_data_1"].rows
    assert [row.init for row in rows] == ["scratch", "amaes_my_data_1-on-my_data_1"] and not any(row.besides for row in rows)
    assert len(planned.trainings) == 2 * 3 * (3 + 2) and planned.config.study.seeds == [0, 1, 2]


def test_a_known_data_set_is_used_by_its_module_with_its_unlabelled_part(root, tmp_path):
    folder = nnunet(tmp_path / "Task04_Hippocampus", 0)
    for number in range(10):
        own_data.volume(folder / "imagesTr" / f"hippocampus_{number:03d}.nii.gz", f"{number:03d}")
        own_data.volume(folder / "labelsTr" / f"hippocampus_{number:03d}.nii.gz", f"{number:03d}", 1)
        own_data.volume(folder / "imagesTs" / f"hippocampus_{300 + number}.nii.gz", f"{number:03d}")
    (folder / "dataset.json").unlink()
    assert cli.main(["init", "--data", str(folder), "--gpu", "80"]) == 0
    study = yaml.safe_load((root / "config" / "studies" / "task04_hippocampus.yaml").read_text())
    assert "datasets" not in study and study["data_roots"] == {"msd_hippocampus": str(folder)}
    assert [source.get("subsets") for source in study["corpora"]["task04_hippocampus"]["sources"]] == [None, ["unlabelled"]]
    assert study["finetune"]["task04_hippocampus"]["phases"][0]["steps"] == 2500


@pytest.mark.parametrize(
    ("make", "line", "message"),
    [
        (lambda folder: nnunet(folder, 3), [], "3 labelled subjects"),
        (lambda folder: folder, [], "no format is recognised"),
        (nnunet, ["--name", "Mine!"], "cannot be the name of a study"),
        (nnunet, ["--name", "hippocampus"], "--name my_hippocampus"),
        (nnunet, ["--name", "finetune"], "--name my_finetune"),
        (nnunet, ["--encoder", "amaes_relesed"], "did you mean 'amaes_released'"),
    ],
)
def test_what_cannot_become_a_study_is_refused_and_leaves_no_file(root, tmp_path, capsys, make, line, message):
    before = sorted((root / "config" / "studies").iterdir())
    (tmp_path / "data").mkdir()
    assert cli.main(["init", "--data", str(make(tmp_path / "data")), *line]) == 2
    assert message in capsys.readouterr().err
    assert sorted((root / "config" / "studies").iterdir()) == before


def test_a_study_is_replaced_only_if_that_is_asked_for(root, tmp_path, capsys):
    line = ["init", "--data", str(nnunet(tmp_path / "data")), "--gpu", "24", "--name", "first"]
    assert cli.main(line) == 0 and cli.main(line) == 2
    assert "--force to replace it" in capsys.readouterr().err
    assert cli.main([*line, "--force"]) == 0


def test_a_released_encoder_brings_its_preprocessing_and_patch(root, tmp_path):
    folder = nnunet(tmp_path / "data")
    for path in folder.rglob("*.nii.gz"):  # 1 mm volumes as large as the patch
        array = np.zeros((140, 140, 140), np.int16)
        array[20:120, 20:120, 20:120] = 1 if "labels" in str(path) else 100
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    assert (
        cli.main(["init", "--data", str(folder), "--encoder", "amaes_released", "--gpu", "40", "--name", "released_on_mine"]) == 0
    )
    study = yaml.safe_load((root / "config" / "studies" / "released_on_mine.yaml").read_text())
    assert study["tasks"]["released_on_mine"]["preprocess"] == "amaes"
    assert study["finetune"]["released_on_mine"]["patch_size"] == [128, 128, 128]
    assert study["tables"]["released_on_mine"]["rows"] == [{"backbone": "unet_b", "init": ["scratch", "amaes_released"]}]


def folder_of(extent, spacing=1.0, subjects=40, sequences=("T1w",)):
    return proposal.Folder(
        "x", "/x", "csv", {}, [f"s{n}" for n in range(subjects)], ["train"], [], sequences, {1: "a"}, [],
        [extent] * subjects, [spacing] * subjects,
    )  # fmt: skip


CPU, GPU = proposal.Machine(0, 2, 10), proposal.Machine(80, 16, 10)


@pytest.mark.parametrize(
    ("folder", "machine", "preprocess", "patch", "levels"),
    [
        (folder_of([35, 50, 35]), CPU, "amaes", [32, 48, 32], 4),  # a crop
        (folder_of([170, 220, 180]), CPU, "coarse_2mm", [48, 48, 48], 4),  # a head on a CPU
        (folder_of([170, 220, 180]), GPU, "amaes", [128, 128, 128], 5),
        (folder_of([200, 200, 130], 3.0), GPU, "coarse_2mm", [96, 96, 64], 5),  # thick slices
        (folder_of([200, 200, 200], sequences=("CT",)), GPU, "ct", [128, 128, 128], 5),
        (folder_of([14, 16, 12]), CPU, "amaes", [12, 16, 12], 2),  # very small
    ],
)
def test_patch_spacing_and_depth_fit_the_volumes_and_the_machine(folder, machine, preprocess, patch, levels):
    chosen = proposal.propose(folder, machine)
    assert (chosen.preprocess, chosen.patch_size, chosen.levels) == (preprocess, patch, levels)


def test_the_number_of_steps_fits_the_minutes():
    chosen = proposal.propose(folder_of([35, 50, 35]), CPU)
    few = proposal.timed(chosen, CPU, 0.1, 10, pretrains=True)
    many = proposal.timed(chosen, proposal.Machine(0, 2, 100), 0.1, 10, pretrains=True)
    trainings = 2 * 3 * (3 + 2)
    assert few.steps * 0.1 * trainings / 2 + 10 * trainings / 2 <= 10 * 60
    assert 2500 == many.steps > 8 * few.steps and "30 fine-tunings" in few.reasons["steps"]
    assert proposal.timed(chosen, CPU, 100, 10, pretrains=True).steps == 50


def test_too_few_subjects_are_refused():
    with pytest.raises(UserError, match="5 labelled subjects"):
        proposal.propose(folder_of([35, 50, 35], subjects=5), CPU)


def test_the_repository_has_no_study_of_the_tests():
    assert not (ROOT / "config" / "studies" / "my_data_1.yaml").exists()

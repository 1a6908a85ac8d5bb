"""Own data of every kind, with braces wherever a config may have them, from their folders to one table."""

from __future__ import annotations

import os
import re

import nibabel as nib
import numpy as np
import pytest

import own_data as study
from brainpretrain.files import read_json, read_tsv


def trained(scores):
    """Scores of fine-tuned networks; those of the other program are right by construction."""
    return scores[scores["backbone"] != "external"]


def test_every_kind_of_own_data_goes_from_its_folder_to_the_table(own_data):
    scores = trained(read_tsv(own_data.root / "results/own/scores.tsv", numbers=["dice"]))
    assert scores.loc[scores["cohort"] == "test", "task"].tolist() == ["own_csv", "own_nnunet"]  # a subject of each
    assert set(scores["label"]) == {"lesion {x}"} and scores["dice"].between(0, 1).all()
    table = (own_data.root / "results/own/tables/own.md").read_text()
    for title in ("Own {table}", "{3} of {input}", "nnunet {x}", "csv {x}", "bids {x}", "nnunet to csv {x}"):
        assert title in table, table
    licences = read_tsv(own_data.root / "results/own/licences.tsv").set_index("name")
    assert (licences.loc["own_nnunet", "citation"], licences.loc["own_bids", "licence"]) == ("{BraTS} 2021", "ours {y}")


def test_cohorts_of_two_other_data_sets_are_scored_with_their_own_label_values(own_data):
    """The task has value 1, one cohort 7, the other 4; read with another's values, no reference would hold a lesion."""
    scores = trained(read_tsv(own_data.root / "results/own/scores.tsv", numbers=["dice", "reference_ml"]))
    shown = trained(read_tsv(own_data.root / "results/own/tables/own.tsv", numbers=["value"]))
    for cohort, dataset in (("site_b", "own_bids"), ("site_c", "own_csv")):
        rows = scores[scores["cohort"] == cohort]
        assert len(rows) == 3 and (rows["reference_ml"] > 0).all() and set(rows["task"]) == {"own_nnunet"}
        assert shown.loc[shown["cohort"] == cohort, "value"].item() == pytest.approx(rows["dice"].mean(), abs=1e-6)
        listed = read_json(own_data.root / f"results/own/splits/own_nnunet/{cohort}.json")
        assert listed["dataset"] == dataset and set(rows["subject"]) == set(listed[cohort])
        # the prediction has the values of the task, whatever those of the cohort are
        for path in (own_data.root / "results/own/finetune/own_nnunet").rglob(f"{cohort}/predictions/*.nii.gz"):
            assert set(np.unique(nib.load(path).dataobj)) <= {0, 1}


def test_a_cross_validated_task_and_a_watched_recipe_go_through_the_workflow(own_data):
    """Two of three subjects are in the training part: one trains, one validates; the third is scored."""
    results = own_data.root / "results/own"
    parts = read_json(results / "splits/own_csv/subjects.json")["parts"]
    written = read_json(results / "splits/own_csv/splits_final.json")
    assert [fold["val"] for fold in written] == parts and len(parts) == 3
    fold = results / "finetune/own_csv/unet_micro/scratch/tiny/n2/fold0"
    run, scores = read_json(fold / "run.json"), read_tsv(fold / "test/scores.tsv")
    used = [run["train_subjects"], run["validation"]["subjects"], sorted(set(scores["subject"]))]
    assert sorted(name for names in used for name in names) == sorted(name for part in parts for name in part)
    assert used[2] == parts[0] and run["validation"]["selected_step"] in (1, 2)
    table = (results / "tables/own.md").read_text()
    assert "csv {x}: cross-validation, 1 of 3 parts" in table and "No subject of a validation is scored here" in table
    figure = (results / "figures/own_validation.svg").read_text()
    assert "pseudo-Dice" in figure and "csv {x}" in figure


def test_a_named_cohort_is_exported_as_bids_and_drawn_like_any_other(own_data):
    arm = "own_nnunet/unet_micro/scratch/tiny/n2"
    targets = [f"results/own/bids/{arm}/fold0/site_b", f"results/own/figures/finetune/{arm}/site_c.png"]
    assert own_data.planned("--config", "study=own", "--", *targets) == {"bids": 1, "plot_overlays": 1}


def test_after_a_forced_look_the_data_that_changed_train_again_and_no_other(own_data):
    """One raw file of one of three data sets has other content, and the same size and name."""
    image = own_data.root / "data/own_csv/scans {x}/001.nii.gz"
    before, times = image.read_bytes(), image.stat()
    line = ("--forcerun", "fetch", "--config", "study=own", "--", *study.TARGETS)
    try:
        image.write_bytes(before[:-5] + bytes([before[-5] ^ 1]) + before[-4:])
        said = own_data.snakemake("-n", *line)
    finally:
        image.write_bytes(before)
        os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "1 file changed since volumes were stored, the first: scans {x}/001.nii.gz" in said
    planned = {name: re.findall(rf"rule {name}:.*?output: (\S+)", said, re.DOTALL) for name in ("fetch", "shard", "finetune")}
    assert all(len(paths) == 1 and "own_csv" in paths[0] for paths in planned.values()), planned
    # the cohort of another task on these data is predicted again, by the model that is there
    again = {path.split("/")[3] + " " + path.split("/")[-2] for path in re.findall(r"output: (\S+/predictions)", said)}
    assert again == {"own_csv test", "own_nnunet site_c"}
    assert own_data.planned(*line) == {}


def test_segmentations_of_another_program_are_scored_and_shown_in_the_table(own_data):
    """They are the references in the program's own values: once in each cohort, without a model, hours or a standard deviation."""
    scores = read_tsv(own_data.root / "results/own/scores.tsv", numbers=["dice"])
    other = scores[scores["backbone"] == "external"]
    assert (other["dice"] == 1).all() and set(other["init"]) == {"other_program"} and set(other["fold"]) == {"0"}
    counts = other.groupby(["task", "cohort"]).size().to_dict()
    assert counts == trained(scores).groupby(["task", "cohort"]).size().to_dict() and len(counts) == 4
    table = (own_data.root / "results/own/tables/own.md").read_text()
    assert "Other {program}" in table and "100.00" in table and "Nothing of it was trained here" in table
    assert not list((own_data.root / "results/own/finetune").glob("*/external/**/run.json"))
    record = read_json(next((own_data.root / "results/own/finetune").glob("*/external/**/site_b/predictions/external.json")))
    assert {name: entry["file"] for name, entry in record["cases"].items()}["sub-001"] == "sub-001_seg.nii.gz"


def test_another_file_of_the_program_scores_that_cohort_again_and_nothing_else(own_data):
    path = own_data.root / "data/other {x}/own_csv/s{001}_seg.nii.gz"
    before, times = path.read_bytes(), path.stat()
    try:
        path.write_bytes(before[:-5] + bytes([before[-5] ^ 1]) + before[-4:])
        said = own_data.snakemake("-n", "--config", "study=own", "--", *study.TARGETS)
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = {tuple(path.split("/")[i] for i in (3, 4, -2)) for path in re.findall(r"output: (\S+/predictions)", said)}
    assert again == {("own_csv", "external", "test"), ("own_nnunet", "external", "site_c")}
    assert not re.findall(r"^rule (finetune|shard|fetch):", said, re.MULTILINE)


def test_finished_own_data_have_nothing_left_to_do(own_data):
    assert own_data.planned("--config", "study=own", "--", *study.TARGETS) == {}

"""Fine-tunings on several data sets, and those that go on from a fine-tuned network."""

from collections import Counter

import pytest
import torch
from safetensors.torch import load_file

import tiny
from brainpretrain.augment.policy import Policy
from brainpretrain.cohorts.cases import IGNORED
from brainpretrain.config.runs import finetune_run
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, read_tsv, write_json
from brainpretrain.training import finetune as module
from brainpretrain.training.labelled import gather
from brainpretrain.training.samples import FinetunePatches
from trainings import finetune_here, machine_of

SOURCE = {"dataset": "tiny", "n": 3, "labels": {"ball": [1]}, "ignore": []}


def gathered(cohort, n_train="2", source=None, drawn=None, **recipe):
    """The cases of a fine-tuning whose source is the same data set in another order, which no plan would allow."""
    content = tiny.finetune_config(1, **recipe) | {"n_train": n_train, "sources": [SOURCE | (source or {})]}
    fold = read_json(cohort.split)
    fold["sources"] = [{"dataset": "tiny", "order": [f"s{n}" for n in (4, 5, 3, 1)], "subsets": []} | (drawn or {})]
    run = finetune_run(content, "test")
    return gather(read_tsv(cohort.table), cohort.folder, fold, run, {"tiny": cohort.table})


def test_the_first_subjects_of_target_and_source_train(cohort):
    found = gathered(cohort)
    assert [case.subject for case in found.cases] == ["s0", "s1", "s4", "s5", "s3"]
    assert found.subjects == ["s0", "s1"] and found.source_subjects == {"tiny": ["s4", "s5", "s3"]} and found.parts == []
    assert gathered(cohort, source={"n": "matched"}).source_subjects == {"tiny": ["s4", "s5"]}
    alone = gathered(cohort, n_train="0", source={"n": "all"}, mixing="balanced")
    assert alone.subjects == [] and len(alone.cases) == 4 and alone.parts == [[0, 1, 2, 3]]


def test_balanced_mixing_takes_as_many_patches_of_the_target_as_of_the_source(cohort):
    config = tiny.finetune_config(1)
    policy = Policy(finetune_run(config, "test").policy)
    counts = {}
    for mixing in ("proportional", "balanced"):
        found = gathered(cohort, mixing=mixing)
        patches = FinetunePatches(found.cases, found.lookups, [8] * 3, policy, 0.0, 1, parts=found.parts)
        counts[mixing] = Counter(patches.case_of(number) for number in range(60))
    assert set(counts["proportional"].values()) == {12}
    assert [counts["balanced"][case] for case in range(5)] == [15, 15, 10, 10, 10]


def test_each_case_has_the_label_map_of_its_data_set(cohort):
    found = gathered(cohort, source={"n": 1})
    assert [set(case.label(lookup).ravel()) for case, lookup in zip(found.cases, found.lookups, strict=True)] == [{0, 1}] * 3
    run = finetune_run(
        tiny.finetune_config(1)
        | {
            "task": tiny.SEGMENTATION | {"labels": {"ball": [1], "ring": [2]}},
            "sources": [SOURCE | {"labels": {"ball": [1], "ring": []}}],
        },
        "test",
    )
    fold = read_json(cohort.split) | {"order": [], "sources": [{"dataset": "tiny", "order": ["s4"], "subsets": []}]}
    run = run.model_copy(update={"n_train": "0", "sources": [run.sources[0].model_copy(update={"n": 1})]})
    part = gather(read_tsv(cohort.table), cohort.folder, fold, run, {"tiny": cohort.table})
    assert set(part.cases[0].label(part.lookups[0]).ravel()) == {1, IGNORED}


def test_a_source_that_cannot_train_is_refused(cohort):
    with pytest.raises(UserError, match="5 subjects of the source are to train, and 4 have a usable case"):
        gathered(cohort, source={"n": 5})
    with pytest.raises(UserError, match="no case of the training pool has the label value of 'ball'"):
        gathered(cohort, source={"labels": {"ball": [7]}})
    with pytest.raises(UserError, match="the split is of the source 'other', the run of 'tiny'"):
        gathered(cohort, drawn={"dataset": "other"})


def test_a_fine_tuning_goes_on_from_the_whole_network_of_another(cohort, tmp_path):
    first = finetune_here(cohort, tmp_path / "a", tiny.finetune_config(3))
    config = tiny.finetune_config(1, phases=[tiny.phase(1, lr=1e-12)])  # as good as the initial weights
    after = finetune_here(cohort, tmp_path / "b", config, first / "model.safetensors")
    wanted, found = (load_file(folder / "model.safetensors") for folder in (first, after))
    assert wanted.keys() == found.keys() and all(torch.allclose(found[name], wanted[name], atol=1e-6) for name in wanted)
    report = read_tsv(after / "transfer.tsv")
    assert sorted(report["tensor"]) == sorted(wanted) and set(report["status"]) == {"loaded"}
    other = tiny.finetune_config(1) | {"task": tiny.SEGMENTATION | {"labels": {"bowl": [1]}}}
    with pytest.raises(UserError, match="was trained for other classes: \\['ball'\\], and the task has \\['bowl'\\]"):
        finetune_here(cohort, tmp_path / "c", other, first / "model.safetensors")


def test_sources_reach_the_training_and_its_record(cohort, tmp_path):
    config = tiny.finetune_config(2, mixing="balanced") | {"n_train": "0", "sources": [SOURCE]}
    fold = read_json(cohort.split) | {"sources": [{"dataset": "tiny", "order": ["s4", "s5", "s3"], "subsets": []}]}
    write_json(tmp_path / "fold.json", fold)
    run = finetune_run(config, "test")
    places = read_tsv(cohort.table), cohort.folder, tmp_path / "fold.json", None, run, machine_of(tmp_path), 1
    module.finetune(*places, sources={"tiny": cohort.table})
    record = read_json(tmp_path / "out" / "run.json")
    assert record["train_subjects"] == [] and record["cases"] == 3 and record["source_subjects"] == {"tiny": ["s4", "s5", "s3"]}

"""The whole workflow on phantoms: what a run leaves, what an edit runs again, what a report holds."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from contextlib import ExitStack, contextmanager

import nibabel as nib
import numpy as np
import pytest
import torch
from docutils.core import publish_parts
from safetensors.torch import load_file

import tiny
from brainpretrain import backbones, cli, config, local_mean
from brainpretrain.backbones import unet
from brainpretrain.files import read_json, read_tsv
from brainpretrain.plan import tables
from brainpretrain.report import landing
from helpers import edit
from reference import stand_in

BELOW_FINETUNE = {
    "predict_cohort": 4,
    "evaluate": 4,
    "scores": 1,
    "table": 1,
    "plot_cases": 1,
    "plot_costs": 1,
    "plot_loss_finetuning": 2,
    "page_run_finetuning": 2,
    "plot_overlays": 2,
}


def half(counts: dict[str, int]) -> dict[str, int]:
    """The part of `counts` that belongs to one of the two arms."""
    return {
        rule: count if rule in ("scores", "table", "plot_cases", "plot_costs") else count // 2 for rule, count in counts.items()
    }


@contextmanager
def edited(workflow, file, old, new):
    """The workflow with one edit in `file`, put back afterwards."""
    path = workflow.root / file
    before = path.read_text()
    edit(path, old, new)
    try:
        yield
    finally:
        path.write_text(before)


def test_a_finished_study_has_nothing_left_to_do(finished):
    assert finished.planned() == {}


def test_every_stage_left_its_results(finished):
    scores = read_tsv(finished.results / "scores.tsv", numbers=["dice"])
    assert len(scores) == 2 * 2 * 2 * 3  # arms, folds, test cases, classes
    assert set(scores["init"]) == {"scratch", "amaes_tiny-on-tiny_unlabelled"}
    assert scores["dice"].between(0, 1).all()
    for name in ("tiny.tsv", "tiny.md", "tiny.html", "tiny.txt", "tiny_labels.tsv"):
        assert (finished.results / "tables" / name).stat().st_size > 100
    assert not list((finished.root / "results" / "work").iterdir())


def test_predictions_lie_on_the_grid_and_in_the_header_of_the_raw_volume(finished):
    folder = finished.results / "finetune/tissue/unet_micro/scratch/tiny/n2/fold0/test/predictions"
    files = sorted(folder.glob("*.nii.gz"))
    assert len(files) == 2
    for path in files:
        raw = nib.load(finished.root / f"data/phantom_tiny/{path.name[:7]}/anat/{path.name[:7]}_T1w.nii.gz")
        found = nib.load(path)
        assert found.shape == raw.shape and np.allclose(found.affine, raw.affine)
        assert set(np.unique(found.dataobj)) <= {0, 1, 2, 3}


def test_an_arm_comes_out_as_bids_and_the_command_predicts_the_same(finished, tmp_path):
    arm = "tissue/unet_micro/scratch/tiny/n2/fold0"
    finished.snakemake("--", f"results/tiny/bids/{arm}/test")
    folder, model = finished.results / "bids" / arm / "test", finished.results / "finetune" / arm
    found = sorted(folder.glob("sub-*/anat/*_desc-pred_dseg.nii.gz"))
    predicted = sorted((model / "test/predictions").glob("*.nii.gz"))
    assert [path.read_bytes() for path in found] == [path.read_bytes() for path in predicted] and len(found) == 2
    raw = [str(finished.root / f"data/phantom_tiny/{p.name[:7]}/anat/{p.name[:7]}_T1w.nii.gz") for p in predicted]
    assert cli.main(["predict", *raw, "--model", str(model), "--out", str(tmp_path), "--threads", "1"]) == 0
    for ours, theirs in zip(sorted(tmp_path.glob("*.nii.gz")), predicted, strict=True):
        assert np.array_equal(np.asarray(nib.load(ours).dataobj), np.asarray(nib.load(theirs).dataobj))


def test_the_transfer_report_lists_every_encoder_tensor(finished):
    arm = finished.results / "finetune/tissue/unet_micro/amaes_tiny-on-tiny_unlabelled/tiny/n2/fold1"
    report = read_tsv(arm / "transfer.tsv")
    assert set(report["status"]) == {"loaded"} and len(report) == read_json(arm / "run.json")["transferred"] > 10


def test_training_and_scored_subjects_differ(finished):
    for fold in (0, 1):
        split = read_json(finished.results / f"splits/tissue/fold{fold}.json")
        assert not set(split["order"]) & set(read_json(finished.results / "splits/tissue/subjects.json")["test"])
    (audit,) = read_tsv(finished.results / "corpora/tiny_unlabelled/overlap.tsv").to_dict("records")
    assert (audit["cohort"], audit["shared"], audit["by_content"]) == ("test", "0", "0")


def test_the_audits_have_their_pages(finished):
    assert "protocol strict" in (finished.results / "figures/overlap.html").read_text()
    assert "phantom_tiny" in (finished.results / "figures/licences.html").read_text()
    assert read_tsv(finished.results / "tables/tiny_unlabelled_composition.tsv")["volumes"].tolist() == ["3", "3"]


NO_RESULT = [
    ("config/studies/tiny.yaml", "seed: 0\n", "seed: 0  # a comment\n"),
    ("config/studies/tiny.yaml", "note: nothing depends on this text", "note: another text"),
    ("config/studies/tiny.yaml", "title: Tiny\n", "title: Tiny\n    note: new\n"),
    ("config/finetune.yaml", "foreground_fraction: 0.33", "foreground_fraction: 3.3e-1"),
    ("config/config.yaml", "save_every_steps: 500", "save_every_steps: 50"),
    ("config/config.yaml", "tensorboard: false", "tensorboard: true"),
    ("config/config.yaml", "max_idle_attempts: 5", "max_idle_attempts: 9"),
    ("envs/environment.yaml", "  - make\n", "  - make\n  - tar\n"),
    ("config/config.yaml", "execution: []", "execution: [channels_last, checkpointing]"),
    ("config/backbones.yaml", "gflop: 516.3", "gflop: 500.0"),
    ("config/preprocess.yaml", "max_rejected_fraction: 0.1", "max_rejected_fraction: 0.2"),
    ("local/config.yaml", "finetune: 1", "finetune: 2"),
    ("rules/evaluation.smk", "runtime=240", "runtime=60"),
    ("rules/training.smk", "runtime=1440", "runtime=60"),
    ("rules/training.smk", '"""Corpus to encoder,', '"""Another docstring.'),
    ("config/tables.yaml", "n_train: 20", "n_train: 40"),  # of a table this study does not build
]  # fmt: skip


def test_edits_that_change_no_result_run_nothing(finished):
    """One dry run sees all edits. If it would run something, the edits are tried one by one, to say which of them it was."""
    with ExitStack() as edits:
        for file, old, new in NO_RESULT:
            edits.enter_context(edited(finished, file, old, new))
        together = finished.planned()
    for file, old, new in NO_RESULT if together else ():
        with edited(finished, file, old, new):
            assert finished.planned() == {}, f"{file}: {new}"
    assert together == {}


def test_data_that_moved_run_nothing(finished):
    assert finished.planned("--config", "study=tiny", "data_root=elsewhere") == {}


def test_two_edits_at_once_are_both_seen(finished):
    """A job may depend on another that runs for a reason of its own: with ancient() the first reason was lost."""
    with (
        edited(finished, "config/studies/tiny.yaml", "protocol: strict", "protocol: amaes"),
        edited(finished, "config/pretext.yaml", "mask_ratio: 0.6", "mask_ratio: 0.75"),
    ):
        jobs = finished.planned("--config", "study=tiny", "data_root=elsewhere")
    assert jobs["overlap"] == 1 and jobs["pretrain"] == 1 and jobs["finetune"] == 2


def test_another_partition_or_thread_count_runs_nothing(finished):
    assert finished.planned("--set-resources", "pretrain:slurm_partition=gpu", "--set-threads", "pretrain=2") == {}


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("config/studies/tiny.yaml", "steps: 6, lr: 1.0e-3", "steps: 6, lr: 2.0e-3", {"finetune": 4} | BELOW_FINETUNE),
        ("config/studies/tiny.yaml", "inference: {batch: 4}", "inference: {batch: 4, overlap: 0.25}",
         {rule: n for rule, n in BELOW_FINETUNE.items() if "finetuning" not in rule}),
        ("config/studies/tiny.yaml", "nsd_tolerance_mm: 4", "nsd_tolerance_mm: 2",
         {rule: n for rule, n in BELOW_FINETUNE.items() if rule != "predict_cohort" and "finetuning" not in rule}),
        ("config/pretext.yaml", "mask_ratio: 0.6", "mask_ratio: 0.75",
         {"pretrain": 1, "finetune": 2, "plot_loss_pretraining": 1, "plot_reconstructions": 1, "page_run_pretraining": 1, "export_card": 1} | half(BELOW_FINETUNE)),
        ("config/augmentations.yaml", "note: all transforms, for training from scratch; the crop is the patch, as in `spatial`.", "noise: {p: 0.3}",
         {"finetune": 2} | half(BELOW_FINETUNE)),
        ("config/studies/tiny.yaml", "labels: {grey matter: [1], white matter: [2], lesion: [3]}", "labels: {tissue: [1, 2], lesion: [3]}",
         {"finetune": 4} | BELOW_FINETUNE),
        ("config/studies/tiny.yaml", "folds: 2", "folds: 3",
         {"fold": 1, "finetune": 2, "predict_cohort": 2, "evaluate": 2} | {r: n for r, n in BELOW_FINETUNE.items() if r not in ("predict_cohort", "evaluate", "page_run_finetuning")}),
        ("config/studies/tiny.yaml", "init: [scratch, amaes_tiny]}", "init: [scratch, amaes_tiny]}\n      - {backbone: unet_micro, n_train: 3}",
         {"finetune": 2, "predict_cohort": 2, "evaluate": 2, "scores": 1, "table": 1, "plot_cases": 1, "plot_costs": 1, "plot_budgets": 1, "plot_loss_finetuning": 1, "page_run_finetuning": 1, "plot_overlays": 1}),
        ("config/studies/tiny.yaml", "protocol: strict", "protocol: amaes", {"overlap": 1, "page_overlap": 1, "table": 1}),
    ],
    ids=["fine-tune lr", "inference", "metrics", "mask ratio", "policy of the scratch arm", "classes", "one more fold", "one more row", "protocol"],
)  # fmt: skip
def test_an_edit_runs_exactly_what_depends_on_it(finished, file, old, new, expected):
    with edited(finished, file, old, new):
        assert finished.planned() == expected


def test_a_new_task_to_evaluate_does_not_pretrain_again(finished):
    other = "  lesions:\n    like: tissue\n    labels: {lesion: [3]}\n"
    column = "columns: [{title: phantom, task: tissue, cohort: test}, {title: lesions, task: lesions, cohort: test}]"
    with (
        edited(finished, "config/studies/tiny.yaml", "tasks:\n", f"tasks:\n{other}"),
        edited(finished, "config/studies/tiny.yaml", "columns: [{title: phantom, task: tissue, cohort: test}]", column),
    ):
        jobs = finished.planned()
    assert jobs["finetune"] == 4 and jobs["overlap"] == 1 and jobs["split"] == 1
    assert not {"pretrain", "shard", "corpus"} & set(jobs)


RELEASE = """weights:
  released_tiny:
    page: https://example.org/record
    licence: null
    citation: none
    corpus: a stand-in
    preprocess: coarse_4mm
    patch_size: [16, 16, 16]
    files:
      unet_micro: {file: tiny.pth, url: https://example.org/tiny.pth}
tables:
"""


def test_a_released_encoder_is_an_init(finished):
    """A stand-in with the names of the AMAES code: asked for, imported, fine-tuned from."""
    encoder = backbones.build("unet", 1, width=4, levels=3, convs_per_stage=2)
    names = {"model.encoder." + unet.reference_name(name): list(t.shape) for name, t in encoder.state_dict().items()}
    fold = "results/tiny/finetune/tissue/unet_micro/released_tiny/tiny/n2/fold0"
    new_row = "init: [scratch, amaes_tiny]}\n      - {backbone: unet_micro, init: released_tiny}"
    place = finished.root / "data" / "weights" / "tiny.pth"
    with (
        edited(finished, "config/studies/tiny.yaml", "tables:\n", RELEASE),
        edited(finished, "config/studies/tiny.yaml", "init: [scratch, amaes_tiny]}", new_row),
    ):
        jobs = finished.planned()
        assert (jobs["import"], jobs["finetune"], jobs["predict_cohort"]) == (1, 2, 2) and "pretrain" not in jobs
        said = finished.snakemake("--", f"{fold}/model.safetensors", check=False)
        assert "'released_tiny' are not in place" in said and "https://example.org/tiny.pth and put it there as tiny.pth" in said
        place.parent.mkdir()
        stand_in(place, names | {"model.rec_head.out_conv.bias": [1]})
        finished.snakemake("--", f"{fold}/model.safetensors")
        assert finished.planned()["finetune"] == 1
    facts = read_json(finished.root / "results/weights/released_tiny/unet_micro/encoder.json")
    assert facts["source"]["file"] == "tiny.pth" and facts["preprocess"]["spacing_mm"] == [4, 4, 4]
    report = read_tsv(finished.root / fold / "transfer.tsv")
    assert set(report["status"]) == {"loaded"} and len(report) == len(names)


def test_every_pretraining_has_a_model_card(finished):
    (card,) = finished.results.glob("pretrain/*/*/*/card.md")
    text = card.read_text()
    assert "| mask ratio | 0.6 |" in text and "phantom_tiny | unknown | 3 | 3 |" in text


def test_a_cohort_that_is_added_trains_nothing_again(finished):
    with (
        edited(
            finished,
            "config/studies/tiny.yaml",
            "    split: {seed: 0",
            "    ood: {dataset: phantom_other}\n    cohorts: {site_b: {dataset: phantom_other}}\n    split: {seed: 0",
        ),
        edited(
            finished,
            "config/studies/tiny.yaml",
            "  phantom_tiny:",
            "  phantom_other: {like: phantom_tiny, options: {seed: 9}}\n  phantom_tiny:",
        ),
        edited(
            finished,
            "config/studies/tiny.yaml",
            "cohort: test}]",
            "cohort: test}, {title: ood, task: tissue, cohort: ood}, {title: site b, task: tissue, cohort: site_b}]",
        ),
    ):
        jobs = finished.planned()
    assert jobs["ood"] == 2 and jobs["predict_cohort"] == 8 and jobs["overlap"] == 1
    assert not {"pretrain", "finetune", "split", "fold", "corpus"} & set(jobs)


def test_another_preprocessing_runs_everything_below_the_index(finished):
    with edited(finished, "config/studies/tiny.yaml", "spacing_mm: [4, 4, 4]", "spacing_mm: [4, 4, 5]"):
        jobs = finished.planned()
    assert jobs["shard"] == 2 and jobs["pretrain"] == 1 and jobs["finetune"] == 4
    assert not {"fetch", "index", "split", "fold"} & set(jobs)


def test_other_phantoms_run_everything_again(finished):
    with edited(finished, "config/studies/tiny.yaml", "spacing_mm: [4, 5]", "spacing_mm: [5, 5]"):
        jobs = finished.planned()
    assert jobs["fetch"] == 1 and jobs["index"] == 1 and jobs["shard"] == 2 and jobs["finetune"] == 4


def test_a_replaced_file_is_seen_by_its_size(finished):
    path = finished.root / "data/phantom_tiny/sub-001/anat/sub-001_T1w.nii.gz"
    before = path.read_bytes()
    try:
        path.write_bytes(before + b"more")
        finished.snakemake("--forcerun", "index", "--until", "index")
        assert finished.planned()["shard"] == 2
    finally:
        path.write_bytes(before)
        finished.snakemake("--forcerun", "index", "--until", "index")
    assert finished.planned() == {}


def test_one_target_by_path_runs_alone(finished):
    target = "results/tiny/finetune/tissue/unet_micro/scratch/tiny/n2/fold0/model.safetensors"
    assert finished.planned("--force", "--", target) == {"finetune": 1}


def test_a_table_waits_for_no_other_table(finished):
    assert set(finished.planned("--config", "study=amaes", "--", "table3")).isdisjoint({"scores"})


def test_the_ablations_plan_from_the_command_line(finished):
    jobs = finished.planned("--config", "study=ablations", "--", "table3")
    assert jobs["pretrain"] == 3 and jobs["finetune"] == 18
    jobs = finished.planned("--config", "study=ablations", "--", "mask")
    assert jobs["pretrain"] == 7 and jobs["finetune"] == 48


def test_a_table_cannot_take_the_name_of_a_step(finished):
    with (
        edited(finished, "config/studies/tiny.yaml", "build: [tiny]", "build: [shard]"),
        edited(finished, "config/studies/tiny.yaml", "  tiny:\n    title: Tiny", "  shard:\n    title: Tiny"),
    ):
        assert "a table cannot be called 'shard'" in finished.snakemake("-n", check=False)


def test_the_command_line_in_a_log_runs_outside_snakemake(finished, tmp_path):
    import shlex

    from brainpretrain import cli

    log = finished.results / "logs/split/tissue.log"
    line = log.read_text().splitlines()[0]
    assert line.startswith("$ brainpretrain split ")
    words = shlex.split(line)[2:]
    words = [str(finished.root / word) if word.startswith("results/") else word for word in words]
    words[words.index("--out") + 1] = str(tmp_path / "subjects.json")
    assert cli.main(words) == 0
    assert read_json(tmp_path / "subjects.json") == read_json(finished.results / "splits/tissue/subjects.json")


def test_the_report_opens_offline_and_holds_what_it_should(finished):
    finished.snakemake("--report", "report.html")
    page = (finished.root / "report.html").read_text()
    assert len(page) < 15e6
    for words in (
        "1 Results",
        "2 Cases",
        "3 Training",
        "4 Corpus",
        "all 4 runs are scored",
        "tiny_costs.html",
        "loss.svg",
        "reconstruction.png",
        "rejected.html",
        "tiny.html",
        "run.html",
        "test.png",
    ):
        assert words in page, words
    assert 'src="http' not in page and 'href="http' not in page.split("<body")[0]
    hidden_entries(page)


def hidden_entries(page):
    """Fails where Snakemake's page would show one entry in place of two, or break.

    It makes a switch of a label (but the first) that has two values, each for half of a section, and then looks for each entry
    under both.
    """
    results = json.loads(re.search(r"var results = ({.*});", page)[1])
    sections = json.loads(re.search(r"var categories = ({.*});", page)[1])
    for section, parts in sections.items():
        labels = [results[path]["labels"] for path in itertools.chain(*parts.values())]
        names = list(dict.fromkeys(itertools.chain(*labels)))
        rows = [tuple(label.get(name, "") for name in names) for label in labels]
        assert len(set(rows)) == len(rows), f"{section}: entries with the same labels"
        for place, name in enumerate(names[1:], start=1):
            values = [label[name] for label in labels if name in label]
            switch = len(set(values)) == 2 and all(values.count(value) == len(labels) / 2 for value in values)
            rest = [(*row[:place], *row[place + 1 :]) for row in rows]
            assert not switch or all(rest.count(one) == 2 for one in rest), f"{section}: half of the entries would vanish"


def test_the_viewer_waits_for_niivue_and_says_how_to_get_it(finished):
    said = finished.snakemake("--", "overlays", check=False)
    assert "the viewer NiiVue is not in place" in said and "npm pack @niivue/niivue" in said
    place = finished.root / "data" / "niivue" / "niivue.umd.js"
    place.parent.mkdir()
    place.write_text("// a stand-in")
    finished.snakemake("--", "overlays")
    page = (finished.results / "overlays" / "index.html").read_text()
    assert "phantom: unet_micro, scratch (test)" in page and (finished.results / "overlays" / place.name).exists()
    assert finished.planned() == {}


def test_missing_data_do_not_stop_a_dry_run_and_a_real_run_says_what_to_do(finished):
    said = finished.snakemake("-n", "--config", "study=amaes", "data_root=nowhere")
    assert "pretrain" in said
    said = finished.snakemake("--config", "study=amaes", "data_root=nowhere", "--", "results/data/adni/index.tsv", check=False)
    assert "adni.loni.usc.edu" in said and "nowhere/adni" in said


def test_rejected_volumes_are_rows_with_reasons(finished, tmp_path):
    """A truncated file among good ones: a row in the table, and too many of them an error."""
    from brainpretrain import cli

    raw = tmp_path / "raw"
    shutil.copytree(finished.root / "data" / "phantom_tiny", raw)
    victim = raw / "sub-001/anat/sub-001_T1w.nii.gz"
    victim.write_bytes(victim.read_bytes()[:5000])
    recipe = tiny.PREPROCESS | {"spacing_mm": [4, 4, 4], "max_voxels": 10**8}
    index = str(finished.root / "results/data/phantom_tiny/index.tsv")
    line = ["shard", "--index", index, "--root", str(raw), "--shard", "0", "--n-shards", "1"]
    line += ["--recipe", json.dumps(recipe)]
    assert cli.main([*line, "--max-rejected", "0.5", "--out", str(tmp_path / "a" / "shard000.tsv")]) == 0
    table = read_tsv(tmp_path / "a" / "shard000.tsv").set_index("volume")
    assert (table["status"] == "rejected").sum() == 1
    bad = table[table["status"] == "rejected"].iloc[0]
    assert bad["path"].endswith("sub-001_T1w.nii.gz") and bad["reason"] == "truncated" and "bytes" in bad["detail"]
    assert cli.main([*line, "--max-rejected", "0", "--out", str(tmp_path / "b" / "shard000.tsv")]) == 2
    assert not (tmp_path / "b" / "shard000.tsv").exists()


def test_tables_of_shards_are_joined_in_their_folder(finished, tmp_path, capsys):
    from brainpretrain import cli

    folder = finished.root / "results/data/phantom_tiny/coarse_4mm"
    tables = [read_tsv(path) for path in sorted(folder.glob("shard*.tsv"))]
    joined = read_tsv(folder / "volumes.tsv")
    assert len(tables) > 1 and joined.to_dict("records") == [row for table in tables for row in table.to_dict("records")]
    assert cli.main(["volumes", str(folder / "shard000.tsv"), "--out", str(tmp_path / "volumes.tsv")]) == 2
    assert f"fix:   --out {folder}/volumes.tsv" in capsys.readouterr().err and not (tmp_path / "volumes.tsv").exists()


def test_a_workstation_runs_one_training_per_gpu(finished, tmp_path):
    """Four fine-tunings on a machine with two GPUs; nothing here computes on them, but all is scheduled as if."""
    copy = type(finished)(shutil.copytree(finished.root, tmp_path / "copy", symlinks=True))
    edit(copy.root / "workstation" / "config.yaml", "resources: [gpu=1]", "resources: [gpu=2]")
    arms = [
        copy.results / "finetune/tissue/unet_micro" / init / "tiny/n2" for init in ("scratch", "amaes_tiny-on-tiny_unlabelled")
    ]
    models = [f"{(arm / f'fold{fold}').relative_to(copy.root)}/model.safetensors" for arm in arms for fold in (0, 1)]
    variables = {"CUDA_VISIBLE_DEVICES": "0,1", "TMPDIR": str(tmp_path)}
    copy.snakemake("--cores", "16", "--forcerun", *models, "--", *models, profile="workstation", **variables)
    spans = {}
    for model in models:
        fold = (copy.root / model).parent
        log = copy.results / "logs" / f"{fold.relative_to(copy.results)}.log"
        gpu = next(line for line in log.read_text().splitlines() if line.startswith("GPU "))
        run = read_json(fold / "run.json")
        spans.setdefault(gpu, []).append((run["started"], run["finished"]))
    assert set(spans) == {"GPU 0", "GPU 1"}
    for times in spans.values():
        times.sort()
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(times))


# --- a fair comparison


def test_a_study_that_is_not_fair_is_refused_by_the_dry_run_and_planned_with_the_lines_it_prints(finished):
    study = "config/studies/tiny.yaml"
    with edited(finished, study, "protocol: free\n", ""):
        said = finished.snakemake("-n", check=False)
        lines = ["folds: 3", "in finetune.tiny: augmentation_scratch: spatial"]
        assert "2 folds: fewer than 3 draws" in said and all(f"\n    {line}\n" in said for line in lines), said[-3000:]
        with (
            edited(finished, study, "folds: 2", lines[0]),
            edited(finished, study, "    precision: bf16-mixed", f"    {lines[1].partition(': ')[2]}\n    precision: bf16-mixed"),
        ):
            said = finished.snakemake("-n")
    assert "protocol: fair: 3 draws with seeds 0, 1, 2; learning rates to choose from: 0.00033, 0.001, 0.003 (tiny); 36" in said
    counts = dict(re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE))
    expected = {"finetune": "36", "choose_rate": "6", "compare_encoders": "2", "table_trainings": "1", "table_encoders": "1"}
    assert expected.items() <= counts.items() and "pretrain" not in counts


# --- what became of the encoder


def test_a_pretraining_no_better_than_the_local_mean_is_named_wherever_it_is_used(finished):
    """Two epochs on three phantoms do not beat it: in red on its page and card, under its tables, on the report's first page."""
    place = "pretrain/tiny_unlabelled/amaes_tiny/unet_micro"
    own, mean = local_mean.errors(finished.results / place / "log.csv")
    assert own > mean
    words = "ends no better than the local mean: validation error at hidden voxels"
    page = (finished.results / "figures" / place / "run.html").read_text()
    assert '<p class="warning">' in page and words in page
    assert f"{words} {own:.4f}" in (finished.results / place / "card.md").read_text()
    for name in ("tiny.html", "tiny.txt", "tiny_verdicts.md"):
        assert f"{words} {own:.4f}" in (finished.results / "tables" / name).read_text(), name
    plan = tables.make(config.load(finished.root / "config", {"study": "tiny"}))
    assert words in publish_parts(landing.text(plan, finished.results), writer="html")["body"]


def test_a_fine_tuning_that_runs_again_leaves_the_same_bits(finished):
    folder = finished.results / "finetune/tissue/unet_micro/amaes_tiny-on-tiny_unlabelled/tiny/n2/fold1"
    before, started = (folder / "model.safetensors").read_bytes(), read_json(folder / "run.json")["started"]
    model = str((folder / "model.safetensors").relative_to(finished.root))
    finished.snakemake("--forcerun", model, "--", model)
    assert (folder / "model.safetensors").read_bytes() == before and read_json(folder / "run.json")["started"] > started


def test_probes_and_encoders_before_and_after_come_beside_fine_tuning(finished):
    """The encoder of a probe is the pretrained one to the bit; that of a fine-tuning moved, and the table says how far."""
    arm = "finetune/tissue/unet_micro/amaes_tiny-on-tiny_unlabelled"
    targets = [f"{arm}/tiny_probe/n2/fold1/test/scores.tsv", "tables/tiny_encoders.html"]
    with edited(finished, "config/studies/tiny.yaml", "    n_train: 2\n", "    n_train: 2\n    probe: true\n"):
        jobs = finished.planned()
        finished.snakemake("--", *(f"results/tiny/{target}" for target in targets))
        assert finished.planned("--", f"results/tiny/{targets[1]}") == {}
    assert {rule: jobs.get(rule, 0) for rule in ("pretrain", "finetune", "evaluate", "compare_encoders", "table_encoders", "table")} == {
        "pretrain": 0, "finetune": 4, "evaluate": 4, "compare_encoders": 2, "table_encoders": 1, "table": 1,
    }  # fmt: skip
    before = load_file(finished.results / "pretrain/tiny_unlabelled/amaes_tiny/unet_micro/encoder.safetensors")
    probe, tuned = (load_file(finished.results / arm / name / "n2/fold1/model.safetensors") for name in ("tiny_probe", "tiny"))
    assert all(torch.equal(probe[f"encoder.{name}"], tensor) for name, tensor in before.items())
    assert any(not torch.equal(tuned[f"encoder.{name}"], tensor) for name, tensor in before.items())
    lines = read_tsv(finished.results / "tables/tiny_encoders.tsv", numbers=["cka", "change", "folds", "level"])
    assert lines["row"].unique().tolist() == ["unet_micro, scratch", "unet_micro, amaes_tiny"] and set(lines["folds"]) == {2}
    assert sorted(lines["level"]) == [0, 0, 1, 1, 2, 2] and (lines["change"] > 0).all() and (lines["cka"] <= 1.05).all()

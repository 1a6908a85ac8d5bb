"""Faults 29 and 72 to 74: mistakes in a config and in a profile, and odd text, met by a command that reads it, and by Snakemake."""

from __future__ import annotations

import re
from contextlib import nullcontext

import pytest

import own_data
import workflow_fixture
from brainpretrain import cli, config
from brainpretrain.cohorts import splits
from brainpretrain.config import profiles
from brainpretrain.errors import UserError
from brainpretrain.files import write_json
from brainpretrain.plan import checks, existing, tables
from helpers import ROOT, edit


def reads(folder, tmp_path) -> int:
    """Exit code of a command that makes the plan of the default study and then wants its scores, which are not there."""
    line = ["tables", "--study", "amaes", "--config", str(folder), "--scores", str(tmp_path / "none.tsv")]
    return cli.main([*line, "--out", str(tmp_path / "tables")])


MISTAKES = [
    ("config.yaml", "results: results", "result: results", "result: unknown key; did you mean 'results'?"),
    ("tasks.yaml", "tasks:", "task:", "unknown key 'task'"),
    ("pretext.yaml", "global_batch: 16", "globl_batch: 16", "globl_batch: unknown key; did you mean 'global_batch'?"),
    ("pretext.yaml", "mask_ratio: 0.6", "mask_rato: 0.6", "options.mask_rato: unknown key"),
    ("pretext.yaml", "decay: cosine", "decays: cosine", "phases.0.decays: unknown key; did you mean 'decay'?"),
    ("tables.yaml", "recipe: amaes", "recipe: amas", "no entry 'amas' in 'finetune'"),
    ("studies/amaes.yaml", "folds: 6", "fold: 6", "unknown key 'fold'"),
    ("preprocess.yaml", "crop: nonzero", "crop: nonzero\n    crop: none", "key 'crop' is given twice"),
    ("finetune.yaml", "lr: 1.0e-4", "lr: '1,0e-4'", "phases.0.lr: '1,0e-4' is not a number; write it as 0.5 or 1.0e-4"),
    ("finetune.yaml", "lr: 1.0e-4", "lr: fast", "phases.0.lr: 'fast' is not a number; write it as 0.5 or 1.0e-4"),
    ("finetune.yaml", "lr: 1.0e-4", "lr: yes", "phases.0: 'lr' cannot be true or false"),
    ("finetune.yaml", "steps: 2500", "steps: 2.5k", "phases.0.steps: '2.5k' is not a whole number; write it as 1000"),
    ("pretext.yaml", "mask_ratio: 0.6", "mask_ratio: much", "options.mask_ratio: 'much' is not a number"),
]


@pytest.mark.parametrize(("file", "old", "new", "words"), MISTAKES)
def test_29_a_mistake_in_a_config_names_file_key_and_fix(config_dir, tmp_path, capsys, file, old, new, words):
    before = (config_dir / file).read_text()
    edit(config_dir / file, old, new)
    assert reads(config_dir, tmp_path) == 2
    said = capsys.readouterr().err
    assert words in said and "  where: " in said and "  fix: " in said and (file in said or "tables.table" in said), said
    (config_dir / file).write_text(before)
    assert reads(config_dir, tmp_path) == 2 and "none.tsv" in capsys.readouterr().err  # only the scores are missing now


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "'1e-4'", "10e-5", "1.0e-4", ".0001"])
def test_29_a_number_is_a_number_however_it_is_written(config_dir, text):
    """YAML 1.1 reads 1e-4 as text."""
    edit(config_dir / "finetune.yaml", "lr: 1.0e-4", f"lr: {text}")
    edit(config_dir / "finetune.yaml", "steps: 2500", "steps: 25e2")
    edit(config_dir / "pretext.yaml", "mask_ratio: 0.6", "mask_ratio: 6e-1")
    assert config.load(config_dir) == config.load(ROOT / "config", {"study": "amaes"})


def test_29_a_mistyped_key_stops_snakemake_before_any_job(tmp_path):
    workflow = workflow_fixture.copy(tmp_path)
    edit(workflow.study, "global_batch: 2", "globalbatch: 2")
    said = workflow.snakemake(check=False)
    assert "unknown key; did you mean 'global_batch'?" in said and "tiny.yaml: pretexts.amaes_tiny" in said
    assert not workflow.results.exists()


# ------------------------------------------------------------------------------------------------ 73


def test_73_braces_in_any_text_of_a_config_are_planned_as_they_are(tmp_path):
    """tests/workflow/test_own_data.py runs the same study from the folders of its data to its table."""
    workflow = own_data.make(tmp_path)
    jobs = workflow.planned("--config", "study=own")
    assert {"fetch": 3, "shard": 3, "finetune": 2, "ood": 2, "licences": 1, "table": 1}.items() <= jobs.items()


# ------------------------------------------------------------------------------------------------ 74


def test_74_a_placeholder_in_a_profile_is_refused_before_the_first_job(tmp_path):
    workflow = workflow_fixture.copy(tmp_path)
    said = workflow.snakemake("-n", profile="slurm", check=False)
    place = f"{tmp_path / 'slurm' / 'config.yaml'}:4"
    assert "slurm_account: 'your_account' is a placeholder" in said and place in said and "slurm/README.md says how" in said
    edit(tmp_path / "slurm" / "config.yaml", "your_account", "brains")
    assert workflow.snakemake("-n", profile="slurm").count("rule finetune:") == 4


@pytest.mark.parametrize(
    "value", ["your_partition", "<account>", "<your account>", "my-account", "CHANGEME", "TODO", "account_name"]
)
def test_74_placeholders_of_every_form_are_named_with_file_and_line(tmp_path, value):
    (tmp_path / "mine").mkdir()
    profile = tmp_path / "mine" / "config.yaml"
    profile.write_text(f"set-resources:\n  pretrain:\n    gpu_model: h100\n    qos: '{value}'\n")
    with pytest.raises(UserError, match=rf"qos: '{value}' is a placeholder\n.*{profile}:4\n"):
        profiles.refuse_placeholders([("gpu_model", "h100"), ("qos", value)], [tmp_path])


@pytest.mark.parametrize(
    "value", ["def-smith", "gpu", "a100_80gb", "exec slurm/launch.sh", "--signal=USR1@300", "srun", "", "mylab"]
)
def test_74_values_of_a_site_are_no_placeholders(value):
    profiles.refuse_placeholders([("slurm_account", value)], [])


# ------------------------------------------------------------------------------------------------ 72

IMPOSSIBLE = [
    ("preprocess: coarse_4mm\n    val_fraction", "preprocess: amaes\n    val_fraction",
     "the encoder 'amaes_tiny-on-tiny_unlabelled' is of volumes with spacing_mm [1.0, 1.0, 1.0] (preprocess: amaes)",
     "tiny.yaml: tasks.tissue.preprocess"),
    ("sequences: [T1w]\n    subsets: [train]", "sequences: [FLAIR]\n    subsets: [train]",
     "the data set 'phantom_tiny' has no sequences FLAIR", "tiny.yaml: tasks.tissue.sequences"),
    ("subsets: [unlabelled]}]", "sequences: [T2w]}]",
     "the data set 'phantom_tiny' has no sequences T2w", "tiny.yaml: corpora.tiny_unlabelled.sources.0.sequences"),
    ("subsets: [train]", "subsets: [trian]", "the data set 'phantom_tiny' has no subsets trian", "did you mean 'train'?"),
    ("lesion: [3]}", "lesion: [7]}", "label values that the data set 'phantom_tiny' does not have: 7", "tasks.tissue"),
    ("spacing_mm: [4, 4, 4]}", "spacing_mm: [4, 4, 4], session: [T1w, FLAIR]}",
     "the recipe stores the sequences T1w, FLAIR together, task 'tissue' reads T1w", "tiny.yaml: tasks.tissue.preprocess: coarse_4mm"),
    ("    precision: bf16-mixed\n", "    precision: bf16-mixed\n    stem: random\n",
     "task 'tissue' reads one sequence, as the encoder 'amaes_tiny-on-tiny_unlabelled' does", "tiny.yaml: finetune.tiny.stem: random"),
    ("spacing_mm: [4, 4, 4]}", "spacing_mm: [4, 4, 4], atlas: no/such/atlas.nii.gz}", "there is no such file",
     "tiny.yaml: preprocess.coarse_4mm.atlas: no/such/atlas.nii.gz"),
    ("    dataset: phantom_tiny\n", "    dataset: fomo60k\n", "the data set 'fomo60k' has no ", "tiny.yaml: tasks.tissue"),
]  # fmt: skip


@pytest.fixture(scope="module")
def tiny_config(tmp_path_factory):
    return workflow_fixture.copy(tmp_path_factory.mktemp("impossible"))


@pytest.mark.parametrize(("old", "new", "problem", "place"), IMPOSSIBLE)
def test_72_what_the_plan_shows_to_be_impossible_is_refused(tiny_config, old, new, problem, place):
    before = tiny_config.study.read_text()
    folder = tiny_config.root / "config"
    edit(tiny_config.study, old, new)
    try:
        with pytest.raises(UserError) as caught:
            tables.make(config.load(folder, {"study": "tiny"}))
    finally:
        tiny_config.study.write_text(before)
    assert problem in str(caught.value) and place in str(caught.value) and "fix:" in str(caught.value)
    tables.make(config.load(folder, {"study": "tiny"}))


def test_72_a_random_stem_that_no_phase_trains_is_refused(tiny_config):
    before = tiny_config.study.read_text()
    edit(tiny_config.study, "    sequences: [T1w]\n    subsets", "    sequences: [T1w, FLAIR]\n    subsets")
    edit(tiny_config.study, "sequences: [T1w], grid", "sequences: [T1w, FLAIR], grid")
    edit(tiny_config.study, "    precision: bf16-mixed\n", "    precision: bf16-mixed\n    stem: random\n")
    folder = tiny_config.root / "config"
    try:
        tables.make(config.load(folder, {"study": "tiny"}))
        edit(tiny_config.study, "decay: cosine}]\n    precision", "decay: cosine, train: all_but_stem}]\n    precision")
        with pytest.raises(UserError, match="starts at random, and no phase trains it") as caught:
            tables.make(config.load(folder, {"study": "tiny"}))
    finally:
        tiny_config.study.write_text(before)
    assert "finetune.tiny.stem: random" in str(caught.value)


def test_72_an_encoder_that_others_published_fits_the_task_or_is_refused(tiny_config):
    before = tiny_config.study.read_text()
    edit(tiny_config.study, "init: [scratch, amaes_tiny]", "init: scratch}\n      - {backbone: unet_b, init: amaes_released")
    edit(
        tiny_config.study,
        "    patch_size: [16, 16, 16]\n    phases: [{steps",
        "    patch_size: [32, 32, 32]\n    phases: [{steps",
    )
    try:
        with pytest.raises(UserError, match=r"'amaes_released' is of volumes with spacing_mm \[1.0, 1.0, 1.0\]") as caught:
            tables.make(config.load(tiny_config.root / "config", {"study": "tiny"}))
    finally:
        tiny_config.study.write_text(before)
    assert "config/weights.yaml: weights.amaes_released.preprocess" in str(caught.value)


def test_72_an_index_without_the_sequence_or_with_too_few_subjects_is_refused(tiny_config, tmp_path):
    plan = tables.make(config.load(tiny_config.root / "config", {"study": "tiny"}))
    index, columns = tmp_path / "index.tsv", "volume\tsubject\tpatient\tsession\tsequence\tsubset\tsite\tpath\tlabel"
    for sequence, words in (("T2w", "has no sequences T1w"), ("T1w", "n_train is 2, but the pool has 1 subjects")):
        rows = [f"{s}\t{s}\t{s}\t\t{sequence}\ttrain\t\t{s}.nii.gz\t{s}_dseg.nii.gz" for s in ("a", "b")]
        index.write_text("\n".join([columns, *rows]) + "\n")
        with pytest.raises(UserError, match=words) as caught:
            existing.check_split(plan, "tissue", tmp_path / "subjects.json", index)
        assert "config/studies/tiny.yaml: tasks.tissue" in str(caught.value)
    existing.check_split(plan, "tissue", tmp_path / "subjects.json", tmp_path / "no.tsv")


def test_72_a_test_set_that_will_be_empty_is_refused_before_anything_ran_with_a_seed_that_works(tmp_path):
    """Three subjects, each drawn by itself: the names of the raw files show that nobody is drawn, before there is an index."""
    workflow = own_data.make(tmp_path)
    edit(
        workflow.root / "config/studies/own.yaml",
        "split: {kind: kfold, k: 3, seed: 6}",
        "split: {test_fraction: 0.3, block: 2, seed: 5}",
    )
    said = workflow.snakemake("-n", "--config", "study=own", check=False)
    assert "the cohort 'test' has no subjects" in said
    assert re.search(r"where: \S*own\.yaml: tasks\.own_csv, \S*data/own_csv\n", said), said
    seed = int(re.search(r"set 'seed: (\d+)' in the split of the task, which gives a pool of 2 and a test set of 1", said)[1])
    pool, test = splits.draw_by_hash({f"s{{{name}}}": f"s{{{name}}}" for name in own_data.SUBJECTS}, 0.3, seed)
    assert len(pool) == 2 and len(test) == 1


def test_72_another_seed_than_that_of_a_split_is_judged_by_the_index(tiny_config, tmp_path):
    """Whoever follows the advice to take another seed is not held to the split of the former one."""
    plan = tables.make(config.load(tiny_config.root / "config", {"study": "tiny"}))
    made, index = tmp_path / "subjects.json", tmp_path / "no.tsv"
    for seed, refused in ((0, True), (1, False)):
        write_json(made, {"dataset": "phantom_tiny", "draw": "shuffle", "seed": seed, "pool": ["a", "b"], "test": []})
        with pytest.raises(UserError, match="'test' has no subjects") if refused else nullcontext():
            existing.check_split(plan, "tissue", made, index)


def test_72_a_patch_larger_than_every_stored_volume_is_refused(tiny_config, tmp_path):
    plan, volumes = tables.make(config.load(tiny_config.root / "config", {"study": "tiny"})), tmp_path / "volumes.tsv"
    volumes.write_text("volume\tstatus\tshape\na\tok\t12 15 10\nb\tok\t15 11 14\nc\trejected\t\n")
    with pytest.raises(UserError, match=r"patch 16x16x16 is larger than every stored volume .* 15x15x14") as caught:
        existing.check_patches(plan, "phantom_tiny", "coarse_4mm", volumes)
    assert ".patch_size" in str(caught.value) and "config/studies/tiny.yaml: finetune.tiny" in str(caught.value)
    volumes.write_text("volume\tstatus\tshape\na\tok\t12 15 10\nb\tok\t15 16 14\n")
    existing.check_patches(plan, "phantom_tiny", "coarse_4mm", volumes)


def test_72_devices_and_precisions_that_a_training_would_refuse_are_refused(tiny_config):
    before = tiny_config.study.read_text()
    plan = tables.make(config.load(tiny_config.root / "config", {"study": "tiny"}))
    checks.check_machine(plan, "pretrain", 2, 2, has_gpu=True)
    for devices, nodes, words in (
        (3, 1, "global_batch 2 cannot be divided by the 3 devices"),
        (3, 2, "cannot be spread over 2 nodes"),
    ):
        with pytest.raises(UserError, match=words):
            checks.check_machine(plan, "pretrain", devices, nodes, has_gpu=True)
    for new, words in (
        ("16-mixed", "16-mixed needs a GPU"),
        ("bf16-mixed", "bf16 on a CPU is wrong for a coarsest feature map of 2"),
    ):
        edit(tiny_config.study, "precision: bf16-mixed", f"precision: {new}")
        edit(
            tiny_config.study,
            "    patch_size: [16, 16, 16]\n    phases: [{steps",
            "    patch_size: [8, 16, 16]\n    phases: [{steps",
        )
        plan = tables.make(config.load(tiny_config.root / "config", {"study": "tiny"}))
        tiny_config.study.write_text(before)
        with pytest.raises(UserError, match=words) as caught:
            checks.check_machine(plan, "finetune", 1, 1, has_gpu=False)
        assert "config/studies/tiny.yaml: finetune.tiny.precision" in str(caught.value)
        checks.check_machine(plan, "finetune", 1, 1, has_gpu=True)


def test_72_a_run_says_so_before_its_first_job(tiny_config):
    """On the computer of the profile, here without a GPU; a dry run is for every computer."""
    before = tiny_config.study.read_text()
    edit(tiny_config.study, "precision: bf16-mixed", "precision: 16-mixed")
    try:
        assert tiny_config.planned()["finetune"] == 4
        said = tiny_config.snakemake(check=False, CUDA_VISIBLE_DEVICES="")
    finally:
        tiny_config.study.write_text(before)
    assert "precision 16-mixed needs a GPU" in said and "config/studies/tiny.yaml: finetune.tiny.precision" in said
    assert not (tiny_config.root / "results" / "data").exists()

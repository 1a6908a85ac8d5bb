"""Faults 30, 31, 51, 52, 68 and 69: the workflow after an edit, in an odd place, after a jump of the clock, without a home, with jobs that
wait while the study is edited, and after a look for changed files."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

import tiny
import workflow_fixture
from brainpretrain import cli
from brainpretrain.files import read_json, read_tsv
from helpers import ROOT, edit


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished study, to be changed."""
    return type(finished)(Path(shutil.copytree(finished.root, tmp_path / "copy", symlinks=True)))


# ------------------------------------------------------------------------------------------------ 30


def test_30_a_note_runs_nothing_and_a_learning_rate_another_pretraining_beside_the_old(copied):
    encoder = "results/tiny/pretrain/tiny_unlabelled/amaes_tiny/unet_micro/encoder.safetensors"
    folder = (copied.root / encoder).parent
    old, run = (folder / "encoder.safetensors").read_bytes(), read_json(folder / "run.json")
    edit(copied.study, "  amaes_tiny: {like: amaes,", "  amaes_tiny: {like: amaes, note: tried first,")
    assert copied.planned() == {}
    edit(copied.study, "phases: [{epochs: 2, lr: 1.0e-3", "phases: [{epochs: 2, lr: 2e-3")
    said = copied.snakemake("-n", "--", encoder)
    assert "Params have changed since last execution" in said and '"lr": 0.001' in said and '"lr": 0.002' in said
    assert (folder / "encoder.safetensors").read_bytes() == old  # a dry run deletes nothing
    copied.snakemake("--", encoder)
    new = read_json(folder / "run.json")
    assert new["fingerprint"] != run["fingerprint"] and new["config"]["recipe"]["phases"][0]["lr"] == 0.002
    kept = folder / "runs" / run["fingerprint"]
    assert (kept / "encoder.safetensors").read_bytes() == old != (folder / "encoder.safetensors").read_bytes()
    assert read_json(kept / "run.json") == run
    names = {path.name for path in kept.iterdir()}
    assert {"encoder.json", "log.csv", "config.yaml", "history.jsonl", "reconstruction.npz"} < names


# ------------------------------------------------------------------------------------------------ 31

ODD = "a b'c\"d;touch PWNED;$(touch PWNED)#é."


def test_31_the_workflow_runs_in_a_folder_of_any_name(tmp_path):
    (tmp_path / ODD).mkdir()
    workflow = workflow_fixture.copy(tmp_path / ODD)
    edit(workflow.study, "{subjects: 5, unlabelled_subjects: 3,", "{subjects: 1, unlabelled_subjects: 1,")
    target = "results/data/phantom_tiny/coarse_4mm/shard001.tsv"
    root = "raw 'x';touch PWNED;."
    workflow.snakemake("--config", "study=tiny", f"data_root={root}", "--", target)
    assert set(read_tsv(workflow.root / target)["status"]) <= {"ok"}
    assert read_json(workflow.root / "results/data/phantom_tiny/source.json")["root"] == str(
        workflow.root / root / "phantom_tiny"
    )
    assert not list(tmp_path.rglob("PWNED*"))


def test_31_volumes_may_have_any_name(tmp_path, monkeypatch, capsys):
    """From the table that lists them to a stored volume, with its label."""
    root = tmp_path / ODD
    folder = root / "Philips_VU .PETMR_01."
    folder.mkdir(parents=True)
    image = np.random.default_rng(0).integers(1, 200, (16, 16, 16)).astype(np.int16)
    for name, array in (("T1 'w';touch PWNED;.nii.gz", image), ('läbel "1".nii.gz', (image > 150).astype(np.uint8))):
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / name)
    row = ["Jö s'1;", "T1w", f"{folder.name}/T1 'w';touch PWNED;.nii.gz", f'{folder.name}/läbel ""1"".nii.gz']
    (root / "list.csv").write_text("subject,sequence,path,label\n" + ",".join(f'"{cell}"' for cell in row) + "\n")
    monkeypatch.chdir(tmp_path)
    options, index, out = json.dumps({"file": "list.csv"}), tmp_path / "index.tsv", tmp_path / ODD / "stored" / "shard000.tsv"
    line = ["index", "--dataset", "csv", "--root", str(root), "--options", options, "--out", str(index)]
    assert cli.main(line) == 0
    recipe = json.dumps(tiny.PREPROCESS)
    line = ["shard", "--index", str(index), "--root", str(root), "--recipe", recipe, "--shard", "0", "--n-shards", "1"]
    assert cli.main([*line, "--max-rejected", "0", "--out", str(out)]) == 0
    (stored,) = read_tsv(out).to_dict("records")
    assert (stored["status"], stored["subject"]) == ("ok", "Jö s'1;") and (out.parent / stored["label_file"]).exists()
    assert not list(tmp_path.rglob("PWNED*"))


# ------------------------------------------------------------------------------------------------ 51

SCORED_AGAIN = {"evaluate", "scores", "table", "plot_cases", "plot_costs", "plot_overlays"}


def set_times(root: Path, seconds: float, *, but: str = "") -> None:
    """All files and folders of a workflow get one time, those below `but` another day."""
    for path in [*root.rglob("*")]:
        if ".snakemake" not in path.parts and not path.is_symlink():
            later = 86400 if but and path.is_relative_to(root / but) else 0
            os.utime(path, (seconds + later, seconds + later))


def test_51_times_alone_train_nothing_again(copied):
    """A clock that jumped ahead or back, a copy without its times: contents are compared."""
    for at in (1e8, 4e9):  # 1973 and 2096
        for newer in ("config", "data", "results/data", "results/tiny/corpora", "results/tiny/pretrain"):
            set_times(copied.root, at, but=newer)
        assert copied.planned() == {}
    set_times(copied.root, 1e9, but="results/tiny/finetune")
    assert copied.planned() == {"plot_overlays": 2}  # pictures of folders, which have no checksum


def test_51_a_folder_of_predictions_has_no_checksum_and_is_scored_again_at_most(copied):
    for path in copied.results.glob("finetune/**/predictions/*"):
        os.utime(path, (4e9, 4e9))
        os.utime(path.parent, (4e9, 4e9))
    jobs = copied.planned()
    assert set(jobs) <= SCORED_AGAIN and jobs["evaluate"] == 4


def test_51_the_profiles_compare_files_of_any_size(copied):
    (copied.root / "results/tiny/splits/tissue/fold0.json").touch()
    assert "finetune" in copied.planned("--max-checksum-file-size", "10") and copied.planned() == {}
    for profile in ("local", "workstation", "slurm"):
        assert yaml.safe_load((ROOT / profile / "config.yaml").read_text())["max-checksum-file-size"] >= 10**11


# ------------------------------------------------------------------------------------------------ 52


def test_52_a_read_only_tree_no_home_and_no_network_are_enough(copied):
    """From a raw volume to scores. The administrator may write everywhere, so what lies in the tree is compared as well."""
    data, nowhere = copied.root / "data", "/dev/null/home"
    paths = [data, *data.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    before = {path: path.stat().st_mtime_ns for path in paths}
    fold = "results/tiny/finetune/tissue/unet_micro/scratch/tiny/n2/fold0"
    offline = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    shard, target = "results/data/phantom_tiny/coarse_4mm/shard000.tsv", f"{fold}/test/scores.tsv"
    scores, rows = (copied.root / target).read_bytes(), read_tsv(copied.root / shard)
    for file in rows["file"]:
        (copied.root / shard).with_name("volumes").joinpath(Path(file).name).unlink()
    try:
        said = copied.snakemake("--forcerun", shard, "--", target, HOME=nowhere, XDG_CACHE_HOME="", MPLCONFIGDIR="", **offline)
    finally:
        for path in paths:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
    assert all(f"(Rule: {rule})" in said for rule in ("shard", "finetune", "predict_cohort", "evaluate"))
    assert len(rows) >= 1 and (copied.root / target).read_bytes() == scores
    assert {path: path.stat().st_mtime_ns for path in [data, *data.rglob("*")]} == before


# ------------------------------------------------------------------------------------------------ 68


def on_a_node(workflow, *settings: str) -> str:
    """Runs the job of one fold as a node of a cluster does, by the line that Snakemake submits, and returns what it says."""
    line = [sys.executable, "-m", "snakemake", "--snakefile", "Snakefile", "--target-jobs", "fold:task=tissue,fold=5"]
    line += ["--allowed-rules", "fold", "--local-groupid", "local", "--cores", "1", "--force", "--nolock", "--ignore-incomplete"]
    line += [
        "--target-files-omit-workdir-adjustment",
        "--config",
        "study=tiny",
        *settings,
        "--directory",
        ".",
        "--mode",
        "remote",
    ]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
    }
    done = subprocess.run(line, cwd=workflow.root, env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_68_a_job_that_waited_while_the_study_was_edited_runs_as_it_was_submitted(copied):
    (folder,) = (copied.root / ".snakemake" / "brainpretrain").iterdir()
    edit(copied.study, "block: 2", "block: 3")
    edit(copied.root / "config" / "config.yaml", "study: amaes", "study: demo")
    log = copied.results / "logs/fold/tissue/5.log"
    on_a_node(copied, f"submitted={folder.name}")
    assert " --fold 5 --block 2 " in log.read_text().splitlines()[0]
    log.unlink()
    said = on_a_node(copied)
    assert "does not say which settings it was submitted with" in said and "same snakemake command again" in said
    edit(folder / "studies" / "tiny.yaml", "block: 2", "block: 4")
    assert "submitted with were changed" in on_a_node(copied, f"submitted={folder.name}")
    shutil.rmtree(folder)
    assert "submitted with are gone" in on_a_node(copied, f"submitted={folder.name}")
    assert not log.exists()


# ------------------------------------------------------------------------------------------------ 69


def test_69_a_forced_look_at_unchanged_files_runs_nothing(copied):
    files = [path for path in (copied.root / "results").rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    for image in (copied.root / "data").rglob("*.nii.gz"):
        os.utime(image, (1e9, 1e9))
    said = copied.snakemake("--forcerun", "fetch")
    assert "phantom_tiny: its files are those on record" in said and "Nothing to be done" in said
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert copied.planned("--forcerun", "index", "results/data/phantom_tiny/source.json") == {}


def test_69_a_forced_look_finds_files_that_changed(copied):
    """A file that nothing uses is none; one of the same size with other content is one, and all that depends on it is planned."""
    (copied.root / "data/phantom_tiny/notes.txt").write_text("unused")
    assert copied.planned("--forcerun", "fetch") == {}
    copied.snakemake("--forcerun", "fetch")
    assert "notes.txt" in (copied.root / "results/data/phantom_tiny/source.json").read_text() and copied.planned() == {}
    image = copied.root / "data/phantom_tiny/sub-001/anat/sub-001_T1w.nii.gz"
    content = image.read_bytes()
    image.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    said = copied.snakemake("-n", "--forcerun", "fetch")
    assert "1 file changed since volumes were stored, the first: sub-001/anat/sub-001_T1w.nii.gz" in said
    assert all(f"rule {name}:" in said for name in ("fetch", "index", "shard", "finetune"))

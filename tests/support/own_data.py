"""A study on own data of every kind (BIDS, nnU-Net, a table), made for tests: tiny volumes, and braces in all text of its config."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

import workflow_fixture

STUDY = r"""
title: "Own {data}: {3}"
seed: 0
folds: 1
protocol: free
build: [own]
datasets:
  own_bids:
    module: bids
    options:
      sequences: {T1w: T1w}
      label: "{top}derivatives/lesions/{subject}/{stem}_mask"
      labels: {7: "lesion {x}"}
      licence: "ours {y}"
  own_nnunet:
    module: nnunet
    options: {sequences: [T1w], case: "(?P<subject>p[0-9]{3})", labels: {1: "lesion {x}"}, citation: "{BraTS} 2021"}
  own_csv: {module: csv, options: {file: "list {x}.csv", labels: {4: "lesion {x}"}}}
preprocess:
  coarse_4mm: {like: amaes, spacing_mm: [4, 4, 4]}
tasks:
  own_csv:
    note: "{note}"
    dataset: own_csv
    sequences: [T1w]
    labels: {"lesion {x}": [4]}
    nsd_tolerance_mm: 4
    preprocess: coarse_4mm
    split: {kind: kfold, k: 3, seed: 6}  # of which the study runs one fold
  own_nnunet:
    like: own_csv
    dataset: own_nnunet
    split: {kind: fraction, k: null, test_fraction: 0.3, block: 2}  # with the seed of one test subject of three
    labels: {"lesion {x}": [1]}
    cohorts:  # the two others, whose label files have other values
      site_b: {dataset: own_bids, labels: {"lesion {x}": [7]}}
      site_c: {dataset: own_csv, labels: {"lesion {x}": [4]}}
backbones:
  unet_micro: {like: unet_tiny, options: {width: 4, levels: 3}}
finetune:
  tiny:
    like: amaes
    patch_size: [16, 16, 16]
    phases: [{steps: 2, lr: 1.0e-3, decay: cosine}]
    validation: {subjects: 1, patches: 2, every_steps: 1}
    select: best
    log_every_steps: 1
    precision: 32-true
    inference: {batch: 4}
tables:
  own:
    title: "Own {table}"
    columns:
      - {title: "nnunet {x}", task: own_nnunet, cohort: test}
      - {title: "csv {x}", task: own_csv, cohort: test}
      - {title: "bids {x}", task: own_nnunet, cohort: site_b}
      - {title: "nnunet to csv {x}", task: own_nnunet, cohort: site_c}
    corpus: brains45k
    recipe: tiny
    n_train: 2
    rows:
      - {title: "{3} of {input}", backbone: unet_micro}
      - {title: "Other {program}", init: {external: "data/other {x}/{dataset}", labels: {"lesion {x}": [9]}}, baseline: "{3} of {input}"}
"""
TARGETS = [f"results/own/{name}" for name in ("tables/own.md", "licences.tsv", "scores.tsv", "figures/own_validation.svg")]
SUBJECTS = ("001", "002", "003")


def volume(path: Path, subject: str, label: int = 0) -> None:
    """A head of 20 voxels of 4 mm, with a bright cube that is the lesion; or its label file, in which the lesion has this value."""
    grid = np.indices((20, 20, 20)) - 9.5
    head = (grid**2).sum(0) < 80
    cube = (np.abs(grid - (int(subject) - 2)) < 2.5).all(0)
    noise = np.random.default_rng(int(subject)).integers(0, 20, head.shape)
    array = label * cube.astype(np.uint8) if label else ((100 + noise + 80 * cube) * head).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([4, 4, 4, 1])), path)


def raw(data: Path) -> None:
    """The raw files of the three data sets."""
    lines = ["subject,sequence,path,label"]
    for subject in SUBJECTS:
        volume(data / f"own_bids/sub-{subject}/anat/sub-{subject}_T1w.nii.gz", subject)
        volume(data / f"own_bids/derivatives/lesions/sub-{subject}/sub-{subject}_mask.nii.gz", subject, label=7)
        volume(data / f"own_nnunet/imagesTr/p{subject}_0000.nii.gz", subject)
        volume(data / f"own_nnunet/labelsTr/p{subject}.nii.gz", subject, label=1)
        image, mask = f"scans {{x}}/{subject}.nii.gz", f"masks {{x}}/{subject}.nii.gz"
        volume(data / "own_csv" / image, subject)
        volume(data / "own_csv" / mask, subject, label=4)
        for dataset, name in (("bids", f"sub-{subject}"), ("nnunet", f"p{subject}"), ("csv", f"s{{{subject}}}")):
            volume(data / f"other {{x}}/own_{dataset}/{name}_seg.nii.gz", subject, label=9)  # another program, which is right
        lines.append(f"s{{{subject}}},T1w,{image},{mask}")
    (data / "own_csv" / "list {x}.csv").write_text("\n".join(lines) + "\n")


def make(root: Path) -> workflow_fixture.Workflow:
    """The study in a folder of its own, not yet run."""
    workflow = workflow_fixture.copy(root)
    workflow.study.with_name("own.yaml").write_text(STUDY)
    raw(root / "data")
    return workflow
